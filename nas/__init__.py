"""How spaces are searched: data, brief training, the study, workers, and the commands. See README.md."""
