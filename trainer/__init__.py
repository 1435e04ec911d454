"""Training of chest X-ray classifiers; runs in the pod.

`python -m trainer` puts the current directory first on Python's path, so a `numpy.py` in a foreign folder would be run.
The directory is removed from the path here, and from that of child processes (Python 3.11 and later), unless it
contains this package, as a checkout does.
"""

import os
import sys

__version__ = "0.1.0"


def _leave_current_directory() -> None:
    """Remove the current directory from the path, unless PYTHONPATH names it too."""
    try:
        current = os.getcwd()  # noqa: PTH109 - importing pathlib would search that directory
    except OSError:  # it was deleted
        return
    if current == os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - as above
        return
    if sys.path[0] == current and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"


if sys.argv[:1] == ["-m"]:  # Python is searching for the module to run
    _leave_current_directory()
