"""`trainer download`."""

import sys
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from trainer.data.downloads import nih
from trainer.data.downloads.http_source import HttpSource, check_base
from trainer.data.downloads.transfer import Download, from_mirror, open_target
from trainer.errors import InputError
from trainer.runtime.console import Reporter
from trainer.runtime.preemption import ending_at_sigterm
from trainer.storage import RetryPolicy
from trainer.storage.connection import Timeouts

_DATASETS: Final = {"nih": nih}

_MOST_JOBS: Final = 64

_PATIENCE_S: Final = 180.0
"""How long requests to a server that does not answer are retried; progress starts the time again."""

_TIMEOUTS: Final = Timeouts(connect_s=10.0, read_s=30.0)
"""Also the longest time that Ctrl-C waits for a silent server."""


def download(
    dataset: Annotated[Literal["nih"], Parameter(name="DATASET")],
    /,
    *,
    out: str,
    only: Literal["all", "archives", "labels"] = "all",
    jobs: int = 8,
    mirror: str | None = None,
) -> None:
    """Download a public data set from its publisher's servers, verified, to a directory or straight into a bucket.

    Parameters
    ----------
    dataset
        `nih`: ChestX-ray14, twelve archives with 112,120 images (42 GiB) and four label files.
    out
        Directory, created if missing, or `s3://BUCKET/PREFIX`. Files that are there with the right SHA-256 are kept.
    only
        `archives` or `labels` downloads only these.
    jobs
        Parallel connections.
    mirror
        Address of a folder on another HTTP server with files of the same names.
    """
    if not 1 <= jobs <= _MOST_JOBS:
        raise InputError(f"cannot use --jobs {jobs}: it must be from 1 to {_MOST_JOBS}", hint="--jobs 8")
    published = _DATASETS[dataset]
    archives = [] if only == "labels" else list(published.ARCHIVES)
    labels = [] if only == "archives" else list(published.LABEL_FILES)
    if mirror is not None:
        base = check_base(mirror)
        archives, labels = from_mirror(archives, base), from_mirror(labels, base)
    source = HttpSource(connections=jobs, policy=RetryPolicy(_PATIENCE_S), timeouts=_TIMEOUTS)
    target = open_target(out, patience_s=_PATIENCE_S)
    with ending_at_sigterm():
        Download(source, target, jobs, Reporter(None)).fetch(archives, labels)
    sys.stderr.write(f"note: {published.TERMS}\n")
    sys.stdout.write(f"{out}\n")
