"""Images as arrays: datasets, folders, decoding, splits. No torch."""
