"""What an earlier start of a run decided about its data: a later version may split and choose differently, the run goes on."""

from typing import Any, Final

from trainer.config import TrainConfig
from trainer.data.dicom import FULL_BITS
from trainer.data.labels import SPLITS
from trainer.errors import InputError
from trainer.formats import spreadsheet, tables
from trainer.formats.documents import run_record
from trainer.layout import SPLIT
from trainer.limits import TEXT_BYTES
from trainer.runs.manifest import committed
from trainer.runs.record import positive_class
from trainer.storage import AbsentError, Storage

_SAME_SPLIT: Final = ("split", "val_list")
"""Settings that must be as they were for the recorded split to be used."""


def decisions(storage: Storage, config: TrainConfig) -> dict[str, Any]:
    """Decisions of the run at this prefix, which `config` resumes; empty for a new run, and for one without a checkpoint.

    `split` is the split of each image, None where another is requested now; `findings` the outputs of the network;
    `positive_class` that of a single-label run; `gray_range` the value of `--gray-range` that gives the same images, None
    where there are no 16-bit ones.

    Raises: InputError for a damaged record; RemoteError.
    """
    record = run_record(storage) if committed(storage) else None
    if record is None:
        return {}
    recorded = record.get("config", {})
    is_same = all(recorded.get(field) == getattr(config, field) for field in _SAME_SPLIT)
    bits = record.get("gray_bits", FULL_BITS)
    return {
        "split": split_by_image(storage) if is_same else None,
        "findings": record.get("identity", {}).get("findings"),
        "positive_class": positive_class(record, storage.url),
        "gray_range": None if bits is None else "full" if bits == FULL_BITS else str(bits),
    }


def split_by_image(storage: Storage) -> dict[str, str] | None:
    """Split of each image of a run, from its `split.csv.gz`; None without one. Raises: InputError for a damaged one."""
    where = f"{storage.url.rstrip('/')}/{SPLIT}"
    try:
        content = tables.unpacked(storage.read(SPLIT, most_bytes=TEXT_BYTES), SPLIT)
        rows = [row for _, row in tables.rows(content)][1:]
    except AbsentError:
        return None
    except ValueError as problem:
        raise InputError(f"cannot read `{where}`: it is damaged: {problem}", hint="download it again") from problem
    if any(len(row) != 2 or row[1] not in SPLITS for row in rows):
        raise InputError(f"cannot read `{where}`: it is not a table of images and splits", hint="download it again")
    return {spreadsheet.read(image): split for image, split in rows}
