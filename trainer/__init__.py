"""Training of chest X-ray classifiers; runs in the pod.

`python -m trainer` puts the current directory first on Python's path, so that a `numpy.py` in a foreign folder would run. It is
removed here, and kept off the path of the processes that this one starts (from Python 3.11 on). It stays when this package itself
lies there, as in a checkout.
"""

import os
import sys

__version__ = "0.1.0"


def _leave_current_directory() -> None:
    """Remove the current directory from the path, unless PYTHONPATH names it too."""
    try:
        here = os.getcwd()  # noqa: PTH109 - pathlib would be looked for there
    except OSError:  # it is gone
        return
    if here == os.path.dirname(os.path.dirname(__file__)):  # noqa: PTH120 - as above
        return
    if sys.path[0] == here and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    os.environ["PYTHONSAFEPATH"] = "1"


if sys.argv[:1] == ["-m"]:  # Python is looking for the module to run
    _leave_current_directory()
