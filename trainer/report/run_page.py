"""Page of one run, with sections in the order of a reviewer's questions."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, get_type_hints

from trainer.config import TrainConfig
from trainer.errors import InputError, on_one_line
from trainer.formats.documents import Record, Results, checked
from trainer.layout import REPORT, REPORT_CURVES
from trainer.report import (
    calibration_sections,
    cohort_section,
    evaluation_sections,
    history_figures,
    pictures,
    run_sections,
    subgroup_sections,
)
from trainer.report.documents import GALLERY, Documents, read
from trainer.report.formatting import last_name
from trainer.report.page import Section, page
from trainer.report.positive_class import of_positive_class
from trainer.storage import Storage

CURVES: Final = REPORT_CURVES


def files(documents: Documents) -> dict[str, bytes]:
    """Files of a run's report, by key in the run's prefix."""
    content = {REPORT: html(documents).encode(), CURVES: history_figures.curves_png(documents.entries)}
    if documents.pictures:
        content[GALLERY] = pictures.to_bytes(documents.pictures)
    return content


def write(storage: Storage) -> None:
    """Rewrite the report of the run in this storage from its documents; the gallery is kept.

    Raises: InputError where there is no run, or a document is invalid; RemoteError as the storage.
    """
    for key, content in files(read(storage)).items():
        storage.write(key, content)


def html(documents: Documents) -> str:
    """The page. Raises: InputError when run.json or results.json does not match this version."""
    try:
        shown = _of_positive_class(documents)
        sections = [section(shown) for section in _SECTIONS]
        return page(f"Run {documents.name}", _subtitle(documents), sections)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as problem:
        misfit = _misfit(documents)
        if misfit is None:  # a bug of this program
            raise
        raise InputError(
            f"cannot report on the run `{documents.name}`: one of its documents is invalid: {misfit}",
            hint="it may have been written by another version",
        ) from problem


def _of_positive_class(documents: Documents) -> Documents:
    if documents.evaluation is None:
        return documents
    return replace(documents, evaluation=of_positive_class(documents.evaluation))


def _misfit(documents: Documents) -> str | None:
    """The first mismatch of the run's record or results with this version; None without one."""
    try:
        checked(documents.run, Record)
        config = checked(documents.run.get("config", {}), dict[str, Any], "config")
        for name, kind in get_type_hints(TrainConfig, include_extras=True).items():  # earlier versions had fewer
            checked(config.get(name), kind | None, f"config.{name}")
        checked(documents.setting("findings") or [], list[str], "findings")
        checked(documents.results or {}, Results)
    except ValueError as problem:
        return on_one_line(str(problem))
    return None


def _subtitle(documents: Documents) -> str:
    data = last_name(str(documents.setting("data") or "unknown data"))
    return f"{documents.setting('model') or 'A model'}, trained on {data}"


_SECTIONS: Final[Sequence[Callable[[Documents], Section]]] = (
    run_sections.summary,
    evaluation_sections.roc,
    run_sections.data,
    evaluation_sections.findings,
    evaluation_sections.precision_recall,
    calibration_sections.calibration,
    calibration_sections.decision,
    evaluation_sections.operating,
    subgroup_sections.subgroups,
    cohort_section.cohort,
    evaluation_sections.references,
    evaluation_sections.comparison,
    evaluation_sections.shortcuts,
    run_sections.gallery,
    run_sections.curves,
    run_sections.speed,
    run_sections.notes,
    cohort_section.stated,
    run_sections.configuration,
    run_sections.versions,
)
