"""Chest X-ray training jobs on Kubernetes; runs on the user's machine.

`python -m launcher` puts the current directory first on Python's path, so that a `yaml.py` in a foreign folder would run. It is
removed here, before the first import that could find one; the program `launcher` and `python -P` never put it there. It stays
when this package itself lies there, as in a checkout.
"""

import os
import sys


def _leave_current_directory() -> None:
    """As in `trainer`, which can't be imported for this: another `trainer` could lie there."""
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib would be looked for there
    except OSError:  # it is gone
        return
    is_first = sys.path[0] == here and not getattr(sys.flags, "safe_path", False)
    if is_first and here != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - as above
        del sys.path[0]


if sys.argv[:1] == ["-m"]:  # Python is looking for the module to run
    _leave_current_directory()
