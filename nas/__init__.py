"""How spaces are searched: data, brief training, the study, workers, and the commands. See README.md."""

import os

# CPU threads that wait for each other sleep: spinning, all wait for the one whose core another program has (measured:
# 7 times the CPU time). OpenMP reads this when torch is first imported; what a user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
