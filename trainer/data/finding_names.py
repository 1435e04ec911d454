"""Names of findings over public data sets: which names mean the same finding, and which are joins of others.

Source: the sets' own label files, compared as torchxrayvision does.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

_SAME: Final[tuple[tuple[str, ...], ...]] = (
    ("Effusion", "Pleural Effusion"),
    ("Infiltration", "Infiltrates", "Infiltrate"),
    ("Lung Lesion", "Nodule/Mass", "Nodule or mass"),
    ("Lung Opacity", "Airspace opacity"),
    ("Fibrosis", "Pulmonary fibrosis"),
    ("Hernia", "Hiatal hernia"),
    ("Edema", "Pulmonary edema"),
    ("No Finding", "Normal"),
)
"""Names of the same finding in ChestX-ray14, CheXpert, MIMIC-CXR, PadChest, VinDr-CXR and the readers' columns of ChestX-ray14.

Names that differ only in case, spaces and signs, such as `Pleural_Thickening` and `Pleural thickening`, are not listed.
"""

_JOINED: Final[dict[str, tuple[str, ...]]] = {"Lung Lesion": ("Nodule", "Mass")}
"""Findings that an image has if it has any of others.

Lung Opacity is none of them: it also comprises findings that no set labels on their own.
"""


def _letters(name: str) -> str:
    """Letters and digits of a name in lower case; the name itself where it has none."""
    return "".join(letter for letter in name.casefold() if letter.isalnum()) or name


_CANONICAL: Final = {_letters(name): _letters(names[0]) for names in _SAME for name in names}

_PARTS: Final = {_letters(name): frozenset(map(_letters, parts)) for name, parts in _JOINED.items()}


def _key(name: str) -> str:
    """Equal for names of the same finding."""
    letters = _letters(name)
    return _CANONICAL.get(letters, letters)


def same_finding(first: str, second: str) -> bool:
    """Whether two names mean the same finding."""
    return _key(first) == _key(second)


def similar(name: str, names: Sequence[str]) -> list[str]:
    """Those of `names` that `name` may mean: the same finding under another name, a similar spelling, or what it joins."""
    parts = _PARTS.get(_key(name), frozenset())
    same = [each for each in names if same_finding(name, each) or _key(each) in parts]
    by_letters = {_letters(each): each for each in names}
    close = [by_letters[letters] for letters in get_close_matches(_letters(name), by_letters)]
    return list(dict.fromkeys([*same, *close]))


@dataclass(frozen=True)
class Match:
    """A finding that a model predicts and a data set labels."""

    name: str
    """The model's name; the data set's, where several outputs are joined."""
    outputs: tuple[str, ...]
    """The model's output, or those that are joined."""
    labels: tuple[str, ...]
    """The data set's label, or those that are joined."""

    @property
    def is_renamed(self) -> bool:
        """Whether both sides have one finding, under different names."""
        return len(self.outputs) == len(self.labels) == 1 and self.outputs != self.labels


@dataclass(frozen=True)
class Matching:
    """What a model's outputs and a data set's labels have in common, and what not."""

    matches: tuple[Match, ...]
    """In the order of the model's outputs."""
    outputs_left: tuple[str, ...]
    """Outputs without labels."""
    labels_left: tuple[str, ...]
    """Labels without outputs."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the common findings."""
        return tuple(match.name for match in self.matches)


def matching(outputs: Sequence[str], labels: Sequence[str], joins: Iterable[Match] = ()) -> Matching:
    """Match a model's outputs with a data set's labels: equal names first, then `joins`, then this module's tables.

    A name that several names of the other side could mean is matched with none of them. Each output and each label is
    used once.
    """
    found = [Match(name, (name,), (name,)) for name in outputs if name in labels]
    for join in joins:
        if join.outputs != join.labels and not _is_used(join, found):
            found.append(join)
    for candidate in (*_renamed(outputs, labels), *_joined(outputs, labels)):
        if not _is_used(candidate, found):
            found.append(candidate)
    found.sort(key=lambda match: outputs.index(match.outputs[0]))
    used_outputs = {name for match in found for name in match.outputs}
    used_labels = {name for match in found for name in match.labels}
    return Matching(
        tuple(found),
        tuple(name for name in outputs if name not in used_outputs),
        tuple(name for name in labels if name not in used_labels),
    )


def counterparts(names: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """By name, the one of `others` that means the same finding; only names that have exactly one."""
    single = (match for match in matching(others, names).matches if len(match.outputs) == len(match.labels) == 1)
    return {match.labels[0]: match.outputs[0] for match in single}


def _is_used(match: Match, found: Sequence[Match]) -> bool:
    outputs = {name for each in found for name in each.outputs}
    labels = {name for each in found for name in each.labels}
    return not (outputs.isdisjoint(match.outputs) and labels.isdisjoint(match.labels))


def _renamed(outputs: Sequence[str], labels: Sequence[str]) -> list[Match]:
    """Outputs whose finding has another name in the data set."""
    found = []
    for name in outputs:
        rivals = [each for each in outputs if same_finding(name, each)]
        same = [each for each in labels if same_finding(name, each)]
        if len(rivals) == len(same) == 1:
            found.append(Match(name, (name,), (same[0],)))
    return found


def _joined(outputs: Sequence[str], labels: Sequence[str]) -> list[Match]:
    """Findings that one side has as a whole, and the other in parts; all parts must be there."""
    found = []
    for label in labels:
        parts = _parts_of(label, outputs)
        if parts:
            found.append(Match(label, parts, (label,)))
    for output in outputs:
        parts = _parts_of(output, labels)
        if parts:
            found.append(Match(output, (output,), parts))
    return found


def _parts_of(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """Those of `names` that are the parts of this finding; none where it has no parts, or one of them is missing or twice."""
    keys = _PARTS.get(_key(name), frozenset())
    parts = tuple(each for each in names if _key(each) in keys)
    return parts if len(parts) == len(keys) == len({_key(each) for each in parts}) else ()
