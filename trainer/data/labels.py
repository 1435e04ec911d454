"""The 14 findings, the table of labels that every command works on, splits that keep patients apart, and prevalence.

Shapes: N image, P patient, K finding, S part of a split.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, on_one_line

FINDINGS: Final[tuple[str, ...]] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The labels of ChestX-ray14, in the order of the published label lists."""

SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Which image shows what, whose it is and what it is used for, one row per image."""

    findings: tuple[str, ...]
    """Names of the K labels: the 14, or the classes of a data set in folders."""

    images: tuple[str, ...]
    """Names of the N images as the data set gives them, each once."""

    patients_N: NDArray[np.int64]
    """Group numbers 0, 1, 2 … in place of patient ids, so that no id is kept or passed on."""

    labels_NK: NDArray[np.uint8]
    """1 where the image has the finding."""

    split_N: NDArray[np.int8]
    """Position in SPLITS, -1 for an image that is in none."""

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Positions of one split's images, in the order of the table."""
        return np.flatnonzero(self.split_N == SPLITS.index(split)).astype(np.int64)

    def used(self) -> "LabelTable":
        """The table without the rows that are in no split."""
        used = np.flatnonzero(self.split_N >= 0)
        return LabelTable(
            findings=self.findings,
            images=tuple(self.images[row] for row in used.tolist()),
            patients_N=self.patients_N[used],
            labels_NK=self.labels_NK[used],
            split_N=self.split_N[used],
        )

    def check_classes(self) -> None:
        """Raises: InputError when not every image has exactly one of at least two labels."""
        if len(self.findings) < 2:
            raise InputError(
                f"cannot train `--loss cross_entropy`: it chooses one class of several, and there is only `{', '.join(self.findings)}`",
                hint="--loss bce",
            )
        odd = np.flatnonzero(self.labels_NK.sum(axis=1) != 1)
        if len(odd):
            raise InputError(
                f"cannot train `--loss cross_entropy`: it is for images of one class each, and {len(odd):,} of {len(self):,} "
                f"have several labels or none, the first is `{on_one_line(self.images[odd[0]])}`",
                hint="--loss bce learns each label by itself; --preset pneumonia is for a data set of one folder per class",
            )

    def split_sha256(self) -> str:
        """Hash of which image is in which split, the same whatever the order of the rows."""
        lines = (
            f"{name}\0{part}\n" for name, part in zip(self.images, self.split_N.tolist(), strict=True) if part >= 0
        )
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def labels_sha256(self) -> str:
        """Hash of the findings of every image, in a split or not, the same whatever the order of the rows."""
        lines = (
            f"{name}\0{labels.tobytes().hex()}\n" for name, labels in zip(self.images, self.labels_NK, strict=True)
        )
        return hashlib.sha256("\0".join([*self.findings, *sorted(lines)]).encode()).hexdigest()
