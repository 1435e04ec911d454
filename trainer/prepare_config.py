"""Configuration of `trainer prepare`: one frozen dataclass, and conversion from and to flags."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import App, CycloptsError, Parameter

from trainer.config import (
    Layout,
    OnBadImage,
    OnMissingImage,
    PackFit,
    check_gray_range,
    flag_of,
    usage_problem,
)
from trainer.errors import InputError, on_one_line
from trainer.label_choices import Choice, Plain, Readers, ValidAs
from trainer.location import expanded_words

MOST_SIDE_PX: Final = 4096
LEAST_SIDE_PX: Final = 8
MOST_WORKERS: Final = 1024
MOST_SHARES: Final = 10_000
_SHARE: Final = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What to prepare, how, and where to.

    Raises: InputError, on construction, for values that cannot be used.
    """

    data: str
    """Data set with its label files, and images as files or in archives (.tar.gz, .tgz, .tar, .zip): a directory, or s3://BUCKET/PREFIX."""

    out: str
    """Directory or s3://BUCKET/PREFIX for the prepared set; new, empty, or with what an earlier start of the same command has left."""

    pack_side: int = 256
    """Side of the records in pixels; must be that of the recipe that trains on them."""

    pack_fit: PackFit = "crop"
    """How to make images square: `crop` the centre, `pad` with black, or `squash`."""

    gray_range: str | None = None
    """Values of 16-bit images shown as black to white: `full` (16 bits), or a number of bits; required where 12 bits or fewer are used."""

    layout: Layout = "auto"
    """Layout of the data set; `auto` detects it."""

    split: str = "given"
    """`given` by the data set, or `patients:A/B/C[@SEED]`; a training may still make another one."""

    val_list: str | None = None
    """File with the names of the validation images (NIH layout)."""

    on_bad_image: OnBadImage = "fail"
    """Unreadable images: `fail` at the end with all their names, or `skip` them and list them in the index."""

    on_missing_image: OnMissingImage = "fail"
    """Images of the label files that are in no archive and no folder: `fail`, or `skip` them and record how many."""

    valid_as: Choice[ValidAs] = "val"
    """Use of CheXpert's valid.csv: validation, or test."""

    readers: Choice[Readers] = "majority"
    """Labels of several readers of an image (layout vindr): what the majority says, or the mean as a soft label."""

    physician_labels_only: Plain[bool] = False
    """Use only images whose labels are by physicians (layout padchest)."""

    workers: int | None = None
    """Processes that decode; default: one for each CPU of this process."""

    parts: str | None = None
    """`K/N` prepares only the K-th of N shares; the share that ends last writes the index."""

    def __post_init__(self) -> None:
        """Check each value."""
        check_gray_range(self.gray_range)
        if self.gray_range == "used":
            raise InputError(
                "cannot prepare with `--gray-range used`: the bits in use are known only after all images are read",
                hint="--gray-range NUMBER, or --gray-range full",
            )
        _check_between("pack_side", self.pack_side, LEAST_SIDE_PX, MOST_SIDE_PX)
        if self.workers is not None:
            _check_between("workers", self.workers, 1, MOST_WORKERS)
        self.share  # noqa: B018 - checked

    @property
    def share(self) -> tuple[int, int] | None:
        """K and N of `--parts K/N`; None for all parts and the index. Raises: InputError."""
        if self.parts is None:
            return None
        match = _SHARE.fullmatch(self.parts)
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= MOST_SHARES:
            raise InputError(
                f"cannot use `{on_one_line(self.parts)}` as a share: it must be K/N with K from 1 to N (from `--parts`)",
                hint="--parts 1/4",
            )
        return int(match[1]), int(match[2])


def _check_between(field: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InputError(f"cannot use {flag_of(field)} {value}: it must be from {least} to {most}")


def from_argv(argv: Sequence[str]) -> PrepareConfig:
    """The configuration that these flags of `trainer prepare` mean. Raises: InputError."""
    parser = App(name="prepare", help_flags=(), version_flags=())
    parser.default(_same)
    try:
        _, bound, _ = parser.parse_args(expanded_words(argv), exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise InputError(
            f"cannot use the flags of `trainer prepare`: {usage_problem(problem)}",
            hint="`python -m trainer prepare --help` lists the flags",
        ) from problem
    config: PrepareConfig = bound.arguments["config"]
    return config


def _same(config: Annotated[PrepareConfig, Parameter(name="*")]) -> PrepareConfig:
    return config


def to_argv(config: PrepareConfig) -> list[str]:
    """The flags of `trainer prepare` that mean this configuration."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    flags = {name: value for name, value in values.items() if value is not None and not isinstance(value, bool)}
    switches = [flag_of(name) for name, value in values.items() if value is True]
    return [*(f"{flag_of(name)}={value}" for name, value in flags.items()), *switches]
