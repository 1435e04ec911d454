"""Memory format of a run: of weights, images and optimiser state.

Convolutions in another format sum in another order, so a run keeps the format it began with, as long as it stays on its kind of
device, and continues bit for bit.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch

from trainer.devices import Device
from trainer.errors import InputError
from trainer.formats.documents import shown
from trainer.layout import RUN

FORMATS: Final = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}
"""By their names in run.json."""


def format_to_use(record: Mapping[str, Any] | None, device: Device) -> str:
    """Name of the format for a start on this device; `record` is that of the run to continue, None for a new run.

    Raises: InputError for a record with an unknown format.
    """
    if record is None or record.get("device", device.name) != device.name:
        return name_of(device.memory_format)
    name = record.get("memory_format", name_of(device.unrecorded_memory_format))
    if name not in FORMATS:
        raise InputError(
            f"cannot resume the run: its memory format is `{shown(name)}` (from {RUN}), which is none of {', '.join(FORMATS)}",
            hint="resume it with the version that wrote it, or give another --name",
        )
    return str(name)


def name_of(memory_format: torch.memory_format) -> str:
    """Its name in run.json."""
    return next(name for name, each in FORMATS.items() if each == memory_format)
