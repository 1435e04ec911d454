"""Tables of predictions of any model: `Image Index`, then columns `prob_<finding>`, in any order.

Where there are columns `raw_<finding>` too, as in files of this program, these are uncalibrated and `prob_<finding>` calibrated;
otherwise `prob_<finding>` is read as uncalibrated. Other columns are ignored. The file may be compressed (.gz). Shapes: N images, K
findings.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.label_files import csv_rows
from trainer.errors import InputError, listing
from trainer.evaluation import rename
from trainer.evaluation.image_names import matched
from trainer.evaluation.metrics import Floats
from trainer.formats import spreadsheet

PREFIX: Final = "prob_"
RAW: Final = "raw_"

_IMAGE: Final = "Image Index"

_LEAST: Final = 1e-7
"""Distance from 0 or 1 assumed for probabilities written as 0 or 1, as log-odds must be finite: float32 resolution at 1."""

_HINT: Final = (
    f"the first line must have the column names: `{_IMAGE}`, then `{PREFIX}Atelectasis` and so on, one for each finding"
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's predictions for each image."""

    path: Path
    images: tuple[str, ...]
    findings: tuple[str, ...]
    probabilities_NK: Floats
    """Uncalibrated, as given: images are ranked by them, as different probabilities may have equal log-odds."""
    calibrated_NK: Floats | None = None
    """Calibrated; None for a file without such."""
    unused: tuple[str, ...] = ()
    """Findings in the file that are not among `findings`."""
    notes: tuple[str, ...] = ()
    """What was changed to fit the labels."""

    @property
    def log_odds_NK(self) -> Floats:  # noqa: N802 - a shape suffix
        """Uncalibrated log-odds, as `finite_log_odds`."""
        return finite_log_odds(self.probabilities_NK)

    def _changed(self, change: Callable[[Floats], Floats]) -> "Predictions":
        """With columns or rows changed on both scales alike."""
        calibrated_NK = self.calibrated_NK
        return replace(
            self,
            probabilities_NK=change(self.probabilities_NK),
            calibrated_NK=None if calibrated_NK is None else change(calibrated_NK),
        )

    def named(self, known: Sequence[str]) -> "Predictions":
        """The predictions with the image names of the labels. Raises: InputError for ambiguous names."""
        images = tuple(matched(self.images, known, str(self.path)))
        changed = sum(ours != theirs for ours, theirs in zip(images, self.images, strict=True))
        if not changed:
            return self
        note = (
            f"{self.path.name}: {changed:,} of {len(images):,} images have other folders in their names than in the labels, "
            "and were matched by file name"
        )
        return replace(self, images=images, notes=(*self.notes, note))

    def spelled(self, labels: Sequence[str]) -> "Predictions":
        """With the labels' spelling of findings that differ in case, blanks and signs only, such as `Pleural Thickening`."""
        counts = Counter(map(_letters, labels))
        by_letters = {_letters(name): name for name in labels if _letters(name) and counts[_letters(name)] == 1}
        free = set(labels) - set(self.findings)
        names = [
            spelled if (spelled := by_letters.get(_letters(name), name)) in free else name for name in self.findings
        ]
        if len(set(names)) < len(names):
            return self
        notes = [
            f"{self.path.name}: `{PREFIX}{name}` is taken for {spelled}"
            for name, spelled in zip(self.findings, names, strict=True)
            if name != spelled
        ]
        return replace(self, findings=tuple(names), notes=(*self.notes, *notes))

    def joined(self, labels: Mapping[str, Sequence[str]], *, require_all: bool = True) -> "Predictions":
        """The predictions with a column for each of these labels: the highest probability of its findings.

        These findings' own columns are removed, unless they are labels too.

        Raises: InputError for findings without a column, unless labels may be left out.
        """
        sources = {name for findings in labels.values() for name in findings}
        missing = sources - set(self.findings)
        if missing and require_all:
            listed = listing(f"no column `{PREFIX}{name}`" for name in sorted(missing))
            raise InputError(
                f"cannot rename: findings without predictions, got `{self.path}` (from `{rename.FLAG}`){listed}",
                hint=f"its columns are for {', '.join(self.findings)}",
            )
        kept = [name for name in self.findings if name not in sources and name not in labels]
        labels = {label: findings for label, findings in labels.items() if not missing & set(findings)}
        columns = [[self.findings.index(name)] for name in kept]
        columns += [[self.findings.index(name) for name in findings] for findings in labels.values()]
        highest = self._changed(
            lambda values_NK: np.array([values_NK[:, each].max(axis=1) for each in columns]).reshape(len(columns), -1).T
        )
        notes = [_joined_note(self.path.name, label, findings) for label, findings in labels.items()]
        return replace(highest, findings=(*kept, *labels), notes=(*self.notes, *filter(None, notes)))

    def completed(self, classes: Sequence[str]) -> "Predictions":
        """With both columns where `classes` are the only two classes of an image and the file has one of them."""
        given = [name for name in classes if name in self.findings]
        if len(classes) != 2 or len(given) != 1:
            return self
        (other,) = set(classes) - set(given)
        column = self.findings.index(given[0])
        both = self._changed(lambda values_NK: np.column_stack([values_NK, 1 - values_NK[:, column]]))
        note = f"{self.path.name}: no column `{PREFIX}{other}`, used is 1 - `{PREFIX}{given[0]}`"
        return replace(both, findings=(*self.findings, other), notes=(*self.notes, note))

    def of(self, labels: Sequence[str]) -> "Predictions":
        """The predictions of the labels that have some, in the order of the labels. Raises: InputError where there are none."""
        findings = [name for name in labels if name in self.findings]
        if not findings:
            raise InputError(
                f"cannot use the predictions: no column is for one of the labels, got `{self.path}` with columns for "
                f"{', '.join(self.findings)} and labels {', '.join(labels)}",
                hint=f'{_HINT}; `--rename "LABEL=FINDING"` evaluates a finding on a label of another name',
            )
        order = [self.findings.index(name) for name in findings]
        unused = tuple(name for name in self.findings if name not in findings)
        return replace(self._changed(lambda values_NK: values_NK[:, order]), findings=tuple(findings), unused=unused)

    def at(self, images: Sequence[str]) -> "Predictions":
        """The predictions of these images, in this order. Raises: InputError that lists missing ones."""
        row_of = {name: row for row, name in enumerate(self.images)}
        missing = [name for name in images if name not in row_of]
        if missing:
            raise InputError(
                f"cannot use the predictions: {len(missing):,} of {len(images):,} images are missing, got `{self.path}`"
                f"{listing(missing)}",
                hint="every evaluated image needs a row",
            )
        rows = np.array([row_of[name] for name in images], np.intp)
        return replace(self._changed(lambda values_NK: values_NK[rows]), images=tuple(images))

    def rows_in(self, images: Sequence[str]) -> NDArray[np.int64]:
        """Row of each predicted image in `images`. Raises: InputError for images that are not in it."""
        row_of = {name: row for row, name in enumerate(images)}
        unknown = [name for name in self.images if name not in row_of]
        if unknown:
            raise InputError(
                f"cannot use the predictions: {len(unknown):,} of {len(self.images):,} images have no labels, got `{self.path}`"
                f"{listing(unknown)}",
                hint="use the image names of the labels; remove images without labels",
            )
        return np.array([row_of[name] for name in self.images], np.int64)


def finite_log_odds(probabilities_NK: Floats) -> Floats:
    """Log-odds that are finite also for 0 and 1: these are replaced by `_LEAST`, or by the nearest other value if that is closer."""
    yes_NK, no_NK = probabilities_NK, 1 - probabilities_NK
    least = min([_LEAST, *(values[values > 0].min(initial=_LEAST) for values in (yes_NK, no_NK))])
    log_odds_NK: Floats = np.log(np.maximum(yes_NK, least)) - np.log(np.maximum(no_NK, least))
    return log_odds_NK


def _letters(name: str) -> str:
    return "".join(char for char in name.casefold() if char.isalnum())


def _joined_note(file: str, label: str, findings: Sequence[str]) -> str:
    if tuple(findings) == (label,):
        return ""
    sources = " and ".join(f"`{PREFIX}{name}`" for name in findings)
    return f"{file}: {label} is {'the highest of ' * (len(findings) > 1)}{sources}"


def read(path: Path) -> Predictions:
    """Read a file of predictions.

    Raises: InputError with all problems: columns, invalid probabilities, duplicate images.
    """
    return of_rows(path, csv_rows(path))


def of_rows(path: Path, table: Iterator[tuple[int, list[str]]]) -> Predictions:
    """Predictions from the rows of a table at `path`. Raises: InputError as `read`."""
    _, header = next(table, (0, []))
    columns = _columns(path, header)
    image_column = header.index(_IMAGE)
    line_of: dict[str, int] = {}
    values: list[list[float]] = []
    problems: list[str] = []
    for line, cells in table:
        image = spreadsheet.read(cells[image_column]) if len(cells) == len(header) else ""
        try:
            row = _probabilities(header, cells, columns)
        except ValueError as problem:
            problems.append(f"line {line}: {problem}")
            continue
        if not image or image in line_of:
            problems.append(
                f"line {line}: "
                + (f"`{image}` is listed twice, first in line {line_of[image]}" if image else "no image")
            )
            continue
        line_of[image] = line
        values.append(row)
    if problems or not values:
        counted = f"{len(problems)} problem{'s' * (len(problems) != 1)}" if problems else "no row"
        raise InputError(
            f"cannot use the predictions: {counted}, got `{path}`{listing(problems)}",
            hint="a probability is a number from 0 to 1; no row is skipped or guessed",
        )
    findings = tuple(header[column].removeprefix(PREFIX) for column in columns if header[column].startswith(PREFIX))
    values_NM = np.array(values, np.float64)
    if len(columns) > len(findings):
        calibrated_NK, raw_NK = np.split(values_NM, 2, axis=1)
        return Predictions(path, tuple(line_of), findings, raw_NK, calibrated_NK)
    note = f"{path.name}: it has no columns `{RAW}…`, so `{PREFIX}…` are read as uncalibrated probabilities"
    return Predictions(path, tuple(line_of), findings, values_NM, notes=(note,))


def _columns(path: Path, header: Sequence[str]) -> list[int]:
    """The columns of probabilities, then those of uncalibrated ones in the same order of findings, if there are any."""
    columns = [number for number, name in enumerate(header) if name.startswith(PREFIX)]
    findings = [header[number].removeprefix(PREFIX) for number in columns]
    raw = {name: header.index(f"{RAW}{name}") for name in findings if f"{RAW}{name}" in header}
    problems = [f"column `{name}` more than once" for name in sorted(set(header)) if name and header.count(name) > 1]
    problems += [f"no column `{_IMAGE}`"] * (_IMAGE not in header)
    problems += [f"no column `{PREFIX}…`"] * (not columns)
    problems += [f"no column `{RAW}{name}` beside `{PREFIX}{name}`" for name in findings if raw and name not in raw]
    if problems:
        raise InputError(
            f"cannot use the predictions: unusable first line, got `{path}`{listing(problems)}", hint=_HINT
        )
    return [*columns, *(raw[name] for name in findings if raw)]


def _probabilities(header: Sequence[str], cells: Sequence[str], columns: Sequence[int]) -> list[float]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} columns instead of {len(header)}")
    row = []
    for column in columns:
        try:
            value = math.nan if "_" in cells[column] else float(cells[column])  # Python reads 0_1 as 1
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError(f"{header[column]} is not a probability, got `{cells[column]}`")
        row.append(value)
    return row
