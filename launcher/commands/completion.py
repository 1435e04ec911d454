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
        Which shell.
    """
    sys.stdout.write(script(shell))


def script(shell: Shell) -> str:
    """The script that completes every command and flag in this shell; made from the parser, which loads all commands."""
    return app.generate_completion(prog_name="launcher", shell=shell)
