"""Splits that keep each patient in one part: asked for as `patients:70/10/20`, or carved from train."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import SPLITS, LabelTable
from trainer.errors import InputError, listing, on_one_line

RESPLIT_HINT: Final = "--split patients:70/10/20 makes a new split of all images that keeps patients apart"

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"

_PATIENTS = re.compile(rf"patients:{_NUMBER}/{_NUMBER}/{_NUMBER}(?:@(\d{{1,18}}))?", re.ASCII)

_REPAIR_DEPTH = 3

_REPAIR_WIDTH = 16


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
