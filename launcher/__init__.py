"""Chest X-ray training jobs on Kubernetes; runs on the user's machine.

`python -m launcher` puts the current directory first on Python's path, so that a `yaml.py` in an untrusted folder would run. It is
removed here, before the first import that could find one; the program `launcher` and `python -P` never add it. It stays if this
package itself is there, as in a checkout.
"""

import os
import sys


def _leave_current_directory() -> None:
    """Same as in `trainer`, which can't be imported for this: the directory could contain another `trainer`."""
    try:
        here = os.getcwd()  # noqa: PTH109 - importing pathlib would search there
    except OSError:  # it was deleted
        return
    is_first = sys.path[0] == here and not getattr(sys.flags, "safe_path", False)
    if is_first and here != os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - as above
        del sys.path[0]


if sys.argv[:1] == ["-m"]:  # Python is looking for the module to run
    _leave_current_directory()
