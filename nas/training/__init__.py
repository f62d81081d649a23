"""Training: batches, augmentation, recipes, process groups, checkpoints; scores without training."""
