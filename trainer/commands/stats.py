"""`trainer stats`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from trainer.config import Layout, OnMissingImage
from trainer.data.labels import POSITIVE_FROM
from trainer.data.layouts import Source, read_labels
from trainer.data.locate import missing_images, share_present, without_missing
from trainer.data.prevalence import as_csv, as_json, as_table, prevalence
from trainer.errors import on_one_line
from trainer.evaluation.known_labels import fractions
from trainer.evaluation.label_file import caveats
from trainer.label_choices import AS_READ, LabelChoices


def stats(
    *,
    data: Path,
    layout: Layout = "auto",
    split: str = "given",
    val_list: str | None = None,
    on_missing_image: OnMissingImage = "fail",
    choices: Annotated[LabelChoices, Parameter(name="*")] = AS_READ,
    format: Literal["table", "csv", "json"] = "table",  # noqa: A002 - the flag's name
) -> None:
    """Print the prevalence of each finding, and the number of images and patients, per split. Reads no images, and says which are missing.

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
    on_missing_image
        `skip` counts only images that have a file, as training with this flag does.
    choices
        How labels are read.
    format
        Output format.
    """
    source = read_labels(data, layout=layout, split=split, val_list=val_list, choices=choices)
    for note in _notes(source):
        sys.stderr.write(f"note: {note}\n")
    if on_missing_image == "skip":
        source = without_missing(source, missing_images(source))
    form = {"table": as_table, "csv": as_csv, "json": as_json}[format]
    sys.stdout.write(form(prevalence(source.table)).rstrip("\n") + "\n")


def _notes(source: Source) -> Iterator[str]:
    """What training would not read. A data set without any image is a set of labels, as it is before its download."""
    yield from caveats(source)
    if count := fractions(source.table.labels_NK):
        yield f"{count:,} labels are fractions: the percentages count them as positive from {POSITIVE_FROM:g} on"
    missing = missing_images(source)
    used = len(source.table.used())
    if 0 < len(missing) < used:
        yield (
            f"{len(missing):,} of {used:,} images have no file, the first is `{on_one_line(missing[0])}`; "
            f"there are {', '.join(share_present(source, missing))}. Training needs --on-missing-image skip"
        )
    elif missing:
        yield f"none of the {used:,} images is there"
