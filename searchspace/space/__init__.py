"""Spaces: what is free in a file, its points, their widths solved for a budget, and what of them fits."""
