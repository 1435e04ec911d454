"""The 14 findings and the table of labels, patients and splits.

Shapes: N images, K findings.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, listing, on_one_line

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

POSITIVE_FROM: Final = 0.5
"""Lowest fraction of readers for which an image counts as having a finding where only yes or no is possible: statistics, splits."""


MEAN: Final = "mean"
"""The row below those of the findings in tables of results, so no name of a finding."""


def check_finding_names(findings: Sequence[str], origin: str) -> None:
    """Check that findings have different printable names, of any letters; `origin` is where they come from.

    Raises: InputError with all names that cannot be used.
    """
    problems = [
        f"`{on_one_line(name)}`: {why}"
        for name in dict.fromkeys(findings)
        if (why := _why_no_name(name, findings.count(name))) is not None
    ]
    if problems or not findings:
        what = f"{len(problems)} names of findings cannot be used" if problems else "there is no finding"
        raise InputError(
            f"cannot read the labels: {what}, got {origin}{listing(problems)}",
            hint="give each finding a name of its own, on one line",
        )


def is_finding_name(name: str) -> bool:
    """Whether a finding may have this name."""
    return _why_no_name(name, 1) is None


def _why_no_name(name: str, count: int) -> str | None:
    reasons = {
        "it is empty": not name.strip(),
        "it begins or ends with a blank": name != name.strip(),
        "it has letters that cannot be printed": not name.isprintable(),
        f"results have a row `{MEAN}`": name == MEAN,
        f"it is there {count} times": count > 1,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels, patient and split of each image, one row per image."""

    findings: tuple[str, ...]
    """Names of the K labels: the 14 findings, or the classes of a data set in folders."""

    images: tuple[str, ...]
    """Names of the N images as the data set gives them, without duplicates."""

    patients_N: NDArray[np.int64]
    """Patients numbered 0, 1, 2 …, so that no patient ID is stored or passed on."""

    labels_NK: NDArray[np.float32]
    """1 where the image has the finding, 0 where it has not, NaN where that is unknown; between 0 and 1 a soft target."""

    split_N: NDArray[np.int8]
    """Index in SPLITS, -1 for an image in none."""

    unidentified: frozenset[str] = frozenset()
    """Images whose patient is unknown; each counts as a patient of its own."""

    views: tuple[str, ...] | None = None
    """Projection of each image, `PA`, `AP`, `LATERAL` or empty where unknown; None where the data set does not tell."""

    def __len__(self) -> int:
        return len(self.images)

    def known(self) -> NDArray[np.bool_]:
        """Where it is known whether the image has the finding."""
        return np.logical_not(np.isnan(self.labels_NK))

    def positive(self) -> NDArray[np.bool_]:
        """Where the image has the finding; a fraction counts from `POSITIVE_FROM` on, an unknown label does not count."""
        has_NK: NDArray[np.bool_] = self.labels_NK >= POSITIVE_FROM
        return has_NK

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of one split's images, in table order."""
        return np.flatnonzero(self.split_N == SPLITS.index(split)).astype(np.int64)

    def used(self) -> "LabelTable":
        """The table without rows in no split."""
        used = np.flatnonzero(self.split_N >= 0)
        images = tuple(self.images[row] for row in used.tolist())
        return LabelTable(
            findings=self.findings,
            images=images,
            patients_N=self.patients_N[used],
            labels_NK=self.labels_NK[used],
            split_N=self.split_N[used],
            unidentified=self.unidentified.intersection(images),
            views=None if self.views is None else tuple(self.views[row] for row in used.tolist()),
        )

    def without(self, images: Collection[str]) -> "LabelTable":
        """The table with these images in no split."""
        dropped = set(images)
        is_dropped_N = np.array([name in dropped for name in self.images], np.bool_)
        return replace(self, split_N=np.where(is_dropped_N, -1, self.split_N).astype(np.int8))

    def shared_patients(self) -> int:
        """Number of patients who are in more than one split."""
        used = self.split_N >= 0
        pairs = np.unique(np.stack([self.patients_N[used], self.split_N[used].astype(np.int64)], axis=1), axis=0)
        return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())

    def constant(self) -> list[str]:
        """Findings whose known labels in train are all the same, or that have none: nothing can be learned about them."""
        labels_NK = self.labels_NK[self.rows("train")]
        is_known_NK = ~np.isnan(labels_NK)
        lowest_K = np.min(labels_NK, axis=0, initial=np.inf, where=is_known_NK)
        highest_K = np.max(labels_NK, axis=0, initial=-np.inf, where=is_known_NK)
        is_constant_K = lowest_K >= highest_K
        return [name for name, is_constant in zip(self.findings, is_constant_K.tolist(), strict=True) if is_constant]

    def with_findings(self, findings: Sequence[str]) -> "LabelTable":
        """The table with only these findings, in this order."""
        columns = [self.findings.index(name) for name in findings]
        return replace(self, findings=tuple(findings), labels_NK=self.labels_NK[:, columns])

    def check_classes(self) -> None:
        """Raises: InputError unless there are at least two labels and every image has exactly one."""
        if len(self.findings) < 2:
            raise InputError(
                f"cannot train `--loss cross_entropy`: it needs at least two classes, and there is only `{', '.join(self.findings)}`",
                hint="--loss bce",
            )
        unknown = np.flatnonzero(np.isnan(self.labels_NK).any(axis=1))
        if len(unknown):
            raise InputError(
                f"cannot train `--loss cross_entropy`: the class of every image must be known, but {len(unknown):,} of {len(self):,} "
                f"have unknown labels, the first is `{on_one_line(self.images[unknown[0]])}`",
                hint="use --loss bce, which leaves unknown labels out",
            )
        bad = np.flatnonzero(~self.has_one_label())
        if len(bad):
            raise InputError(
                f"cannot train `--loss cross_entropy`: every image must have exactly one label, but {len(bad):,} of {len(self):,} "
                f"have several labels or none, the first is `{on_one_line(self.images[bad[0]])}`",
                hint="use --loss bce for independent labels; --preset pneumonia is for a data set with one folder per class",
            )

    def has_one_label(self) -> NDArray[np.bool_]:
        """Whether each image has exactly one of the labels and certainly none of the others, shape N."""
        one_N: NDArray[np.bool_] = ((self.labels_NK == 1).sum(axis=1) == 1) & ((self.labels_NK != 0).sum(axis=1) == 1)
        return one_N

    def split_sha256(self) -> str:
        """Hash of the split of every image, independent of row order."""
        lines = (
            f"{name}\0{split_index}\n"
            for name, split_index in zip(self.images, self.split_N.tolist(), strict=True)
            if split_index >= 0
        )
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def labels_sha256(self) -> str:
        """Hash of the findings of every image, in a split or not, independent of row order."""
        labels_NK = _compact(self.labels_NK)
        lines = (f"{name}\0{labels.tobytes().hex()}\n" for name, labels in zip(self.images, labels_NK, strict=True))
        return hashlib.sha256("\0".join([*self.findings, *sorted(lines)]).encode()).hexdigest()


def _compact(labels_NK: NDArray[np.float32]) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Labels as they are hashed: a byte each where all are 0 or 1, so that hashes of earlier versions go on being equal."""
    if np.isin(labels_NK, (0, 1)).all():
        return labels_NK.astype(np.uint8)
    return np.where(np.isnan(labels_NK), np.float32(np.nan), labels_NK).astype("<f4")
