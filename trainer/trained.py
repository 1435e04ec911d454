"""A model that has been trained, with what is known of it: for evaluating, predicting, explaining and exporting.

It is read from a run (a directory, s3://, or what `launcher pull` made of one), one of its checkpoints, a `model.safetensors`,
or a file of weights in a public format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from trainer.calibration import Calibrator
from trainer.data.pack import Geometry


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained network, on the processor and in eval mode."""

    origin: str
    """Where it was read, for people: path or address, and step."""
    network: nn.Module
    model: str
    head: str
    findings: tuple[str, ...]
    loss: Literal["bce", "cross_entropy"]
    geometry: Geometry
    """How images became the records it was trained on."""
    crop_px: int
    calibrator: Calibrator | None
    trained_on: Mapping[str, str] | None
    """Split (`train`, `val`, `test`) by image name, as `split.csv.gz` of the run says; None where that is unknown."""
    record: Mapping[str, Any] | None
    """run.json of its run."""
    step: int | None


def open_trained(place: str, *, step: str = "best", cache: Path | None = None) -> Trained:
    """The model at `place`: a run, `RUN/checkpoints/step-…`, a `.safetensors` file, or a file of weights.

    `step` is `best`, `last` or a number, of a run. What must be downloaded goes to `cache`.

    Raises: InputError, RemoteError.
    """
    raise NotImplementedError
