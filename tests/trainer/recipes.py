"""Flags of trainings that take seconds."""

_TINY = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --batch-size 8 --device cpu"


def tiny(epochs, *more):
    """A tiny network on images of 32 pixels."""
    return [*_TINY.split(), "--epochs", str(epochs), *more]
