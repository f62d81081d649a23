"""What networks are made of: primitive layers, blocks as trees of them, stem and head. Written once, as data."""
