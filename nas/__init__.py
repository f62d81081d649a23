"""How spaces are searched: data, brief training, the study, workers, and the commands. See README.md."""

import os
import signal
import sys

# CPU threads that wait for each other sleep: spinning, all wait for the one whose core another program has (measured:
# 7 times the CPU time). OpenMP reads this when torch is first imported; what a user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# `python -m nas.search` imports for a second or two: Ctrl-C then ends it without a traceback. Only such a command has
# this argument here, and from where its work begins `searchspace.command` decides.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))
