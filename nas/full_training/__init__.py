"""Training one network in full, in a folder that it is carried on from."""
