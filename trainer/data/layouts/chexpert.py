"""Layout `chexpert`: CheXpert's `train.csv` and `valid.csv`, full size or small, and `test_labels.csv` where it is there.

Source: the tables of CheXpert v1.0-small (Irvin et al. 2019, arXiv:1901.07031). Not tested on the original: `valid.csv`,
`test_labels.csv`.
"""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Final, NamedTuple

from trainer.data.label_cells import labels_of
from trainer.data.label_files import Rows, cells_of, header_of
from trainer.data.labels import SPLITS
from trainer.data.layouts.files import optional_file, single_file
from trainer.data.layouts.source import RawSource, Request
from trainer.data.names import plain
from trainer.data.patients import patient_in_name
from trainer.errors import InputError

REQUIRED: Final = ("train.csv", "valid.csv")
LABELS_ONLY: Final = ("train.csv",)
COLUMNS: Final = ("Path", "Frontal/Lateral", "AP/PA")
UNCERTAIN: Final = "ignore"
BLANK: Final = "zeros"

FOLDER: Final = "CheXpert-v1.0*"
"""Folder of the release, for a `--data` that is its parent."""

TEST: Final = "test_labels.csv"

NO_FINDING: Final = "No Finding"

FINDINGS: Final = (
    *("Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation"),
    *("Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
"""The labels but `No Finding`, which is derived from them and read only where `--findings` names it."""

CARVED_SHARE: Final = Fraction(1, 10)
"""Share of the patients of train that become the split which the set lacks."""

_SPLIT_FOLDERS: Final = ("train", "valid", "test")


def read(request: Request) -> RawSource:
    """The labels; `valid.csv` is validation or test, and what is missing then is taken from train by patient."""
    _check_valid_as(request)
    files = [single_file(request.data, request.entries, "train.csv")]
    valid = optional_file(request.data, request.entries, "valid.csv")
    test = optional_file(request.data, request.entries, TEST) if request.reading.use_of_valid() == "val" else None
    findings = (*([NO_FINDING] if request.wants(NO_FINDING) else []), *FINDINGS)
    rows = Rows()
    _add(rows, _by_image(files[0], findings, rows.problems), findings, SPLITS.index("train"))
    if valid is not None:
        files.append(valid)
        _add(rows, _by_image(valid, findings, rows.problems), findings, SPLITS.index(request.reading.use_of_valid()))
    if test is not None:
        files.append(test)
        _add(rows, _of_test(test, request.data, findings, rows.problems), findings, SPLITS.index("test"))
    carved, notes = _missing_split(request, has_test=test is not None)
    return RawSource(
        table=rows.table(request.data, findings),
        files=tuple(files),
        carved=carved,
        placement="paths",
        notes=notes,
        split_findings=FINDINGS,
    )


def _check_valid_as(request: Request) -> None:
    """Raises: InputError where a split is requested for all images."""
    if not request.given and "valid_as" in request.choices.given():
        raise InputError(
            "cannot use --valid-as: a split of all images is requested (from `--split`)",
            hint="remove --valid-as or --split",
        )


def _missing_split(request: Request, *, has_test: bool) -> tuple[dict[str, Fraction], tuple[str, ...]]:
    """The split that neither file gives, and a note about it."""
    if not request.given or has_test:
        return {}, ()
    valid_as = request.reading.use_of_valid()
    missing = "test" if valid_as == "val" else "val"
    other = f"; --valid-as test tests on it, and {TEST} in the directory is read as test" if valid_as == "val" else ""
    return {missing: CARVED_SHARE}, (
        f"valid.csv is {valid_as}; {missing} is {CARVED_SHARE} of the patients of train{other}",
    )


class _Image(NamedTuple):
    """A row of a table, for one image."""

    where: str
    name: str
    cells: tuple[str, ...]
    view: str


def _add(rows: Rows, images: Iterable[_Image], findings: tuple[str, ...], split: int) -> None:
    """Add images, or problems."""
    for image in images:
        patient = patient_in_name(image.name)
        if not patient:
            rows.problems.append(f"{image.where}: no patient and study in the path, got `{image.name}`")
            continue
        try:
            labels = labels_of(findings, image.cells)
        except ValueError as problem:
            rows.problems.append(f"{image.where}: {problem}")
        else:
            rows.add(image.where, image.name, patient, labels, split, view=image.view)


def _by_image(path: Path, findings: tuple[str, ...], problems: list[str]) -> Iterator[_Image]:
    """The images of `train.csv` or `valid.csv`."""
    for where, (written, plane, view, *cells) in cells_of(path, [*COLUMNS, *findings], problems):
        yield _Image(where, image_name(written), tuple(cells), _view(plane, view))


def image_name(written: str) -> str:
    """The path below the release's folder, which has another name in each release: `train/patient00001/study1/…`."""
    parts = plain(written).split("/")
    first = next((place for place, part in enumerate(parts) if part in _SPLIT_FOLDERS), 0)
    return "/".join(parts[first:])


def _view(plane: str, view: str) -> str:
    if plane == "Lateral":
        return "LATERAL"
    return view if view in {"AP", "PA"} else ""


def _of_test(path: Path, data: Path, findings: tuple[str, ...], problems: list[str]) -> Iterator[_Image]:
    """The images of the test table, which has a row per image (`Path`) or per study (`Study`)."""
    key = "Study" if "Study" in header_of(path) else "Path"
    for where, (written, *cells) in cells_of(path, [key, *findings], problems):
        name = image_name(written)
        images = [name] if key == "Path" else _images_of(data, name)
        if not images:
            problems.append(f"{where}: study without image, got `{name}`")
        for image in images:
            yield _Image(where, image, tuple(cells), "LATERAL" if "lateral" in image else "")


def _images_of(data: Path, study: str) -> Sequence[str]:
    """Images in the folder of a study, sorted."""
    return [path.relative_to(data).as_posix() for path in sorted((data / study).glob("view*_*.*"))]
