"""What a run's prefix says of the run; every part but its record may be missing."""

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
    """What a run has left, as it was read."""

    run: Mapping[str, Any]
    """run.json."""
    entries: Sequence[Mapping[str, Any]]
    """metrics.jsonl, without lines that can't be read."""
    results: Mapping[str, Any] | None = None
    """results.json; None of a run that has not ended."""
    evaluation: Evaluation | None = None
    """evaluation/metrics.json; None of a run that has not been evaluated."""
    pictures: Sequence[Picture] | None = None
    """The gallery; None where none was made."""
    why_none: str = ""
    """Why none was, for people."""

    @property
    def name(self) -> str:
        """The run's name."""
        return str(self.run.get("name", "run"))

    def setting(self, key: str) -> Any:  # noqa: ANN401 - JSON
        """What run.json says under this key, in whichever of its parts; None where it says nothing."""
        for part in (self.run.get("identity"), self.run.get("config"), self.run):
            if isinstance(part, Mapping) and part.get(key) is not None:
                return part[key]
        return None

    def result(self, *keys: str) -> Any:  # noqa: ANN401 - JSON
        """What results.json says there; None where it says nothing."""
        value: Any = self.results
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def read(storage: Storage) -> Documents:
    """The documents of the run at this place.

    Raises: InputError where there is no run, or a document is no JSON of ours; RemoteError as the storage.
    """
    run = documents.run_record(storage)
    if run is None:
        raise InputError(
            f"cannot report on `{storage.url}`: it holds no `{RUN}`",
            hint="give OUTPUT/NAME of a run, or what `launcher pull` made",
        )
    try:
        gallery = pictures.from_bytes(documents.content_of(storage, GALLERY))
    except AbsentError:
        gallery = None
    return Documents(
        run=cleaned(run),  # a run of an earlier version may have written what it should not
        entries=history.read(storage, _ALL_STEPS),  # a line that is no entry is left out there
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
