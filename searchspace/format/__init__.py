"""The file that people write: stages, a channel schedule, defaults of the papers; how it resolves to an `Arch`."""
