"""`trainer stats`."""

import sys
from pathlib import Path
from typing import Literal

from trainer.config import Layout
from trainer.data.layouts import read_labels
from trainer.data.prevalence import as_csv, as_json, as_table, prevalence
from trainer.evaluation.label_file import caveats


def stats(
    *,
    data: Path,
    layout: Layout = "auto",
    split: str = "given",
    val_list: str | None = None,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 - the flag's name
) -> None:
    """Print the prevalence of each finding, and the number of images and patients, per split. Reads no images.

    Parameters
    ----------
    data
        Directory of the data set.
    layout
        Layout of the data set; `auto` detects it.
    split
        `given` by the data set, or `patients:A/B/C[@SEED]`.
    val_list
        File with the names of the validation images (NIH layout).
    format
        Output format.
    """
    source = read_labels(data, layout=layout, split=split, val_list=val_list)
    for note in caveats(source):
        sys.stderr.write(f"note: {note}\n")
    form = {"table": as_table, "csv": as_csv, "json": as_json}[format]
    sys.stdout.write(form(prevalence(source.table)).rstrip("\n") + "\n")
