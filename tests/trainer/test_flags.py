"""Flags as values of a dataclass's fields: the spellings that the trainer's own parser takes, and what is refused."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from trainer.errors import InputError
from trainer.flags import is_flag_of, read_flags


@dataclass(kw_only=True)
class Fields:
    data_dir: str
    words: Annotated[Literal["one", "two"], "text"] = "one"
    steps: int | None = None
    rate: float = 0.5
    flip: Annotated[bool | None, "text"] = False


@pytest.mark.parametrize(
    ("argv", "values"),
    [
        pytest.param("", {}, id="nothing"),
        pytest.param("--data-dir d --steps 3", {"data_dir": "d", "steps": 3}, id="two words"),
        pytest.param("--data-dir=a=b --rate=1e-4", {"data_dir": "a=b", "rate": 1e-4}, id="one word"),
        pytest.param("--data_dir=", {"data_dir": ""}, id="underscores"),
        pytest.param("--rate -1", {"rate": -1.0}, id="negative number"),
        pytest.param("--words two", {"words": "two"}, id="a choice"),
        pytest.param("--flip", {"flip": True}, id="switch on"),
        pytest.param("--no-flip", {"flip": False}, id="switch off"),
        pytest.param("--flip=false", {"flip": False}, id="switch in words"),
    ],
)
def test_flags_are_values_of_fields(argv, values):
    """Only of those that are given; defaults are the dataclass's."""
    assert read_flags(Fields, argv.split()) == values


@pytest.mark.parametrize(
    ("argv", "message", "hint"),
    [
        ("--step 3", "cannot use `--step`: the trainer has no such flag", "did you mean --steps?"),
        (
            "--zzz",
            "cannot use `--zzz`: the trainer has no such flag",
            "`python -m trainer train --help` lists the flags",
        ),
        ("stray", "cannot use `stray`: the trainer has no such flag", None),
        ("-s 3", "cannot use `-s`: the trainer has no such flag", None),
        ("--steps", "cannot use `--steps`: it has no value", "--steps=VALUE"),
        ("--data-dir --steps 3", "cannot use `--data-dir`: it has no value", "--data-dir=VALUE"),
        ("--steps 3 --steps=4", "cannot use --steps twice", "leave one out"),
        ("--flip --no-flip", "cannot use --flip twice", "leave one out"),
        ("--no-steps", "cannot use `--no-steps`: the trainer has no such flag", None),
        ("--steps 1.5", "cannot use --steps 1.5: it is no whole number", None),
        ("--rate fast", "cannot use --rate fast: it is no number", None),
        ("--words three", "cannot use --words three: it is one of one, two", "--words=one"),
        ("--flip=maybe", "cannot use --flip maybe: it is one of true, false", "--flip=true"),
    ],
)
def test_what_is_no_flag_is_refused_by_name(argv, message, hint):
    """On one line, with what would work."""
    with pytest.raises(InputError) as refusal:
        read_flags(Fields, argv.split())
    assert refusal.value.args[0] == message
    assert refusal.value.hint
    assert hint in {None, refusal.value.hint}


@pytest.mark.parametrize(
    ("flag", "known"),
    [
        ("--steps", True),
        ("--data_dir", True),
        ("--no-flip", True),
        ("--no-steps", False),
        ("steps", False),
        ("-s", False),
    ],
)
def test_a_flag_is_known_in_each_spelling(flag, known):
    """The launcher tells where it belongs."""
    assert is_flag_of(Fields, flag) == known
