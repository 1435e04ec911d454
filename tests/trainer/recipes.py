"""Flags of trainings that take seconds."""

_TINY = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32"


def tiny(epochs, *more, batch="--batch-size 8", device="--device cpu"):
    """A tiny network on images of 32 pixels; `device=""` where the launcher names the device."""
    return [*_TINY.split(), *batch.split(), *device.split(), "--epochs", str(epochs), *more]
