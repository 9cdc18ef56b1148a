"""Data: tfds builders, splits, leaks, colour, augmentation and the pipeline."""
