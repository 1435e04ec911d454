"""The page that compares several runs, and their table."""

import csv
import io
import json
import re

import pytest
from pages import Page
from report_samples import entry, evaluation, record, results, write_run

from trainer import __main__ as program
from trainer import report
from trainer.data.labels import FINDINGS
from trainer.report import runs_page


@pytest.fixture
def runs(tmp_path):
    """Two models at three sizes."""
    folders = []
    for model, slower in (("densenet121", 1.0), ("vgg16", 2.0)):
        for workers, seconds in ((4, 30.0), (1, 100.0), (2, 60.0)):
            name = f"{model}-{workers}"
            outcome = results(name, workers=workers, training_s=seconds * slower, model=model)
            folders.append(
                write_run(
                    tmp_path / name,
                    run=record(name, model=model),
                    entries=[entry(1), entry(2)],
                    outcome=outcome,
                    metrics=evaluation(("NORMAL", "PNEUMONIA"), classes=True),
                )
            )
    return folders


def test_several_runs_become_a_table_a_plot_and_a_page(runs, tmp_path, capsys):
    """The launcher's `scale` reads the table, people read the page."""
    out = tmp_path / "compared"
    assert program.main(["report", *map(str, runs), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}/index.html\n"
    rows = list(csv.DictReader(io.StringIO((out / "scaling.csv").read_text())))
    assert [row["run"] for row in rows] == [f"{model}-{n}" for model in ("densenet121", "vgg16") for n in (1, 2, 4)]
    assert list(rows[0]) == [
        *("run", "model", "workers", "global_batch", "elapsed_s", "images_per_s", "speed_up", "efficiency"),
        *("accuracy", "mean_auroc", "peak_device_memory_bytes", "utilisation", "part", "data", "images"),
    ]
    four = rows[5]
    assert (four["workers"], four["elapsed_s"], four["accuracy"]) == ("4", "60.0", str(560 / 624))
    assert float(four["speed_up"]) == pytest.approx(200 / 60)
    assert float(four["efficiency"]) == pytest.approx(200 / 60 / 4)
    assert (out / "scaling.png").read_bytes().startswith(b"\x89PNG")
    page = Page((out / "index.html").read_text())
    labels = " ".join(one["aria-label"] for one in page.all("svg"))
    for words in (
        "Elapsed time in seconds by number of workers",
        "Speed-up by",
        "Efficiency by",
        "4 workers 83%",
        "Training loss by epoch",
    ):
        assert words in labels
    assert "560 of 624" in page.text


def test_runs_scored_on_other_images_are_in_another_table():
    """Side by side in a column the AUROC of two test sets would be compared."""
    runs = [
        report.Documents(
            run=record(name, data=f"/mnt/host-7/{name}"),
            entries=[],
            evaluation=evaluation(FINDINGS),
            results=results(name),
        )
        for name in ("ours", "theirs")
    ]
    for one, digest in zip(runs, "ab", strict=True):
        one.run["identity"]["labels_sha256"] = digest
    page = Page(runs_page.html(runs, report.scaled(runs)))
    assert len(page.all("table")) == 2
    assert runs_page.DIFFERENT in page.text
    text = runs_page.as_text(report.scaled(runs))
    assert (
        text.index("evaluated on test of ours")
        < text.index("evaluated on test of theirs")
        < text.index(runs_page.DIFFERENT)
    )
    assert "host-7" not in text
    assert "compare only the shapes" not in page.text, "there are no curves"
    same = report.scaled([runs[0], runs[0]])
    assert runs_page.DIFFERENT not in runs_page.as_text(same)


def test_speed_up_is_over_a_run_that_did_the_same_work(tmp_path):
    """Half the epochs in half the time is no speed-up."""
    long, short = (
        report.Documents(
            run=record(f"epochs-{epochs}", epochs=epochs),
            entries=[],
            results=results(workers=workers, training_s=100.0 / workers),
        )
        for epochs, workers in ((6, 1), (3, 2))
    )
    rows = {row.run: row.speed_up for row in report.scaled([long, short])}
    assert rows == {"epochs-6": 1.0, "epochs-3": 1.0}


def test_elapsed_time_is_unknown_where_an_epoch_has_no_duration():
    """A sum with a gap would be a speed-up that never was."""
    entries = [entry(1, seconds=10.0), entry(2, seconds=None)]
    old = report.Documents(run=record(), entries=entries, results=results(training_s=None))
    assert report.scaled([old])[0].elapsed_s is None
    assert report.scaled([old])[0].speed_up is None
    both = report.Documents(run=record(), entries=[entry(1), entry(2)], results=None)
    assert report.scaled([both])[0].elapsed_s == 25.0


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_rows_are_printed_for_people_and_programs(form, runs, capsys):
    """Data on stdout, nothing written."""
    assert program.main(["report", *map(str, runs[:2]), "--format", form]) == 0
    out = capsys.readouterr().out
    assert "densenet121-4" in out
    assert not (runs[0] / "report").exists()
    if form == "json":
        assert json.loads(out)[0]["accuracy"]["correct"] == 560


def test_report_of_several_runs_needs_out(runs, capsys):
    """A comparison belongs to none of them."""
    assert program.main(["report", *map(str, runs[:2])]) == 2
    assert "(from `--out`)" in capsys.readouterr().err


def test_mean_without_an_interval_has_its_reason():
    """Else the run beside it, with an interval, looks the better studied one."""
    runs = [
        report.Documents(run=record(name), entries=[entry(1)], evaluation=evaluation(FINDINGS), results=results(name))
        for name in ("a", "b")
    ]
    words = "a finding has fewer than five patients with it, or without it"
    assert words not in runs_page.html(runs, report.scaled(runs))
    runs[0].evaluation["mean_auroc"] = {"value": 0.8, "low": None, "high": None}
    assert words in runs_page.html(runs, report.scaled(runs))


def test_scores_are_beside_the_name_and_drawn():
    """On a phone the column after the name is the last that is seen; and names that begin alike stay different."""
    names = [f"densenet121-on-the-whole-data-set-with-dropout-seed-{n}" for n in range(7)]
    runs = [
        report.Documents(
            run=record(name), entries=[entry(1), entry(2)], evaluation=evaluation(FINDINGS), results=results(name)
        )
        for name in names
    ]
    page = runs_page.html(runs, report.scaled(runs))
    heads = re.findall(r'<th scope="col">([^<]+)</th>', page)
    assert heads[:2] == ["Run", "Mean AUROC (95 %)"]
    assert "\\xa0" not in page
    labels = [one["aria-label"] for one in Page(page).all("svg")]
    assert len([label for label in labels if label.startswith("Mean AUROC with 95 % intervals")]) == 2, "desktop, phone"
    shown = re.findall(r"<text[^>]*>([^<]*seed-\d)</text>", page)
    assert {name[-6:] for name in shown} == {name[-6:] for name in names}
