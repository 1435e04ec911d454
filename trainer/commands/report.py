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
    """Write the report of a run anew, or one that compares several runs.

    Parameters
    ----------
    runs
        Runs: directories, s3://BUCKET/PREFIX/NAME, or what `launcher pull` made of one.
    out
        Where to write: a directory, s3://BUCKET/PREFIX or, of one run, FILE.html; the run's own report/ unless given. Several runs need it.
    format
        `html` writes files; the others print a row for each run.
    gallery
        Images of the most confident errors: `auto` keeps those that the report has, `on` makes them anew, whatever data set they
        are of, `off` leaves them out.
    data
        Directory of the data set, for `--gallery on`; where the run had it unless given.
    """
    found = [reports.read(open_storage(run)) for run in runs]
    if format != "html":
        sys.stdout.write(_FORMS[format](reports.scaled(found)).rstrip("\n") + "\n")
        return
    if len(found) > 1:
        _compare(found, out)
        return
    document = found[0]
    if gallery == "off":
        document = dataclasses.replace(document, pictures=None, why_none="`--gallery off` was given")
    elif gallery == "on":
        document = _with_gallery(runs[0], document, data)
    _write(document, runs[0], out)


def _compare(found: list[Documents], out: str | None) -> None:
    if out is None or out.endswith(".html"):
        raise InputError(
            f"cannot write a comparison of {len(found)} runs: it needs a directory, got {f'`{out}`' if out else 'none'} (from `--out`)",
            hint="--out DIR, or --format table prints it",
        )
    storage = open_storage(out)
    output_files.check(storage, runs_page.FILES, beside=runs_page.PAGE)
    reports.write_comparison(storage, found)
    sys.stdout.write(f"{storage.url.rstrip('/')}/{runs_page.PAGE}\n")


def _write(document: Documents, run: str, out: str | None) -> None:
    """Write files of a report to the run, to a directory or its page alone to a file; tell where the page is."""
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
    from trainer.explanation.gallery import of_run  # noqa: PLC0415 - torch, which a report needs for this alone

    pictures = of_run(run, document.run, data=data)
    return dataclasses.replace(document, pictures=pictures, why_none="no error was found")


_FORMS = {"table": runs_page.as_text, "csv": tables.as_csv, "json": tables.as_json}
