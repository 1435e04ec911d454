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
    """Compare the time per batch of a model on several devices, one after the other. Needs no data.

    Parameters
    ----------
    device
        Devices to compare, such as `cpu,cuda`; the first is the reference. An unusable device is an error before anything is
        timed.
    model
        Backbone; `densenet_tiny` is for tests.
    head
        Head on the backbone's features: `linear` for 14 findings, `hidden` for two classes.
    backbone
        Train all weights, or only those of the head.
    mode
        Time a training step, or a prediction.
    batch_size
        Images per batch.
    crop_px
        Side of the model's input in pixels.
    steps
        Batches to time, after three warm-up batches, which compile and allocate.
    precision
        Arithmetic of the forward pass; `auto` is bf16 on cuda and hpu, fp32 on cpu.
    format
        Output format.
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
