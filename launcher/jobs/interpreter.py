"""Environment of Python programs on this machine, which must not import modules from the current directory."""

import os
from pathlib import Path
from typing import Final

import trainer

SAFE_PATH: Final = "PYTHONSAFEPATH"
"""Source: Python 3.11. For older versions, `trainer` itself removes the directory from the path."""


def environment() -> dict[str, str]:
    """Additional environment variables; none in a checkout without installation, whose code is imported from there."""
    is_checkout = Path(trainer.__file__).parents[1] == Path.cwd()
    return {} if is_checkout and SAFE_PATH not in os.environ else {SAFE_PATH: "1"}
