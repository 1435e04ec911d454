"""Reader of a run's JSON documents, and their schemas.

`checked(value, Kind)` compares a value with the annotations of a TypedDict or dataclass: keys, types and ranges of
numbers. Unknown keys are accepted, as later versions may add some.
"""

import re
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Literal,
    TypedDict,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from trainer.errors import InputError, on_one_line
from trainer.layout import RUN, STEP_DIGITS
from trainer.limits import JSON_BYTES, LimitError, parsed_json

if TYPE_CHECKING:
    from trainer.storage.interface import Storage

SHOWN_CHARS: Final = 60
"""Characters of a wrong value in a message."""

T = TypeVar("T")


@dataclass(frozen=True)
class Within:
    """Range of a number, as an annotation of its type."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"from {self.least:g} to {self.most:g}"


Step = Annotated[int, Within(0, 10**STEP_DIGITS)]
Count = Annotated[int, Within(0, 2**62)]
Share = Annotated[float, Within(0, 1)]
Seconds = Annotated[float, Within(0, 2**33)]
"""Unix time, or shorter."""
Sha256 = Annotated[str, re.compile(r"[0-9a-f]{64}")]


class UsedLabels(TypedDict):
    """How the uncertain, or the blank, labels of a finding are used."""

    images: Count
    """Images with such a label."""
    used_as: str
    """`ones`, `zeros`, `ignore` or a number."""
    origin: str
    """Where this was chosen: a flag, the model's run, or the layout's default."""


class UsedProjections(TypedDict, total=False):
    """Projections of the images that are used."""

    used: str
    """Value of `--projection`."""
    images: Count
    """All images of the data set."""
    left_out: Count
    not_frontal: Count
    """Images that are used without being known to be frontal."""


class LabelPolicy(TypedDict, total=False):
    """What was done to the labels of a data set; keys are missing where nothing was."""

    renamed: dict[str, list[str]]
    """Old names by new name."""
    not_used: list[str]
    """Findings of the data set that were not chosen."""
    uncertain: dict[str, UsedLabels]
    """By finding; only those that have such labels."""
    blank: dict[str, UsedLabels]
    soft: dict[str, Count]
    """Images with a label between 0 and 1, by finding."""
    projection: UsedProjections


class Identity(TypedDict, total=False):
    """Settings that determine a run's numbers, apart from its configuration."""

    findings: list[str]
    global_batch: Count | None
    precision: str
    labels_sha256: str
    split_sha256: str
    pack_sha256: str
    skipped: list[str]
    positive_class: str | None
    """Of a single-label model; missing in records of earlier versions."""


class Record(TypedDict, total=False):
    """run.json. Every key may be missing; readers check for those they need."""

    name: str
    config: dict[str, Any]
    """Fields of TrainConfig in the version that wrote them."""
    identity: Identity
    versions: dict[str, Any]
    world_size: Count
    device: str
    memory_format: str
    """Of weights and images in memory; missing in records of earlier versions."""
    threads_per_worker: Count
    """Threads of each worker's own operations; missing in records of earlier versions."""
    layout: str
    prepared_from: str
    """Layout of the source of a prepared set; missing for any other data set."""
    images: Count
    gray_bits: Count | None
    """Bits of 16-bit images that are black to white; None where there are none."""
    data_set: str | None
    """Public data set of the images; None for any other."""
    label_edition: str | None
    """Edition of ChestX-ray14's labels, with the file they are from; None for other labels."""
    published_split: str
    """Published split that has these test images, as in `metrics.json`; `other` where none has."""
    card: dict[str, str]
    """Fields of the model card that its owner stated."""
    left_out_findings: list[str]
    label_policy: LabelPolicy
    """Missing where labels are used as they are."""
    missing_images: Count
    present: list[str]
    """What share of each split is there, in words."""
    not_read: list[str]
    """Files that look like images but have no image's suffix."""
    shared_patients: Count
    """Patients in more than one split, which only a split of an earlier version has."""
    unidentified_patients: Count
    """Images whose patient is unknown."""
    duplicates: list[dict[str, str]]
    """Groups of equal images in several splits: split by name."""


class ScoredCheckpoint(TypedDict, total=False):
    """The evaluated checkpoint."""

    step: Step
    epoch: float
    sha256: str


class Accuracy(TypedDict, total=False):
    """Accuracy of a single-label model."""

    value: float | None


class ClassScores(TypedDict, total=False):
    """Scores of a single-label model."""

    accuracy: Accuracy | None


class SplitScores(TypedDict, total=False):
    """Scores of one split."""

    images: Count
    mean_auroc: Share | None
    loss: float | None
    auroc: dict[str, Share | None]
    accuracy: Accuracy | float | None
    classes: ClassScores | None


RESULTS_FORMAT: Final = 2
"""Of results.json: 2 since `prob_*` in predictions/*.csv are calibrated, with uncalibrated `raw_*` beside them.

Results of earlier versions have no format: their `prob_*` are uncalibrated.
"""


class Results(TypedDict, total=False):
    """results.json."""

    format: Count
    name: str
    model: str
    checkpoint: ScoredCheckpoint
    last_step: Step
    world_size: Count
    global_batch: Count
    device: str
    hardware: str | None
    peak_device_memory_bytes: Count | None
    training_s: float | None
    images_per_s: float | None
    utilisation: float | None
    val: SplitScores
    test: SplitScores


class _OfStep(TypedDict):
    step: Step


class EpochEntry(_OfStep, total=False):
    """A line of metrics.jsonl."""

    epoch: float
    train_loss: float | None
    images_per_s: float | None
    data_wait_share: float | None
    seconds: float | None
    utilisation: float | None
    peak_memory_bytes: Count | None
    device_counters: Mapping[str, Count]
    snapshot_ms: float | None
    val: SplitScores | None


def read(
    storage: "Storage", key: str, kind: type[T], *, called: str = "document of a run", hint: str | None = None
) -> T:
    """Read and check the document of this key; `called` names its kind in messages.

    Raises: InputError with the document's name when it is invalid; AbsentError, and else as the storage.
    """
    where = f"{storage.url.rstrip('/')}/{key}"
    return parsed(content_of(storage, key), where, kind, called=called, hint=hint)


def content_of(storage: "Storage", key: str, *, most_bytes: int = JSON_BYTES) -> bytes:
    """An object's bytes. Raises: InputError before more than `most_bytes` are in memory; AbsentError, and else as the storage."""
    try:
        return storage.read(key, most_bytes=most_bytes)
    except LimitError as problem:
        where = f"{storage.url.rstrip('/')}/{key}"
        raise InputError(f"cannot read `{where}`: {problem}", hint="check that it is a file of a run") from problem


def parsed(
    content: bytes, where: str, kind: type[T], *, called: str = "document of a run", hint: str | None = None
) -> T:
    """Parse and check these bytes. Raises: InputError; `where` is the document's name, `called` its kind."""
    try:
        return checked(_parsed(content), kind)
    except LimitError as problem:
        raise InputError(
            f"cannot read `{where}`: {problem}", hint=hint or "check that it is a file of a run"
        ) from problem
    except ValueError as problem:
        reason = on_one_line(str(problem))[:200]
        raise InputError(
            f"cannot read `{where}`: it is not a valid {called}: {reason}",
            hint=hint or "check that the file is complete and belongs to a run",
        ) from problem


def _parsed(content: bytes) -> object:
    try:
        return parsed_json(content)
    except LimitError:
        raise
    except ValueError as problem:
        raise ValueError(f"it is not JSON: {problem}") from problem


def run_record(storage: "Storage", *, hint: str | None = None) -> dict[str, Any] | None:
    """run.json; None when missing. Raises: InputError, and else as the storage."""
    from trainer.storage.interface import AbsentError  # noqa: PLC0415 - the launcher checks documents without importing storage

    try:
        record = read(storage, RUN, Record, called="record of a run", hint=hint)
    except AbsentError:
        return None
    return cast("dict[str, Any]", record)


def shown(value: object) -> str:
    """A document's value for a message: on one line, and cut when very long."""
    text, most = str(value), 10 * SHOWN_CHARS
    return on_one_line(text[:most]) + "…" * (len(text) > most)


def checked(value: object, kind: type[T], name: str = "") -> T:
    """The value itself, if it is of this kind. Raises: ValueError with the name of the wrong part and the expected type."""
    problem = _problem(value, kind, name)
    if problem is not None:
        raise ValueError(problem)
    return cast("T", value)


def _problem(value: object, kind: Any, name: str) -> str | None:  # noqa: ANN401 - an annotation
    """Description of the first mismatch; None without one."""
    if type(value) in _plain_types(kind):
        return None
    check, inner = _check_of(kind)
    return check(value, inner, name)


@cache
def _plain_types(kind: Any) -> frozenset[type]:  # noqa: ANN401 - an annotation
    """The types all of whose values are of this kind; an evaluation has 100,000 numbers."""
    if get_origin(kind) in {Union, types.UnionType}:
        return frozenset().union(*map(_plain_types, get_args(kind)))
    if kind is float:
        return frozenset({float, int})
    return frozenset({kind}) if kind in _WORDS else frozenset()


@cache
def _check_of(kind: Any) -> tuple[Callable[[object, Any, str], str | None], Any]:  # noqa: ANN401 - an annotation
    """The check of an annotation, and what it takes beside the value: arguments of the annotation, or itself."""
    origin = get_origin(kind) or kind
    if origin in _PROBLEMS:
        return _PROBLEMS[origin], get_args(kind)
    if hasattr(kind, "__required_keys__") or is_dataclass(kind):
        return _problem_of_document, kind
    return _problem_of_leaf, kind


def _problem_of_union(value: object, inner: tuple[Any, ...], name: str) -> str | None:
    problems = [_problem(value, each, name) for each in inner]
    return None if None in problems else problems[0]


def _problem_of_annotated(value: object, inner: tuple[Any, ...], name: str) -> str | None:
    return _problem(value, inner[0], name) or _outside(value, inner[1], name)


def _problem_of_literal(value: object, inner: tuple[Any, ...], name: str) -> str | None:
    is_one = any(value == each and type(value) is type(each) for each in inner)
    return None if is_one else _must_be(value, f"one of {', '.join(map(str, inner))}", name)


def _problem_of_leaf(value: object, kind: type, name: str) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    holds = {
        int: is_number and isinstance(value, int),
        float: is_number,
        str: isinstance(value, str),
        bool: isinstance(value, bool),
        types.NoneType: value is None,
    }
    return None if holds.get(kind, True) else _must_be(value, _WORDS[kind], name)


def _problem_of_list(value: object, inner: tuple[Any, ...], name: str) -> str | None:
    if not isinstance(value, list | tuple):
        return _must_be(value, "a list", name)
    if inner and _plain_types(inner[0]).issuperset(map(type, value)):
        return None
    problems = (_problem(each, inner[0], f"{name}[{number}]") for number, each in enumerate(value) if inner)
    return next((problem for problem in problems if problem), None)


def _problem_of_mapping(value: object, inner: tuple[Any, ...], name: str) -> str | None:
    if not isinstance(value, Mapping):
        return _must_be(value, "a JSON object", name)
    problems = (_problem(each, inner[1], _below(name, key)) for key, each in value.items() if inner)
    return next((problem for problem in problems if problem), None)


def _problem_of_document(value: object, kind: Any, name: str) -> str | None:  # noqa: ANN401 - a TypedDict or dataclass
    if not isinstance(value, Mapping):
        return _must_be(value, "a JSON object", name)
    absent = sorted(_required(kind) - value.keys())
    if absent:
        return f"it lacks {', '.join(f'`{_below(name, key)}`' for key in absent)}"
    hints = _hints(kind)
    problems = (_problem(value[key], hints[key], _below(name, key)) for key in hints.keys() & value.keys())
    return min((problem for problem in problems if problem), default=None)


@cache
def _required(kind: Any) -> frozenset[str]:  # noqa: ANN401 - as above
    if is_dataclass(kind):
        return frozenset(one.name for one in fields(kind) if one.default is MISSING)
    return frozenset(kind.__required_keys__)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _outside(value: Any, within: object, name: str) -> str | None:  # noqa: ANN401 - checked to be of the annotated type
    if isinstance(within, Within):
        return None if within.least <= value <= within.most else _must_be(value, f"a number {within}", name)
    if isinstance(within, re.Pattern):
        return None if within.fullmatch(value) else _must_be(value, f"a text like `{within.pattern}`", name)
    return None


def _must_be(value: object, wanted: str, name: str) -> str:
    shown = (
        on_one_line(str(value)[:SHOWN_CHARS]) if isinstance(value, str | int | float | bool | None) else _kind_of(value)
    )
    return f"{f'`{on_one_line(name)}`' if name else 'it'} must be {wanted}, got {shown}"


def _kind_of(value: object) -> str:
    return (
        "a list"
        if isinstance(value, list | tuple)
        else "a JSON object"
        if isinstance(value, Mapping)
        else "another kind"
    )


def _below(name: str, key: object) -> str:
    text = str(key)[:SHOWN_CHARS]
    return f"{name}.{text}" if name else text


_WORDS: Final = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    types.NoneType: "null",
}

_PROBLEMS: Final[Mapping[Any, Callable[[object, tuple[Any, ...], str], str | None]]] = {
    Any: lambda _value, _inner, _name: None,
    Union: _problem_of_union,
    types.UnionType: _problem_of_union,
    Annotated: _problem_of_annotated,
    Literal: _problem_of_literal,
    list: _problem_of_list,
    tuple: _problem_of_list,
    dict: _problem_of_mapping,
    Mapping: _problem_of_mapping,
}
"""Checks by the origin of an annotation."""
