"""Documents in a run's prefix; all but the record may be missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainer.errors import InputError
from trainer.evaluation import document
from trainer.evaluation.document import Evaluation
from trainer.formats import documents
from trainer.formats.documents import Results
from trainer.layout import EVALUATION, REPORT_GALLERY, RESULTS, RUN
from trainer.redaction import cleaned
from trainer.report import pictures
from trainer.report.pictures import Picture
from trainer.runs import history
from trainer.storage import AbsentError, Storage

GALLERY: Final = REPORT_GALLERY

_ALL_STEPS: Final = 2**62


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Documents of a run, as read."""

    run: Mapping[str, Any]
    """run.json."""
    entries: Sequence[Mapping[str, Any]]
    """metrics.jsonl without unreadable lines."""
    results: Mapping[str, Any] | None = None
    """results.json; None for a run that has not ended."""
    evaluation: Evaluation | None = None
    """evaluation/metrics.json; None for a run that has not been evaluated."""
    pictures: Sequence[Picture] | None = None
    """The gallery; None without one."""
    why_none: str = ""
    """Why there is none, for the reader."""

    @property
    def name(self) -> str:
        return str(self.run.get("name", "run"))

    def setting(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """Value of this key in run.json, in its identity, configuration or top level; None without one."""
        for section in (self.run.get("identity"), self.run.get("config"), self.run):
            if isinstance(section, Mapping) and section.get(key) is not None:
                return section[key]
        return None

    def result(self, *keys: str) -> Any:  # noqa: ANN401 - JSON
        """Value at these nested keys of results.json; None without one."""
        value: Any = self.results
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read(storage: Storage) -> Documents:
    """The documents of the run in this storage.

    Raises: InputError where there is no run, or a document is invalid; RemoteError as the storage.
    """
    run = documents.run_record(storage)
    if run is None:
        raise InputError(
            f"cannot report on `{storage.url}`: it has no `{RUN}`",
            hint="use OUTPUT/NAME of a run, or a directory made by `launcher pull`",
        )
    try:
        gallery = pictures.from_bytes(documents.content_of(storage, GALLERY))
    except AbsentError:
        gallery = None
    return Documents(
        run=cleaned(run),  # earlier versions did not redact everything
        entries=history.read(storage, _ALL_STEPS),  # invalid lines are skipped there
        results=_results(storage),
        evaluation=_evaluation(storage),
        pictures=gallery,
    )


def _evaluation(storage: Storage) -> Evaluation | None:
    try:
        return document.from_json(documents.content_of(storage, EVALUATION), f"{storage.url}/{EVALUATION}")
    except AbsentError:
        return None


def _results(storage: Storage) -> Mapping[str, Any] | None:
    try:
        return documents.read(storage, RESULTS, Results)
    except AbsentError:
        return None
