"""Milliseconds: networks and layers timed on this machine's device."""
