"""Patient-wise splits: requested as `patients:70/10/20`, or a validation split taken from train.

Shapes: N images, P patients, K findings, S splits.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import SPLITS, LabelTable
from trainer.errors import InputError, listing, on_one_line

RESPLIT_HINT: Final = "--split patients:70/10/20 splits all images again by patient"

_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"

_PATIENTS = re.compile(rf"patients:{_NUMBER}/{_NUMBER}/{_NUMBER}(?:@(\d{{1,18}}))?", re.ASCII)

_REPAIR_DEPTH = 3

_REPAIR_WIDTH = 16


@dataclass(frozen=True)
class PatientSplit:
    """Proportions of train, val and test, counted in patients, and the random seed."""

    shares: tuple[Fraction, Fraction, Fraction]
    seed: int


def patient_split(text: str) -> PatientSplit | None:
    """The value of `--split`: None for `given`, otherwise the proportions in `patients:A/B/C[@SEED]`.

    Raises: InputError for any other text, and for a train or test share of 0.
    """
    if text == "given":
        return None
    match = _PATIENTS.fullmatch(text)
    if not match:
        reason = (
            "it must be `given` or `patients:A/B/C[@SEED]` with numbers of at most 6 digits and a seed of at most 18"
        )
        raise _bad_split(reason, text)
    train, val, test = Fraction(match[1]), Fraction(match[2]), Fraction(match[3])
    if not (train and test):
        raise _bad_split("train (A) and test (C) must be above 0", text)
    return PatientSplit((train, val, test), seed=int(match[4] or 0))


def _bad_split(reason: str, text: str) -> InputError:
    hint = (
        "--split patients:70/10/20, or patients:70/10/20@1 for another seed; patients:80/0/20 has no validation split"
    )
    return InputError(f"cannot split the data set: {reason}, got `{on_one_line(text)}` (from `--split`)", hint=hint)


def apply_split(table: LabelTable, split: PatientSplit) -> LabelTable:
    """Split all images of the table again by patient, including those in no split so far.

    The proportions apply to patients, not images. Every finding of at least three patients is in every non-empty split
    wherever the patients allow it. The draw depends only on names and seed, not on row order.
    """
    everything = np.arange(len(table), dtype=np.int64)
    return replace(table, split_N=_deal_rows(table, everything, split.shares, split.seed).astype(np.int8))


def carve(table: LabelTable, shares: Mapping[str, Fraction], *, seed: int = 0) -> LabelTable:
    """Move these shares of the patients of train to other splits, drawn as in `apply_split`."""
    train = table.rows("train")
    split_N = table.split_N.copy()
    val, test = (shares.get(split, Fraction(0)) for split in SPLITS[1:])
    split_N[train] = _deal_rows(table, train, (1 - val - test, val, test), seed)
    return replace(table, split_N=split_N)


def with_kept_split(
    table: LabelTable, kept: Mapping[str, str], *, given: bool, carved: Collection[str] = ()
) -> LabelTable | None:
    """The table with the split that a run has recorded for each image; None where it is not one of these images.

    A given split must agree with it, except that val, and the `carved` splits, may have been taken from train.
    """
    used = table.split_N >= 0 if given else np.ones(len(table), np.bool_)
    images = [table.images[row] for row in np.flatnonzero(used).tolist()]
    if set(images) != kept.keys() or not set(kept.values()) <= set(SPLITS):
        return None
    split_N = table.split_N.copy()
    split_N[used] = [SPLITS.index(kept[name]) for name in images]
    differ = used & (table.split_N != split_N)
    moved = set(zip(table.split_N[differ].tolist(), split_N[differ].tolist(), strict=True))
    if given and not moved <= {(SPLITS.index("train"), SPLITS.index(split)) for split in {"val", *carved}}:
        return None
    return replace(table, split_N=split_N)


def _deal_rows(table: LabelTable, rows: NDArray[np.int64], shares: Sequence[Fraction], seed: int) -> NDArray[np.int64]:
    """Split of each of these rows: patients in a random order, dealt so that findings spread evenly."""
    members, patient_N = np.unique(table.patients_N[rows], return_inverse=True)
    # A patient is identified by the alphabetically first image name: group numbers depend on row order.
    token_P = [""] * len(members)
    for row, patient in zip(rows.tolist(), patient_N.tolist(), strict=True):
        name = table.images[row]
        token_P[patient] = min(token_P[patient] or name, name)
    # Hashes instead of a generator's shuffle: NumPy may change the result of a shuffle between versions.
    drawn_P = [hashlib.sha256(f"{seed}\0{token}".encode()).digest() for token in token_P]
    order_P = sorted(range(len(members)), key=lambda patient: drawn_P[patient])

    has_PK = np.zeros((len(members), len(table.findings) + 1), dtype=np.bool_)
    has_PK[:, -1] = True  # a column that all patients have: dealing it last gives the splits their sizes
    image, finding = table.positive()[rows].nonzero()
    has_PK[patient_N[image], finding] = True
    split_P = np.empty(len(members), dtype=np.int64)
    split_P[order_P] = _stratify(has_PK[order_P], shares)
    return split_P[patient_N]


def _stratify(has_PK: NDArray[np.bool_], shares: Sequence[Fraction]) -> NDArray[np.int64]:
    """Split of each patient, rarest finding first; then patients are moved until no split lacks a finding that it could have.

    Source: iterative stratification for the order (Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10). Differs:
    the patients of a finding are dealt at once, not one by one, and the repair is our own.
    """
    total_K = has_PK.sum(axis=0)
    splits = [split for split, share in enumerate(shares) if share]
    deal = _Deal(
        has_PK=has_PK,
        guarded_K=total_K >= len(splits),
        split_P=np.full(len(has_PK), -1, dtype=np.int64),
        count_SK=np.zeros((len(shares), has_PK.shape[1]), dtype=np.int64),
    )
    rarest_first = [int(finding) for finding in np.argsort(total_K, kind="stable")]
    for finding in rarest_first:
        _deal_finding(deal, finding, int(total_K[finding]), shares)
    for finding in rarest_first:
        for split in splits:
            if deal.guarded_K[finding]:
                deal.trail.clear()
                _fill(deal, finding, split, _REPAIR_DEPTH)
    return deal.split_P


@dataclass
class _Deal:
    """State of the assignment of patients to splits."""

    has_PK: NDArray[np.bool_]
    guarded_K: NDArray[np.bool_]
    """Findings with enough patients for every split."""
    split_P: NDArray[np.int64]
    """-1 while not dealt."""
    count_SK: NDArray[np.int64]
    """Patients with the finding in the split."""
    trail: list[tuple[int, int]] = field(default_factory=list)
    """Moves (patient, previous split) of the repair under way."""

    def move(self, patient: int, split: int) -> None:
        self.count_SK[self.split_P[patient]] -= self.has_PK[patient]
        self.count_SK[split] += self.has_PK[patient]
        self.split_P[patient] = split

    def undo(self, mark: int) -> None:
        while len(self.trail) > mark:
            self.move(*self.trail.pop())

    def candidates(self, finding: int, split: int) -> list[int]:
        """Patients who could bring the finding into the split, those first whose own split loses least."""
        patients = np.flatnonzero(self.has_PK[:, finding] & (self.split_P != split))
        only_one = self.count_SK[self.split_P[patients]] == 1
        losses = (self.has_PK[patients] & only_one & self.guarded_K).sum(axis=1)
        order = np.lexsort((patients, self.has_PK[patients].sum(axis=1), losses))
        moved = {patient for patient, _ in self.trail}
        return [patient for patient in patients[order][: _REPAIR_WIDTH + len(moved)].tolist() if patient not in moved]


def _deal_finding(deal: _Deal, finding: int, total: int, shares: Sequence[Fraction]) -> None:
    """Deal the remaining patients of a finding so that its splits approach their shares."""
    waiting = np.flatnonzero(deal.has_PK[:, finding] & (deal.split_P < 0))
    have = deal.count_SK[:, finding].tolist()
    need = [Fraction(max(goal - had, 0)) for goal, had in zip(_apportion(total, shares), have, strict=True)]
    quotas = _apportion(len(waiting), need if any(need) else shares)
    for split, patients in enumerate(np.split(waiting, np.cumsum(quotas)[:-1])):
        deal.split_P[patients] = split
        deal.count_SK[split] += deal.has_PK[patients].sum(axis=0)


def _apportion(total: int, weights: Sequence[Fraction]) -> list[int]:
    """Whole numbers that add up to the total, in proportion to the weights; 0 only where the total is too small."""
    exact = [total * weight / sum(weights) for weight in weights]
    numbers = [int(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda split: (numbers[split] - exact[split], split))
    for split in by_remainder[: total - sum(numbers)]:
        numbers[split] += 1
    if total >= sum(weight > 0 for weight in weights):
        for split, weight in enumerate(weights):
            if weight and not numbers[split]:
                numbers[numbers.index(max(numbers))] -= 1
                numbers[split] = 1
    return numbers


def _fill(deal: _Deal, finding: int, split: int, depth: int) -> bool:
    """Bring the finding into the split, and replace whatever the patient's previous split loses.

    A complete search would take exponential time; the limits on depth and width matter only for contrived tables.
    """
    if deal.count_SK[split, finding]:
        return True
    for patient in deal.candidates(finding, split):
        mark, previous = len(deal.trail), int(deal.split_P[patient])
        deal.trail.append((patient, previous))
        deal.move(patient, split)
        lost = np.flatnonzero(deal.has_PK[patient] & (deal.count_SK[previous] == 0) & deal.guarded_K).tolist()
        if not lost or (depth and all(_fill(deal, other, previous, depth - 1) for other in lost)):
            return True
        deal.undo(mark)
    return False


def check_patients(table: LabelTable, origin: str) -> None:
    """Check that no patient is in two splits; `origin` is where the split comes from.

    Raises: InputError with an image from each split for every such patient.
    """
    example: dict[int, dict[int, str]] = {}
    for name, patient, split in zip(table.images, table.patients_N.tolist(), table.split_N.tolist(), strict=True):
        if split >= 0:
            example.setdefault(patient, {}).setdefault(split, name)
    shared = [
        " and ".join(f"{by_split[split]} ({SPLITS[split]})" for split in sorted(by_split))
        for by_split in example.values()
        if len(by_split) > 1
    ]
    if shared:
        raise InputError(
            "cannot use the split: no patient may be in two splits, "
            f"got {len(shared)} who {'is' if len(shared) == 1 else 'are'} (from {origin}){listing(shared)}",
            hint=RESPLIT_HINT,
        )


def check_splits(table: LabelTable, required: Sequence[str], origin: str) -> None:
    """Check that each of these splits has images; `origin` is where the split comes from.

    Raises: InputError that names the empty ones.
    """
    images = {split: len(table.rows(split)) for split in SPLITS}
    empty = [split for split in required if not images[split]]
    if empty:
        counts = ", ".join(f"{count} in {split}" for split, count in images.items())
        raise InputError(
            f"cannot use the split: no image in {' and '.join(empty)}, got {counts} (from {origin})", hint=RESPLIT_HINT
        )
