"""Choices of how the labels of a data set are read: the flags that all commands share, and their checks.

Names are separated by commas; a name that contains a comma is written in double quotes, as in a csv.
"""

import csv
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from cyclopts import Parameter

from trainer.errors import InputError, on_one_line

Blank = Literal["zeros", "ignore"]
ValidAs = Literal["val", "test"]
Readers = Literal["majority", "mean"]

T = TypeVar("T")
_GROUP: Final = "Labels"

_SAME_AS_NONE: Final = {"projection": "all", "valid_as": "val", "readers": "majority"}
"""Values that mean what is done without a choice."""

Choice = Annotated[T, Parameter(group=_GROUP)]
Plain = Annotated[T, Parameter(group=_GROUP, negative="", show_default=False)]

POLICIES: Final = {"ones": 1.0, "zeros": 0.0, "ignore": math.nan}
"""Values of the words that `--uncertain` takes; NaN is unknown."""

VIEWS: Final = ("PA", "AP", "LATERAL")
"""Projections that a data set can tell of an image; another one, or none, is an empty text."""

FRONTAL: Final = ("PA", "AP")


@dataclass(frozen=True, kw_only=True)
class LabelChoices:
    """How the labels of a data set are read; the default leaves everything to the layout.

    Raises: InputError, on construction, for values that no data set can be read with.
    """

    findings: Choice[str | None] = None
    """Findings to use, in this order, separated by commas; by default all of the data set."""

    rename: Plain[tuple[str, ...]] = ()
    """`NEW=OLD` renames a finding, `NEW=OLD|OLD` joins several; may be given several times."""

    uncertain: Plain[tuple[str, ...]] = ()
    """Uncertain labels: `ones`, `zeros`, `ignore` or a number from 0 to 1, also for one finding (`Edema=ones`); may be given several times."""

    blank: Choice[Blank | None] = None
    """Labels left blank: `zeros` (the finding is absent) or `ignore` (unknown)."""

    projection: Choice[str | None] = None
    """Images to use: `frontal`, `all` (default), or projections among PA, AP and LATERAL separated by commas."""

    valid_as: Choice[ValidAs | None] = None
    """Use of CheXpert's valid.csv: validation (default), or test."""

    readers: Choice[Readers | None] = None
    """Labels of several readers of an image (layout vindr): what the majority says (default), or the mean as a soft label."""

    physician_labels_only: Plain[bool] = False
    """Use only images whose labels are by physicians (layout padchest)."""

    def __post_init__(self) -> None:
        self.chosen_findings()
        self.renamed()
        self.uncertain_policies()
        self.projections()

    def chosen_findings(self) -> tuple[str, ...] | None:
        """The names of `--findings`; None for all. Raises: InputError for none, an empty name or one named twice."""
        if self.findings is None:
            return None
        names = _names(self.findings, "--findings")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(
                f"cannot choose findings: `{on_one_line(twice)}` is named twice, got `{on_one_line(self.findings)}` (from `--findings`)",
                hint="name each finding once",
            )
        return names

    def renamed(self) -> dict[str, tuple[str, ...]]:
        """Old names by new name. Raises: InputError for another form, a new name used twice, and one joined with itself."""
        renamed: dict[str, tuple[str, ...]] = {}
        for text in self.rename:
            new, old = _renamed(text)
            twice = new if new in renamed else next((name for name in old if old.count(name) > 1), None)
            if twice is not None:
                raise InputError(
                    f"cannot rename: `{on_one_line(twice)}` is named twice, got `{on_one_line(text)}` (from `--rename`)",
                    hint="join findings with a bar in one flag: NEW=OLD|OLD",
                )
            renamed[new] = old
        return renamed

    def columns(self) -> tuple[str, ...]:
        """Names that the chosen findings may have in the data set: their own, and those that are renamed or joined to them."""
        renamed = self.renamed()
        return tuple(old for name in self.chosen_findings() or () for old in (name, *renamed.get(name, ())))

    def uncertain_policies(self) -> dict[str | None, float]:
        """Values of uncertain labels by finding, with the value of all others under None, where it is given; NaN is unknown.

        Raises: InputError for another form, and for a finding, or all of them, named twice.
        """
        policies: dict[str | None, float] = {}
        for text in self.uncertain:
            name, sign, word = text.rpartition("=")
            finding = name.strip() if sign else None
            if finding == "":
                raise _bad_policy(text, "the name of the finding is empty")
            if finding in policies:
                of = "all findings" if finding is None else f"`{on_one_line(finding)}`"
                raise _bad_policy(text, f"{of} have two policies" if finding is None else f"{of} has two policies")
            policies[finding] = _policy(word.strip(), text)
        return policies

    def projections(self) -> tuple[str, ...] | None:
        """Projections of the images to use, among `VIEWS`; None for all images. Raises: InputError for another one."""
        if self.projection is None or self.projection == "all":
            return None
        if self.projection == "frontal":
            return FRONTAL
        chosen = tuple(name.strip() for name in self.projection.split(","))
        if not set(chosen) <= set(VIEWS) or len(set(chosen)) < len(chosen):
            raise InputError(
                f"cannot choose projections: it must be frontal, all, or some of {', '.join(VIEWS)}, each once, got "
                f"`{on_one_line(self.projection)}` (from `--projection`)",
                hint="--projection frontal",
            )
        return chosen

    def use_of_valid(self) -> ValidAs:
        """What CheXpert's valid.csv is used as."""
        return self.valid_as or "val"

    def alone(self) -> "LabelChoices":
        """The choices without what a subclass adds."""
        return LabelChoices(**{field.name: getattr(self, field.name) for field in dataclasses.fields(LabelChoices)})

    def over(self, others: "LabelChoices") -> "LabelChoices":
        """These choices, with those of `others` in place of each that has its default."""
        taken = {
            field.name: getattr(self if getattr(self, field.name) != field.default else others, field.name)
            for field in dataclasses.fields(LabelChoices)
        }
        return LabelChoices(**taken)

    def given(self) -> dict[str, Any]:
        """The choices that are not the defaults, for a JSON document; a number that is `ones` or `zeros` is written so.

        A default that was given is none: it only goes before the choices of a run.
        """
        found: dict[str, Any] = {}
        for field in dataclasses.fields(LabelChoices):
            value = getattr(self, field.name)
            if value not in (field.default, _SAME_AS_NONE.get(field.name)):
                found[field.name] = list(value) if isinstance(value, tuple) else value
        if self.uncertain:
            policies = sorted(self.uncertain_policies().items(), key=lambda each: each[0] or "")
            found["uncertain"] = [_text_of(finding, value) for finding, value in policies]
        return found

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "LabelChoices":
        """The choices that `given`, or the settings of a run, hold; other keys are ignored.

        Raises: InputError for values of another kind.
        """
        taken: dict[str, Any] = {}
        for field in dataclasses.fields(LabelChoices):
            value = document.get(field.name, field.default)
            taken[field.name] = tuple(value) if isinstance(field.default, tuple) and isinstance(value, list) else value
            _check_kind(field, taken[field.name])
        return LabelChoices(**taken)


AS_READ: Final = LabelChoices()
"""No choices: everything as the layout does it."""

NAMES: Final = frozenset(field.name for field in dataclasses.fields(LabelChoices))
"""Names of the choices, which are those of the flags and of the keys in run.json."""


def policy_word(value: float) -> str:
    """The word of `--uncertain` for a value: `ones`, `zeros`, `ignore`, or the number."""
    if math.isnan(value):
        return "ignore"
    return {1.0: "ones", 0.0: "zeros"}.get(value, repr(value))


_WORDS: Final = {"blank": ("zeros", "ignore"), "valid_as": ("val", "test"), "readers": ("majority", "mean")}


def _check_kind(field: "dataclasses.Field[Any]", value: object) -> None:
    """Refuse a value of a document that is not of the field's kind."""
    words = _WORDS.get(field.name)
    if words is not None:
        fits = value in words or value == field.default
    elif isinstance(field.default, tuple):
        fits = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    else:
        fits = value == field.default or isinstance(value, bool if isinstance(field.default, bool) else str)
    if not fits:
        raise InputError(
            f"cannot use the label choices of the run: `{field.name}` has another kind of value, got `{on_one_line(str(value))}`",
            hint="check the run's run.json",
        )


def _text_of(finding: str | None, value: float) -> str:
    return policy_word(value) if finding is None else f"{finding}={policy_word(value)}"


def _names(text: str, flag: str) -> tuple[str, ...]:
    """Names separated by commas, in quotes where they contain one."""
    names: Sequence[str] = ()
    if text.isprintable():
        names = [name.strip() for name in next(csv.reader([text], skipinitialspace=True), [])]
    if not names or not all(names):
        raise InputError(
            f"cannot choose findings: it must be names separated by commas, got `{on_one_line(text)}` (from `{flag}`)",
            hint=f"{flag} Edema,Pneumonia",
        )
    return tuple(names)


def _renamed(text: str) -> tuple[str, tuple[str, ...]]:
    new, sign, right = text.partition("=")
    new, old = new.strip(), tuple(name.strip() for name in right.split("|"))
    if not sign or not new or not all(old) or not text.isprintable():
        raise InputError(
            f"cannot rename: it must be NEW=OLD or NEW=OLD|OLD, got `{on_one_line(text)}` (from `--rename`)",
            hint='--rename "Lung Lesion=Nodule|Mass"',
        )
    return new, old


def _policy(word: str, text: str) -> float:
    if word in POLICIES:
        return POLICIES[word]
    try:
        value = float(word)
    except ValueError:
        raise _bad_policy(text, "it must be ones, zeros, ignore or a number from 0 to 1") from None
    if not 0 <= value <= 1:  # also refuses nan
        raise _bad_policy(text, "a number must be from 0 to 1")
    return value


def _bad_policy(text: str, reason: str) -> InputError:
    return InputError(
        f"cannot use uncertain labels: {reason}, got `{on_one_line(text)}` (from `--uncertain`)",
        hint="--uncertain ignore --uncertain Edema=ones",
    )
