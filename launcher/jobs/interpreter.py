"""Environment of Python programs started on this machine: they import no modules from the current directory."""

import os
from pathlib import Path
from typing import Final

import trainer

SAFE_PATH: Final = "PYTHONSAFEPATH"
"""Source: Python 3.11. Older ones know no such variable; there `trainer` itself takes the directory out."""


def environment() -> dict[str, str]:
    """Variables to add to such a program's environment; none in a checkout that is not installed, whose code lies there."""
    lies_here = Path(trainer.__file__).parents[1] == Path.cwd()
    return {} if lies_here and SAFE_PATH not in os.environ else {SAFE_PATH: "1"}
