"""Names of objects in a run's prefix: build and parse; pure strings.

<output>/<run>/run.json  starts.json  owner.json  nodes.json
<output>/<run>/checkpoints/step-00000500/state.pt
<output>/<run>/checkpoints/step-00000500/manifest.json
<output>/<run>/split.csv.gz  metrics.jsonl  results.json
<output>/<run>/predictions/{val,test}.csv
<output>/<run>/model/{model.safetensors,calibration.json,card.md}
<output>/<run>/evaluation/{metrics.json,metrics.csv}
<output>/<run>/report/{index.html,curves.png,gallery.json}
<output>/<run>/tensorboard/events.out.tfevents.1790000000.000000
<output>/<run>/profile/trace.json.gz
<output>/<run>/logs/rank-00000.log

Other objects there do not belong to the run and are neither deleted nor replaced (`is_ours`).
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
NODES: Final = "nodes.json"
CHECKPOINTS: Final = "checkpoints/"
MODEL: Final = "model/model.safetensors"
CALIBRATION: Final = "model/calibration.json"
CARD: Final = "model/card.md"
EVALUATION: Final = "evaluation/metrics.json"
EVALUATION_TABLE: Final = "evaluation/metrics.csv"
REPORT: Final = "report/index.html"
REPORT_CURVES: Final = "report/curves.png"
REPORT_GALLERY: Final = "report/gallery.json"
"""Pictures of the report, so that the page can be rewritten without the model."""

TRACE: Final = "profile/trace.json.gz"
"""Of the steps of `--profile`, in Chrome's trace format."""

TENSORBOARD: Final = "tensorboard/"

POD_ADDRESS: Final = "POD_IP"
"""Variable with a pod's address, under which workers meet where the pod's name does not resolve."""

POD_NODE: Final = "NODE_NAME"
"""Variable with the name of the node that a pod runs on, by which a run knows nodes again."""

JOB: Final = "TRAINER_JOB"
"""Environment variable with a unique ID of the job; the launcher generates it at submission."""

LOCAL_RUN: Final = "CHEXNET_LOCAL_RUN"
"""Variable by which the processes of a run of `submit --local` are found, and know that Kubernetes did not start them."""

MAX_NAME: Final = 53
"""Length of a run's name. Source: Services are limited to 63 and the operator appends `-worker-` and an index."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
STEP_DIGITS: Final = 18
"""More steps than any run takes, and fewer than 64 bits hold."""

_NUMBER = f"[0-9]{{%d}}|[1-9][0-9]{{%d,{STEP_DIGITS - 1}}}"
"""A number as `{:0Nd}` writes it: parsing and formatting must give back the same key."""

_CHECKPOINT = re.compile(rf"checkpoints/step-({_NUMBER % (8, 8)})/(state\.pt|manifest\.json)")

_OURS = re.compile(
    "|".join(
        [
            _CHECKPOINT.pattern,
            *map(re.escape, (RUN, STARTS, OWNER, NODES, SPLIT, METRICS, RESULTS, MODEL, CALIBRATION, CARD)),
            *map(re.escape, (EVALUATION, EVALUATION_TABLE, REPORT, REPORT_CURVES, REPORT_GALLERY, TRACE)),
            r"predictions/(?:val|test)\.csv",
            rf"tensorboard/events\.out\.tfevents\.(?:{_NUMBER % (10, 10)})\.(?:{_NUMBER % (6, 6)})",
            rf"logs/rank-(?:{_NUMBER % (5, 5)})\.log",
        ]
    )
)
"""Every key that a run writes; only this table separates a run's files from foreign ones."""

_BEFORE_RECORD = re.compile(rf"{re.escape(STARTS)}|{re.escape(OWNER)}|logs/.*")

_FOLDERS = re.compile(
    rf"checkpoints(?:/step-(?:{_NUMBER % (8, 8)}))?|predictions|model|evaluation|report|profile|tensorboard|logs"
)


def check_name(name: str) -> str:
    """The name itself, if valid for a run and the Kubernetes objects of its job.

    Raises: InputError.
    """
    if len(name) > MAX_NAME:
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a name: it must have at most {MAX_NAME} characters, as pod names add more, "
            f"got {len(name)} (from `--name`)",
            hint=f"--name {name[:MAX_NAME].rstrip('-').lower()}",
        )
    if not _NAME.fullmatch(name):
        raise InputError(
            f"cannot use `{on_one_line(name)}` as a name: it must start with a lower-case letter, have only a-z, 0-9 and `-`, and not end with `-` (from `--name`)",
            hint="names become Kubernetes object names; for example --name chexnet-1",
        )
    return name


def state_key(step: int) -> str:
    """Key of the training state of `step`."""
    return f"{CHECKPOINTS}step-{step:08d}/state.pt"


def manifest_key(step: int) -> str:
    """Key of the checkpoint manifest that commits `step`; it is written last."""
    return f"{CHECKPOINTS}step-{step:08d}/manifest.json"


def committed_step(key: str) -> int | None:
    """The step that `key` commits, None when it is not a checkpoint manifest."""
    match = _CHECKPOINT.fullmatch(key)
    return int(match[1]) if match and match[2] == "manifest.json" else None


def is_ours(key: str) -> bool:
    """Whether a run writes this key; other objects in its prefix are never deleted or replaced."""
    return _OURS.fullmatch(key) is not None


def comes_before_record(key: str) -> bool:
    """Whether a run may write this key before `run.json`: an attempt that was killed early leaves it behind."""
    return is_ours(key) and _BEFORE_RECORD.fullmatch(key) is not None


def is_our_folder(name: str) -> bool:
    """Whether a run writes keys in this folder, relative to the run's."""
    return _FOLDERS.fullmatch(name) is not None


def step_of(text: str) -> int | None:
    """The step number in a user's text; None when it is not a number or too large for any run."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= STEP_DIGITS else None


def predictions_key(split: str) -> str:
    """Key of the predicted probabilities of one split."""
    return f"predictions/{split}.csv"


def log_key(rank: int) -> str:
    """Key of one rank's log."""
    return f"logs/rank-{rank:05d}.log"
