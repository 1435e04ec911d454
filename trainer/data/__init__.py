"""Data sets: labels, splits, decoded images, batches, and augmentation on the device."""
