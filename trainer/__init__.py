"""Training of chest X-ray classifiers; runs in the pod.

`python -m trainer` puts the current directory before all others that modules are looked for in, where a `numpy.py` of somebody
else would run. It is taken out again here, and never there for the processes that this one starts (from Python 3.11 on). Where
this package itself lies there, as in a checkout, that folder's code is what was asked for.
"""

import os
import sys

__version__ = "0.1.0"


def _leave_current_directory() -> None:
    """One that PYTHONPATH names too stays."""
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
