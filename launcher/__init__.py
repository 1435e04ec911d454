"""Chest X-ray training jobs on Kubernetes; runs on the user's machine.

`python -m launcher` puts the current directory before all others that modules are looked for in: a `yaml.py` of a folder that
somebody else has filled would run. It is taken out again here, before the first import that could find one; the program
`launcher` and `python -P` never put it there. Where this package itself lies there, as in a checkout, that folder's code is what
was asked for.
"""

import os
import sys


def _leave_current_directory() -> None:
    """What `trainer` does; here, because until then another `trainer` would be found."""
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib would be looked for there
    except OSError:  # it is gone
        return
    is_first = sys.path[0] == here and not getattr(sys.flags, "safe_path", False)
    if is_first and here != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - as above
        del sys.path[0]


if sys.argv[:1] == ["-m"]:  # Python is looking for the module to run
    _leave_current_directory()
