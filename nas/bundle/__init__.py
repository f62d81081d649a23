"""A network to take home: a folder that needs nothing of this project, verified before it is there."""
