"""A run: a search in a folder, from Python as from the command line; opened, carried on, reported, exported."""
