"""Names of things in a run's prefix: build and parse; pure strings.

<output>/<run>/run.json  starts.json  owner.json
<output>/<run>/checkpoints/step-00000500/state.pt
<output>/<run>/checkpoints/step-00000500/manifest.json
<output>/<run>/split.csv.gz  metrics.jsonl  results.json
<output>/<run>/predictions/{val,test}.csv
<output>/<run>/model/{model.safetensors,calibration.json,card.md}
<output>/<run>/evaluation/{metrics.json,metrics.csv}
<output>/<run>/report/{index.html,curves.png,gallery.json}
<output>/<run>/tensorboard/events.out.tfevents.1790000000.000000
<output>/<run>/logs/rank-00000.log

Whatever else lies there is not the run's: it is neither deleted nor replaced (`is_ours`).
"""

import re
from typing import Final

from trainer.errors import InputError, on_one_line

RUN: Final = "run.json"
STARTS: Final = "starts.json"
OWNER: Final = "owner.json"
SPLIT: Final = "split.csv.gz"
METRICS: Final = "metrics.jsonl"
RESULTS: Final = "results.json"
CHECKPOINTS: Final = "checkpoints/"
MODEL: Final = "model/model.safetensors"
CALIBRATION: Final = "model/calibration.json"
CARD: Final = "model/card.md"
EVALUATION: Final = "evaluation/metrics.json"
EVALUATION_TABLE: Final = "evaluation/metrics.csv"
REPORT: Final = "report/index.html"
REPORT_CURVES: Final = "report/curves.png"
REPORT_GALLERY: Final = "report/gallery.json"
"""The pictures of the report, so that its page can be written again without the model."""

TENSORBOARD: Final = "tensorboard/"

JOB: Final = "TRAINER_JOB"
"""Variable that tells the workers of one job from those of another; the launcher makes it up when it submits."""

LOCAL_RUN: Final = "CHEXNET_LOCAL_RUN"
"""Variable by which the processes of a run of `submit --local` are found, and know that Kubernetes did not start them."""

MAX_NAME: Final = 53
"""Characters of a run's name. Source: Services are limited to 63 and the operator appends `-worker-` and an index."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
STEP_DIGITS: Final = 18
"""No run takes more steps, and all of them fit in 64 bits."""

_NUMBER = f"[0-9]{{%d}}|[1-9][0-9]{{%d,{STEP_DIGITS - 1}}}"
"""A number as `{:0Nd}` writes it: the same key must come back from it."""

_CHECKPOINT = re.compile(rf"checkpoints/step-({_NUMBER % (8, 8)})/(state\.pt|manifest\.json)")

_OURS = re.compile(
    "|".join(
        [
            _CHECKPOINT.pattern,
            *map(re.escape, (RUN, STARTS, OWNER, SPLIT, METRICS, RESULTS, MODEL, CALIBRATION, CARD)),
            *map(re.escape, (EVALUATION, EVALUATION_TABLE, REPORT, REPORT_CURVES, REPORT_GALLERY)),
            r"predictions/(?:val|test)\.csv",
            rf"tensorboard/events\.out\.tfevents\.(?:{_NUMBER % (10, 10)})\.(?:{_NUMBER % (6, 6)})",
            rf"logs/rank-(?:{_NUMBER % (5, 5)})\.log",
        ]
    )
)
"""Every key that a run writes: the one table that separates a run's files from foreign ones."""

_BEFORE_RECORD = re.compile(rf"{re.escape(STARTS)}|{re.escape(OWNER)}|logs/.*")

_FOLDERS = re.compile(
    rf"checkpoints(?:/step-(?:{_NUMBER % (8, 8)}))?|predictions|model|evaluation|report|tensorboard|logs"
)


def check_name(name: str) -> str:
    """The name itself, when it can name a run and the Kubernetes objects of its job.

    Raises: InputError.
    """
    if len(name) > MAX_NAME:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a name: at most {MAX_NAME} characters leave room for the names of its pods, "
            f"got {len(name)} (from `--name`)",
            hint=f"--name {name[:MAX_NAME].rstrip('-').lower()}",
        )
    if not _NAME.fullmatch(name):
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a name: it must start with a lower-case letter and hold only a-z, 0-9 and `-` (from `--name`)",
            hint="names become Kubernetes object names; for example --name chexnet-1",
        )
    return name


def state_key(step: int) -> str:
    """Where the training state of `step` lies."""
    return f"{CHECKPOINTS}step-{step:08d}/state.pt"


def manifest_key(step: int) -> str:
    """Where the manifest that commits `step` lies; it is written last."""
    return f"{CHECKPOINTS}step-{step:08d}/manifest.json"


def committed_step(key: str) -> int | None:
    """The step that `key` commits, None when it is no checkpoint's manifest."""
    match = _CHECKPOINT.fullmatch(key)
    return int(match[1]) if match and match[2] == "manifest.json" else None


def is_ours(key: str) -> bool:
    """Whether a run writes under this very key; what lies under any other in its prefix is never deleted or replaced."""
    return _OURS.fullmatch(key) is not None


def comes_before_record(key: str) -> bool:
    """Whether a key of ours may hold something before `run.json` is written, as after a start that was killed early."""
    return is_ours(key) and _BEFORE_RECORD.fullmatch(key) is not None


def is_our_folder(name: str) -> bool:
    """Whether keys of ours lie in the folder of this name, relative to the run's."""
    return _FOLDERS.fullmatch(name) is not None


def step_of(text: str) -> int | None:
    """The step that a text names, as users give it; None when it is no number, or more than any run has."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= STEP_DIGITS else None


def predictions_key(split: str) -> str:
    """Where the predicted probabilities of one split lie."""
    return f"predictions/{split}.csv"


def log_key(rank: int) -> str:
    """Where what one rank has said lies."""
    return f"logs/rank-{rank:05d}.log"
