"""Python programs that are started on this machine: they find no modules in the current directory."""

import os
from pathlib import Path
from typing import Final

import trainer

SAFE_PATH: Final = "PYTHONSAFEPATH"
"""Source: Python 3.11. Older ones know no such variable; there `trainer` itself takes the directory out."""


def environment() -> dict[str, str]:
    """What to add to such a program's environment; nothing in a checkout that is not installed, whose code lies there."""
    lies_here = Path(trainer.__file__).parents[1] == Path.cwd()
    return {} if lies_here and SAFE_PATH not in os.environ else {SAFE_PATH: "1"}
