"""The 14 findings, the table of labels that every command works on, splits that keep patients apart, and prevalence.

Shapes: N image, P patient, K finding, S part of a split.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.errors import InputError, listing, on_one_line
from trainer.formats.spreadsheet import line

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

RESPLIT_HINT: Final = "--split patients:70/10/20 makes a new split of all images that keeps patients apart"

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
_PATIENTS = re.compile(rf"patients:{_NUMBER}/{_NUMBER}/{_NUMBER}(?:@(\d{{1,18}}))?", re.ASCII)

_REPAIR_DEPTH = 3
_REPAIR_WIDTH = 16


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


@dataclass(frozen=True)
class PatientSplit:
    """Proportions of train, val and test, counted in patients, and the seed of the draw."""

    shares: tuple[Fraction, Fraction, Fraction]
    seed: int


def patient_split(text: str) -> PatientSplit | None:
    """What `--split` asks for: None for `given`, else the proportions in `patients:A/B/C[@SEED]`.

    Raises: InputError for any other text, and for a train or test part of 0.
    """
    if text == "given":
        return None
    match = _PATIENTS.fullmatch(text)
    if not match:
        reason = "it is neither `given` nor `patients:A/B/C[@SEED]` with numbers of at most 6 digits and a seed of at most 18"
        raise _bad_split(reason, text)
    train, val, test = Fraction(match[1]), Fraction(match[2]), Fraction(match[3])
    if not (train and test):
        raise _bad_split("train (A) and test (C) must be above 0", text)
    return PatientSplit((train, val, test), seed=int(match[4] or 0))


def _bad_split(reason: str, text: str) -> InputError:
    hint = "--split patients:70/10/20, or patients:70/10/20@1 for another draw; patients:80/0/20 has no validation part"
    return InputError(f"cannot split the data set: {reason}, got `{on_one_line(text)}` (from `--split`)", hint=hint)


def apply_split(table: LabelTable, split: PatientSplit) -> LabelTable:
    """The table with all its images, also those in no split so far, split anew by patient.

    The proportions hold for patients, not for images. Every finding of three patients or more is in every part that is
    not empty, wherever the patients allow it. The draw depends on names and seed only, not on the order of the rows.
    """
    everything = np.arange(len(table), dtype=np.int64)
    return replace(table, split_N=_deal_rows(table, everything, split.shares, split.seed).astype(np.int8))


def carve_val(table: LabelTable, share: Fraction, *, seed: int = 0) -> LabelTable:
    """The table with this share of the patients of train moved to val, drawn as `apply_split` does."""
    train = table.rows("train")
    split_N = table.split_N.copy()
    split_N[train] = _deal_rows(table, train, (1 - share, share), seed)  # parts 0 and 1 are train and val
    return replace(table, split_N=split_N)


def _deal_rows(table: LabelTable, rows: NDArray[np.int64], shares: Sequence[Fraction], seed: int) -> NDArray[np.int64]:
    """Part of each of these rows: patients in an order drawn by the seed, dealt so that findings spread evenly."""
    members, patient_N = np.unique(table.patients_N[rows], return_inverse=True)
    # A patient is known by his first name in the alphabet: group numbers follow the order of the rows.
    token_P = [""] * len(members)
    for row, patient in zip(rows.tolist(), patient_N.tolist(), strict=True):
        name = table.images[row]
        token_P[patient] = min(token_P[patient] or name, name)
    # Hashes instead of a generator's shuffle: NumPy may change what a shuffle yields from one version to the next.
    drawn_P = [hashlib.sha256(f"{seed}\0{token}".encode()).digest() for token in token_P]
    order_P = sorted(range(len(members)), key=lambda patient: drawn_P[patient])

    has_PK = np.zeros((len(members), len(table.findings) + 1), dtype=np.bool_)
    has_PK[:, -1] = True  # what all patients have: dealing it last gives the parts their sizes
    image, finding = table.labels_NK[rows].nonzero()
    has_PK[patient_N[image], finding] = True
    part_P = np.empty(len(members), dtype=np.int64)
    part_P[order_P] = _stratify(has_PK[order_P], shares)
    return part_P[patient_N]


def _stratify(has_PK: NDArray[np.bool_], shares: Sequence[Fraction]) -> NDArray[np.int64]:
    """Part of each patient, rarest finding first; then patients are moved until no part lacks a finding it could have.

    Source: the order is that of iterative stratification (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10).
    Differs: a finding's patients are dealt at once, not one by one, and the repair is ours.
    """
    total_K = has_PK.sum(axis=0)
    parts = [part for part, share in enumerate(shares) if share]
    deal = _Deal(
        has_PK=has_PK,
        guarded_K=total_K >= len(parts),
        part_P=np.full(len(has_PK), -1, dtype=np.int64),
        count_SK=np.zeros((len(shares), has_PK.shape[1]), dtype=np.int64),
    )
    rarest_first = [int(finding) for finding in np.argsort(total_K, kind="stable")]
    for finding in rarest_first:
        _deal_finding(deal, finding, int(total_K[finding]), shares)
    for finding in rarest_first:
        for part in parts:
            if deal.guarded_K[finding]:
                deal.trail.clear()
                _fill(deal, finding, part, _REPAIR_DEPTH)
    return deal.part_P


@dataclass
class _Deal:
    """Patients on their way into parts."""

    has_PK: NDArray[np.bool_]
    guarded_K: NDArray[np.bool_]
    """Findings with patients enough for every part."""
    part_P: NDArray[np.int64]
    """-1 while not dealt."""
    count_SK: NDArray[np.int64]
    """Patients with the finding in the part."""
    trail: list[tuple[int, int]] = field(default_factory=list)
    """Moves (patient, part he left) of the repair under way."""

    def move(self, patient: int, part: int) -> None:
        self.count_SK[self.part_P[patient]] -= self.has_PK[patient]
        self.count_SK[part] += self.has_PK[patient]
        self.part_P[patient] = part

    def undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            self.move(*self.trail.pop())

    def candidates(self, finding: int, part: int) -> list[int]:
        """Patients who could bring the finding into the part, those first whom their own part misses least."""
        patients = np.flatnonzero(self.has_PK[:, finding] & (self.part_P != part))
        only_one = self.count_SK[self.part_P[patients]] == 1
        missed = (self.has_PK[patients] & only_one & self.guarded_K).sum(axis=1)
        order = np.lexsort((patients, self.has_PK[patients].sum(axis=1), missed))
        moved = {patient for patient, _ in self.trail}
        return [patient for patient in patients[order][: _REPAIR_WIDTH + len(moved)].tolist() if patient not in moved]


def _deal_finding(deal: _Deal, finding: int, total: int, shares: Sequence[Fraction]) -> None:
    """Deal the finding's patients that are in no part yet so that its parts come near their shares."""
    waiting = np.flatnonzero(deal.has_PK[:, finding] & (deal.part_P < 0))
    have = deal.count_SK[:, finding].tolist()
    need = [Fraction(max(goal - had, 0)) for goal, had in zip(_apportion(total, shares), have, strict=True)]
    quotas = _apportion(len(waiting), need if any(need) else shares)
    for part, patients in enumerate(np.split(waiting, np.cumsum(quotas)[:-1])):
        deal.part_P[patients] = part
        deal.count_SK[part] += deal.has_PK[patients].sum(axis=0)


def _apportion(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Whole numbers that add up to the total, in proportion to the weights; 0 only where the total is too small."""
    exact = [total * weight / sum(weights) for weight in weights]
    numbers = [int(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda part: (numbers[part] - exact[part], part))
    for part in by_remainder[: total - sum(numbers)]:
        numbers[part] += 1
    if total >= sum(weight > 0 for weight in weights):
        for part, weight in enumerate(weights):
            if weight and not numbers[part]:
                numbers[numbers.index(max(numbers))] -= 1
                numbers[part] = 1
    return numbers


def _fill(deal: _Deal, finding: int, part: int, depth: int) -> bool:
    """Bring the finding into the part, and likewise whatever its part loses with the patient who moves.

    A complete search would take exponential time: limits on depth and width give up on what only contrived tables need.
    """
    if deal.count_SK[part, finding]:
        return True
    for patient in deal.candidates(finding, part):
        mark, left = len(deal.trail), int(deal.part_P[patient])
        deal.trail.append((patient, left))
        deal.move(patient, part)
        lost = np.flatnonzero(deal.has_PK[patient] & (deal.count_SK[left] == 0) & deal.guarded_K).tolist()
        if not lost or (depth and all(_fill(deal, other, left, depth - 1) for other in lost)):
            return True
        deal.undo(mark)
    return False


def check_patients(table: LabelTable, origin: str) -> None:
    """Nothing, when no patient is in two splits; `origin` says where the split comes from.

    Raises: InputError with an image from each split for every such patient.
    """
    example: dict[int, dict[int, str]] = {}
    for name, patient, part in zip(table.images, table.patients_N.tolist(), table.split_N.tolist(), strict=True):
        if part >= 0:
            example.setdefault(patient, {}).setdefault(part, name)
    shared = [
        " and ".join(f"{parts[part]} ({SPLITS[part]})" for part in sorted(parts))
        for parts in example.values()
        if len(parts) > 1
    ]
    if shared:
        raise InputError(
            "cannot use the split: a patient must not be in two parts, "
            f"got {len(shared)} who {'is' if len(shared) == 1 else 'are'} (from {origin}){listing(shared)}",
            hint=RESPLIT_HINT,
        )


def check_parts(table: LabelTable, required: Sequence[str], origin: str) -> None:
    """Nothing, when each of these splits has images; `origin` says where the split comes from.

    Raises: InputError that names the empty ones.
    """
    images = {split: len(table.rows(split)) for split in SPLITS}
    empty = [split for split in required if not images[split]]
    if empty:
        counts = ", ".join(f"{count} in {split}" for split, count in images.items())
        raise InputError(
            f"cannot use the split: no image in {' and '.join(empty)}, got {counts} (from {origin})", hint=RESPLIT_HINT
        )


@dataclass(frozen=True)
class Prevalence:
    """How common each finding is in each split."""

    findings: tuple[str, ...]
    percent: tuple[tuple[float, ...] | None, ...]
    """Per split, per finding: images with it, in percent; None for a split without images."""
    images: tuple[int, ...]
    """Per split."""
    patients: tuple[int, ...]
    """Per split."""


def prevalence(table: LabelTable) -> Prevalence:
    """Percentages, images and patients of every split."""
    rows_of = [table.rows(split) for split in SPLITS]
    return Prevalence(
        findings=table.findings,
        percent=tuple(_percent(table.labels_NK[rows]) if len(rows) else None for rows in rows_of),
        images=tuple(len(rows) for rows in rows_of),
        patients=tuple(len(np.unique(table.patients_N[rows])) for rows in rows_of),
    )


def _percent(labels_NK: NDArray[np.uint8]) -> tuple[float, ...]:
    return tuple((100.0 * labels_NK.sum(axis=0, dtype=np.int64) / len(labels_NK)).tolist())


def as_table(stats: Prevalence) -> str:
    """Text for people: percent with three decimals, then images and patients; `-` in the column of an empty split."""
    width = max(len(name) for name in (*stats.findings, "patients"))
    lines = [" " * width + "".join(f"{split:>8}" for split in SPLITS)]
    for name, cells in _cells(stats):
        texts = ("-" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells)
        lines.append(f"{name:<{width}}" + "".join(f"{text:>8}" for text in texts))
    return "\n".join(lines) + "\n"


def as_csv(stats: Prevalence) -> str:
    """The same rows and columns as CSV with six decimals; no value for an empty split."""
    lines = [line(["finding", *SPLITS])]
    for name, cells in _cells(stats):
        lines.append(line([name, *(f"{cell:.6f}" if isinstance(cell, float) else cell for cell in cells)]))
    return "".join(lines)


def as_json(stats: Prevalence) -> str:
    """`percent` by finding and split (null for an empty split), `images` and `patients` by split."""
    rows = {name: dict(zip(SPLITS, cells, strict=True)) for name, cells in _percent_cells(stats)}
    counts = {"images": stats.images, "patients": stats.patients}
    by_split = {name: dict(zip(SPLITS, values, strict=True)) for name, values in counts.items()}
    return json.dumps({"percent": rows, **by_split}, indent=2) + "\n"


def _percent_cells(stats: Prevalence) -> list[tuple[str, list[float | None]]]:
    return [
        (name, [None if column is None else column[row] for column in stats.percent])
        for row, name in enumerate(stats.findings)
    ]


def _cells(stats: Prevalence) -> list[tuple[str, list[float | int | None]]]:
    rows: list[tuple[str, list[float | int | None]]] = [(name, [*cells]) for name, cells in _percent_cells(stats)]
    for name, counts in (("images", stats.images), ("patients", stats.patients)):
        rows.append((name, [count or None for count in counts]))
    return rows
