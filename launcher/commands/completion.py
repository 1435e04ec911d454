"""`launcher completion`."""

import sys
from typing import Literal

from launcher.commands import app

Shell = Literal["bash", "zsh", "fish"]


def completion(shell: Shell) -> None:
    """Print the script.

    Parameters
    ----------
    shell
        Shell that runs the script.
    """
    sys.stdout.write(script(shell))


def script(shell: Shell) -> str:
    """The script that completes all commands and flags; it is generated from the parser, which loads all commands."""
    return app.generate_completion(prog_name="launcher", shell=shell)
