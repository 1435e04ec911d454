"""`trainer report`."""

import dataclasses
import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from trainer import report as reports
from trainer.errors import InputError
from trainer.report import Documents, runs_page
from trainer.report import sizes as tables
from trainer.runs.ownership import check_record
from trainer.storage import open_storage, output_files

Form = Literal["html", "table", "csv", "json"]


def report(
    runs: Annotated[list[str], Parameter(name="RUN")],
    /,
    *,
    out: str | None = None,
    format: Form = "html",  # noqa: A002 - the flag's name
    gallery: Literal["auto", "on", "off"] = "auto",
    data: str | None = None,
) -> None:
    """Write the report of a run again, or a report that compares several runs.

    Parameters
    ----------
    runs
        Runs: directories, s3://BUCKET/PREFIX/NAME, or copies made by `launcher pull`.
    out
        Destination: a directory, s3://BUCKET/PREFIX or, for one run, FILE.html; default: the run's own report/. Required for
        several runs.
    format
        `html` writes files; the others print one row per run.
    gallery
        Images of the most confident errors: `auto` keeps those of the existing report, `on` makes new ones for any data set,
        `off` leaves them out.
    data
        Directory of the data set, for `--gallery on`; default: its place in the run.
    """
    documents = [reports.read(open_storage(run)) for run in runs]
    if format != "html":
        sys.stdout.write(_FORMS[format](reports.scaled(documents)).rstrip("\n") + "\n")
        return
    if len(documents) > 1:
        _compare(documents, out)
        return
    document = documents[0]
    if gallery == "off":
        document = dataclasses.replace(document, pictures=None, why_none="by `--gallery off`")
    elif gallery == "on":
        document = _with_gallery(runs[0], document, data)
    _write(document, runs[0], out)


def _compare(documents: list[Documents], out: str | None) -> None:
    if out is None or out.endswith(".html"):
        raise InputError(
            f"cannot write a comparison of {len(documents)} runs: it must be a directory, got {f'`{out}`' if out else 'none'} (from `--out`)",
            hint="use --out DIR, or --format table to print it",
        )
    storage = open_storage(out)
    output_files.check(storage, runs_page.FILES, beside=runs_page.PAGE)
    reports.write_comparison(storage, documents)
    sys.stdout.write(f"{storage.url.rstrip('/')}/{runs_page.PAGE}\n")


def _write(document: Documents, run: str, out: str | None) -> None:
    """Write the report's files to the run or a directory, or only its page to a file; prints the page's path."""
    if out is not None and out.endswith(".html"):
        folder, _, name = out.rpartition("/")
        open_storage(folder or ".").write(name, reports.html(document).encode())
        sys.stdout.write(f"{out}\n")
        return
    storage = open_storage(run if out is None else out)
    content = reports.files(document)
    if out is None:
        check_record(storage)
    page = next(key for key in content if key.endswith(".html"))
    if out is not None:
        content = {key.rpartition("/")[2]: content for key, content in content.items()}
        page = page.rpartition("/")[2]
        output_files.check(storage, content, beside=page)
    for key, file in content.items():
        storage.write(key, file)
    if out is None and reports.GALLERY not in content:
        storage.delete(reports.GALLERY)
    sys.stdout.write(f"{storage.url.rstrip('/')}/{page}\n")


def _with_gallery(run: str, document: Documents, data: str | None) -> Documents:
    from trainer.explanation.gallery import of_run  # noqa: PLC0415 - imports torch, needed only here

    pictures = of_run(run, document.run, data=data)
    return dataclasses.replace(document, pictures=pictures, why_none="there are no errors")


_FORMS = {"table": runs_page.as_text, "csv": tables.as_csv, "json": tables.as_json}
