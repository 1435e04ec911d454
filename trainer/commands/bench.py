"""`trainer bench`."""

import json
import sys
from typing import Literal

from trainer.config import Precision
from trainer.runtime.console import Reporter
from trainer.training.bench import Workload, as_json, as_table, devices_named, timed


def bench(
    *,
    device: str = "auto",
    model: Literal["densenet121", "vgg16", "resnet50", "densenet_tiny"] = "densenet121",
    head: Literal["linear", "hidden"] = "linear",
    backbone: Literal["trained", "frozen"] = "trained",
    mode: Literal["train", "predict"] = "train",
    batch_size: int = 64,
    crop_px: int = 224,
    steps: int = 5,
    precision: Precision = "auto",
    format: Literal["table", "json"] = "table",  # noqa: A002 - the flag's name
) -> None:
    """Time a model per batch on several devices, one after the other, and compare; needs no data.

    Parameters
    ----------
    device
        Which, as `cpu,cuda`; the first is what the others are compared with. One that is not there is an error before anything is timed.
    model
        Backbone; `densenet_tiny` is for trying things out.
    head
        What turns the backbone's features into answers: `linear` for 14 findings, `hidden` for two classes.
    backbone
        Train all weights, or the head's alone.
    mode
        Time a training step, or a prediction.
    batch_size
        Images per batch.
    crop_px
        Side, in pixels, of what the model sees.
    steps
        Batches to time; three more before them, which compile and allocate, are left out.
    precision
        Arithmetic of the forward pass; `auto` is bf16 on cuda and hpu, fp32 on cpu.
    format
        How to print it.
    """
    workload = Workload(
        model=model,
        head=head,
        frozen=backbone == "frozen",
        mode=mode,
        batch_size=batch_size,
        crop_px=crop_px,
        steps=steps,
    )
    reporter = Reporter(None)
    timings = [timed(one, workload, precision, reporter) for one in devices_named(device)]
    if format == "json":
        sys.stdout.write(json.dumps(as_json(timings, workload), indent=1) + "\n")
    else:
        sys.stdout.write(as_table(timings, workload) + "\n")
