"""What an earlier start of a run decided about its data: a later version may split and choose differently, the run goes on."""

from typing import Any, Final

from trainer.config import TrainConfig
from trainer.data.dicom import FULL_BITS
from trainer.formats.documents import run_record
from trainer.models.load import split_by_image
from trainer.runs.manifest import committed
from trainer.storage import open_storage

RETRY_S: Final = 180.0
"""How long requests to an unavailable bucket are retried."""

_SAME_SPLIT: Final = ("split", "val_list")
"""Settings that must be as they were for the recorded split to be used."""


def decisions(config: TrainConfig) -> dict[str, Any] | None:
    """Decisions of the run that `config` resumes; None for a new run, and for one without a checkpoint.

    `split` is the split of each image, None where another is requested now; `findings` the outputs of the network;
    `gray_range` the value of `--gray-range` that gives the same images, None where there are no 16-bit ones.

    Raises: InputError for a damaged record; RemoteError.
    """
    storage = open_storage(f"{config.output.rstrip('/')}/{config.name}", patience_s=RETRY_S)
    record = run_record(storage) if committed(storage) else None
    if record is None:
        return None
    recorded = record.get("config", {})
    is_same = all(recorded.get(field) == getattr(config, field) for field in _SAME_SPLIT)
    bits = record.get("gray_bits", FULL_BITS)
    return {
        "split": split_by_image(storage) if is_same else None,
        "findings": record.get("identity", {}).get("findings"),
        "gray_range": None if bits is None else "full" if bits == FULL_BITS else str(bits),
    }
