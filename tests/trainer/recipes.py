"""Flags of trainings that take seconds."""

_TINY = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32"


def tiny(epochs, *more, batch="--batch-size 8", device="--device cpu"):
    """A tiny network on images of 32 pixels; `device=""` where the launcher names the device."""
    return [*_TINY.split(), *batch.split(), *device.split(), "--epochs", str(epochs), *more]


def later_wins(*words):
    """Flags with their values; of a flag that is given twice only the later one."""
    merged = dict(zip(words[::2], words[1::2], strict=True))
    return [word for pair in merged.items() for word in pair]


def placed(recipe, data, output, cache, name, *flags):
    """A recipe with the places of a run, and further flags, which take precedence."""
    places = ["--data", str(data), "--output", str(output), "--cache-dir", str(cache), "--name", name]
    return later_wins(*recipe, *places, *flags)
