"""Flags of a dataclass, read as values of its fields; no parser is loaded.

The launcher reads the trainer's flags at every start. Each field is a text, a number, a switch or one of some words, and
for those a parser that can do everything takes longer than all the rest.
"""

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from trainer.errors import InputError, on_one_line

_SWITCH: Final = {"true": True, "false": False}
_NUMBERS: Final[Mapping[type, str]] = {int: "a whole number", float: "a number"}


def flag_of(field: str) -> str:
    """The flag that sets a field."""
    return "--" + field.replace("_", "-")


def read_flags(owner: type, argv: Sequence[str]) -> dict[str, Any]:
    """Values of the fields of `owner` that the flags give.

    Raises: InputError for what is no flag of it, given twice, without a value or with one that it can't have.
    """
    kinds = {field.name: _kind(field.type) for field in dataclasses.fields(owner)}
    values: dict[str, Any] = {}
    for field, text in _pairs(kinds, argv):
        if field in values:
            raise InputError(f"cannot use {flag_of(field)} twice", hint="leave one out")
        values[field] = text if isinstance(text, bool) else _converted(flag_of(field), kinds[field], text)
    return values


def is_flag_of(owner: type, flag: str) -> bool:
    """Whether a flag, `--x` or `--no-x`, sets a field of `owner`."""
    kinds = {field.name: _kind(field.type) for field in dataclasses.fields(owner)}
    field = flag.removeprefix("--").replace("-", "_")
    return flag.startswith("--") and (field in kinds or kinds.get(field.removeprefix("no_")) is bool)


def is_value(word: str) -> bool:
    """Whether a word is no flag: a negative number is none."""
    return not word.startswith("-") or word[1:2].isdigit()


def _kind(annotation: Any) -> Any:  # noqa: ANN401 - any type
    """What a field holds where it holds something: `str`, `int`, `float`, `bool` or a Literal."""
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return _kind(next(each for each in get_args(annotation) if each is not type(None)))
    return annotation


def _pairs(kinds: Mapping[str, Any], argv: Sequence[str]) -> Iterator[tuple[str, str | bool]]:
    """Each field that is given, with its text, or with whether its switch is on."""
    words = iter(argv)
    for word in words:
        flag, equals, text = word.partition("=")
        field = flag.removeprefix("--").replace("-", "_")
        negated = field.removeprefix("no_")
        if flag.startswith("--") and field in kinds:
            if equals:
                yield field, text
            else:
                yield field, kinds[field] is bool or _value_of(flag, words)
        elif flag.startswith("--no") and kinds.get(negated) is bool:
            if equals:
                raise InputError(
                    f"cannot use `{on_one_line(word)}`: {flag} takes no value", hint=f"{flag}, or {flag_of(negated)}"
                )
            yield negated, False
        else:
            raise _unknown(flag, kinds)


def _value_of(flag: str, words: Iterator[str]) -> str:
    """The next word, unless it is a flag."""
    word = next(words, None)
    if word is None or not is_value(word):
        raise InputError(f"cannot use `{flag}`: it has no value", hint=f"{flag}=VALUE")
    return word


def _unknown(flag: str, kinds: Mapping[str, Any]) -> InputError:
    import difflib  # noqa: PLC0415 - an error may take its time

    near = difflib.get_close_matches(flag, map(flag_of, kinds), n=1) if flag != "--help" else []
    return InputError(
        f"cannot use `{on_one_line(flag)}`: the trainer has no such flag",
        hint=f"did you mean {near[0]}?" if near else "`python -m trainer train --help` lists the flags",
    )


def _converted(flag: str, kind: Any, text: str) -> str | int | float | bool:  # noqa: ANN401 - any type
    known = get_args(kind) if get_origin(kind) is Literal else tuple(_SWITCH) if kind is bool else None
    if known is not None and text not in known:
        raise InputError(
            f"cannot use {flag} {on_one_line(text)}: it is one of {', '.join(known)}", hint=f"{flag}={known[0]}"
        )
    if kind is bool:
        return _SWITCH[text]
    try:
        return _number(kind, text) if kind in _NUMBERS else text
    except ValueError as problem:
        raise InputError(
            f"cannot use {flag} {on_one_line(text)}: it is no {_NUMBERS[kind].removeprefix('a ')}",
            hint="leave the flag out to take its default, or the preset's value",
        ) from problem


def _number(kind: type, text: str) -> int | float:
    """Raises: ValueError, also for what is not finite."""
    number: int | float = kind(text)
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(text)
    return number
