"""Types of the arguments of benchmarks: a wrong one is refused before anything is measured."""

import argparse
import subprocess
from pathlib import Path


def positive(text: str) -> int:
    """A number of things, at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a number from 1 on: {text!r}")
    return int(text)


def numbers(text: str) -> list[int]:
    """Such numbers, between commas."""
    return [positive(each) for each in text.split(",")]


def commit(text: str) -> str:
    """A commit of this repository."""
    name = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        f"{text}^{{commit}}",
    ]
    if subprocess.run(name, check=False, capture_output=True).returncode != 0:
        raise argparse.ArgumentTypeError(f"no such commit here: {text!r}")
    return text
