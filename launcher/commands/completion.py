"""`launcher completion`."""

import sys
from pathlib import Path
from typing import Final, Literal, get_args

Shell = Literal["bash", "zsh", "fish"]

SCRIPTS: Final = {shell: Path(__file__).with_name("completions") / f"launcher.{shell}" for shell in get_args(Shell)}
"""Written by `make golden`: to make one, all commands are loaded, which takes a shell's start half a second."""


def completion(shell: Shell) -> None:
    """Print the script.

    Parameters
    ----------
    shell
        Which shell.
    """
    sys.stdout.write(SCRIPTS[shell].read_text(encoding="utf-8"))
