"""Layout `vindr`: VinDr-CXR's training set as on Kaggle, a table with a row per box and reader; three readers an image.

Source: `train.csv` of the VinBigData challenge (Nguyen et al. 2022, doi:10.1038/s41597-022-01498-w).
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from trainer.data.label_cells import as_bytes
from trainer.data.label_files import Rows, cells_of
from trainer.data.labels import SPLITS
from trainer.data.layouts import whole_set
from trainer.data.layouts.files import single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.errors import on_one_line

REQUIRED: Final = ("train.csv",)
LABELS_ONLY: Final = REQUIRED
COLUMNS: Final = ("image_id", "class_name", "rad_id")
UNCERTAIN: Final = None
BLANK: Final = None

FINDINGS: Final = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Consolidation", "ILD", "Infiltration"),
    *("Lung Opacity", "Nodule/Mass", "Other lesion", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
    "Pulmonary fibrosis",
)
"""In the order of `class_id`."""

NO_FINDING: Final = "No finding"
"""Class 14, of readers who drew no box; read as a label only where `--findings` names it."""


@dataclass
class _Reading:
    """What readers found on one image."""

    where: str
    readers: set[str] = field(default_factory=set)
    found: set[tuple[str, str]] = field(default_factory=set)
    """Reader and class."""

    def shares(self, findings: tuple[str, ...]) -> list[float]:
        """Share of the readers with each finding."""
        votes = Counter(finding for _, finding in self.found)
        return [votes[finding] / len(self.readers) for finding in findings]


def read(request: Request) -> RawSource:
    """The labels: of each finding whether more than half of the readers found it, or the share of them who did."""
    path = single_file(request.data, request.entries, REQUIRED[0])
    findings = (*FINDINGS, *([NO_FINDING] if request.wants(NO_FINDING) else []))
    rows = Rows()
    readings: dict[str, _Reading] = {}
    known = {*FINDINGS, NO_FINDING}
    for where, (image, finding, reader) in cells_of(path, COLUMNS, rows.problems):
        if not image or not reader or finding not in known:
            what = (
                f"unknown class `{on_one_line(finding)}`"
                if image and reader
                else "image_id and rad_id must not be empty"
            )
            rows.problems.append(f"{where}: {what}")
            continue
        reading = readings.setdefault(plain(image), _Reading(where))
        reading.readers.add(reader)
        reading.found.add((reader, finding))
    is_mean = request.reading.readers == "mean"
    for image, reading in readings.items():
        shares = reading.shares(findings)
        labels = as_bytes(shares if is_mean else (share > 1 / 2 for share in shares))
        rows.add(reading.where, image, "", labels, SPLITS.index("train") if request.given else -1)
    return RawSource(
        table=rows.table(request.data, findings),
        files=(path,),
        carved=whole_set.shares(request),
        placement="stems",
        notes=(*whole_set.notes(request, by="image"), *_notes(readings, is_mean=is_mean)),
        split_findings=FINDINGS,
    )


def _notes(readings: dict[str, _Reading], *, is_mean: bool) -> tuple[str, ...]:
    disagreed = sum(
        any(0 < share < 1 for share in reading.shares((*FINDINGS, NO_FINDING))) for reading in readings.values()
    )
    rule = (
        "the share of readers is a soft label"
        if is_mean
        else "a finding is present if more than half of the readers found it"
    )
    return (
        f"readers disagree on {disagreed:,} of {len(readings):,} images: {rule} (--readers majority|mean)",
        "the table names no patients: each image counts as a patient of its own",
    )
