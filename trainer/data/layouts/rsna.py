"""Layout `rsna`: the RSNA Pneumonia Detection Challenge (stage 2), a table with a row per box; its images are ChestX-ray14's.

Source: `stage_2_train_labels.csv` of the challenge on Kaggle (Shih et al. 2019, doi:10.1148/ryai.2019180041). Not tested on
the original: the mapping file that RSNA publishes beside it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trainer.data.label_cells import as_bytes
from trainer.data.label_files import Rows, cells_of
from trainer.data.labels import SPLITS
from trainer.data.layouts import whole_set
from trainer.data.layouts.files import optional_file, single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.data.patients import nih_patient
from trainer.errors import InputError, on_one_line
from trainer.formats import tables
from trainer.formats.tables import TableError
from trainer.limits import LimitError, parsed_json

REQUIRED: Final = ("stage_2_train_labels.csv",)
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ("patientId", "Target")
UNCERTAIN: Final = None
BLANK: Final = None

FINDINGS: Final = ("Pneumonia",)
"""`Target`: 1 where a radiologist found opacity that suggests pneumonia."""

MAPPING: Final = "pneumonia-challenge-dataset-mappings_2018.json"
"""From the challenge's names to ChestX-ray14's; RSNA publishes it."""

_NEW: Final = "subset_img_id"
_OLD: Final = "img_id"


def read(request: Request) -> RawSource:
    """The labels, with ChestX-ray14's patients where the mapping file is in the directory."""
    path = single_file(request.data, request.entries, REQUIRED[0])
    mapping = optional_file(request.data, request.entries, MAPPING)
    nih_names = {} if mapping is None else read_mapping(mapping)
    rows = Rows()
    targets = _targets(path, rows.problems)
    for image, target in targets.items():
        patient = nih_patient(nih_names.get(image, ""))
        labels = as_bytes([target.value])
        rows.add(target.where, image, patient, labels, SPLITS.index("train") if request.given else -1)
    known = {image: nih_names[image] for image in targets if image in nih_names}
    if mapping is not None and not known:
        rows.problems.append(f"{MAPPING}: it has none of the {len(targets):,} images of {path.name}")
    return RawSource(
        table=rows.table(request.data, FINDINGS),
        files=(path, *([] if mapping is None else [mapping])),
        carved=whole_set.shares(request),
        placement="stems",
        notes=(*whole_set.notes(request, by="patient" if known else "image"), _note(len(targets), len(known))),
        nih_names=known,
    )


@dataclass(frozen=True)
class _Target:
    """`Target` of an image, and its first row."""

    where: str
    value: int


def _targets(path: Path, problems: list[str]) -> dict[str, _Target]:
    """By image, in the order of the file; an image with several boxes has several rows."""
    targets: dict[str, _Target] = {}
    for where, (image, text) in cells_of(path, COLUMNS, problems):
        if not image or text not in {"0", "1"}:
            what = f"Target must be 0 or 1, got `{on_one_line(text)}`" if image else "patientId must not be empty"
            problems.append(f"{where}: {what}")
            continue
        first = targets.setdefault(plain(image), _Target(where, int(text)))
        if first.value != int(text):
            problems.append(f"{where}: `{on_one_line(image)}` has Target {text}, but {first.value} in {first.where}")
    return targets


def read_mapping(path: Path) -> dict[str, str]:
    """ChestX-ray14's name of each image. Raises: InputError for a file of another form."""
    try:
        document: Any = parsed_json(tables.content_of(path))
        pairs = ((entry[_NEW], entry[_OLD]) for entry in document)
        names = {new: plain(old) for new, old in pairs if isinstance(new, str) and isinstance(old, str)}
    except (OSError, LimitError, TableError, json.JSONDecodeError, TypeError, KeyError, ValueError) as problem:
        raise InputError(
            f"cannot read `{path}`: it is not a list with `{_NEW}` and `{_OLD}` of each image",
            hint=f"download {MAPPING} from RSNA again, or remove it",
        ) from problem
    return {new: old for new, old in names.items() if nih_patient(old)}


def _note(images: int, known: int) -> str:
    """Whether a model trained on ChestX-ray14 may be tested on these images."""
    if not known:
        return (
            f"these are images of ChestX-ray14 under new names: a model trained on it must not be tested on them; with {MAPPING} "
            "of RSNA in the directory, patients are known and compared; without it, each image counts as a patient of its own"
        )
    rest = f"; {images - known:,} are not in {MAPPING} and count as patients of their own" if known < images else ""
    return f"{known:,} of {images:,} images are identified as ChestX-ray14's by {MAPPING}, with their patients{rest}"
