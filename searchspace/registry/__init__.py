"""Blocks and costs of the user's own: what registers them, checks them, and loads the files that do."""
