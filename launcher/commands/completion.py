"""`launcher completion`."""

import sys
from typing import Literal

from launcher.commands import app


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the script.

    Parameters
    ----------
    shell
        Which shell.
    """
    sys.stdout.write(app.generate_completion(prog_name="launcher", shell=shell))
