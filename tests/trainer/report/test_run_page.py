"""Reports: what is on the page, what must never be, and what becomes of gaps. How it looks is for test_report_browser.py."""

import json
import re
import subprocess
import sys

import pytest
from pages import Page
from report_samples import PICTURE, entry, evaluation, record, results, undefined, write_run

from trainer import __main__ as program
from trainer import report
from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.evaluation.reference import references
from trainer.report import run_page
from trainer.report.pictures import Picture, to_bytes
from trainer.storage import open_storage


@pytest.fixture(scope="module")
def whole():
    """A run with everything."""
    documents = report.Documents(
        run=record(),
        entries=[entry(n, accuracy=True) for n in (1, 2, 3)],
        results=results(),
        evaluation=evaluation(("Atelectasis", "Mass"), classes=True),
        pictures=(PICTURE,),
    )
    return report.html(documents)


def test_run_page_has_its_sections_in_order(whole):
    """What is missing here a careful reader asks for."""
    page = Page(whole)
    titles = re.findall(r"<h2[^>]*>([^<]+)</h2>", whole)
    assert titles == [
        *("Summary", "ROC and precision-recall", "Model and data", "Each finding", "Calibration", "Operating points"),
        *("Subgroups", "Data and cohort", "Published results", "Comparison", "Shortcuts", "Most confident errors"),
        *("Curves", "Speed", "Notes", "Stated by the owner", "Configuration", "Versions"),
    ]
    for words in (
        *("densenet121", "step 96, epoch 6", "0.764 (0.744 to 0.784)", "560 of 624", "not for clinical use", "2 x cpu"),
        *(
            "3.00 GiB",
            "1 min 15 s",
            "fixed on val, 11,219 images",
            "sex F",
            "pixel count",
            "labelled Mass, Edema",
            "abc123",
        ),
    ):
        assert words in page.text.replace("\u00a0", " "), words


def test_page_is_one_file_without_scripts_or_external_resources(whole):
    """It is opened offline, mailed and archived; and names in it are other people's."""
    page = Page(whole)
    assert {"script", "link", "iframe", "object", "form", "base"}.isdisjoint(tag for tag, _ in page.elements)
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "data", "action", "srcset", "poster"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on") or name == "style"], (tag, attributes)
    policy = next(one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "url(" not in whole.partition("<style>")[2].partition("</style>")[0]


def test_page_has_headings_captions_and_alternative_text_for_screen_readers(whole):
    """Headings, captions, scopes, language and words for every figure."""
    page = Page(whole)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == len(page.all("title")) == 1
    assert len(page.all("table")) == len(page.all("caption")) > 5
    assert all(one.get("scope") in {"row", "col"} for one in page.all("th"))
    pictures = page.all("svg") + page.all("img")
    assert len(pictures) > 8
    assert all(one.get("aria-label") or one.get("alt") for one in pictures)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {one["href"][1:] for one in page.all("a")} <= set(ids)


def test_page_shows_no_path_of_a_machine(whole):
    """It is passed on; logins in addresses, hosts and home folders are not."""
    for word in (
        "secret",
        "token",
        "bucket.internal",
        "hospital",
        "host-7",
        "/mnt",
        "someone",
        "/data/private",
        "s3://",
    ):
        assert word not in whole, word
    text = Page(whole).text
    assert "chestxray14" in text
    assert "resnet.pth" in text
    assert "patients:70/10/20" in text
    assert "labels.csv" in text


def test_names_are_escaped_on_pages():
    """Class names are folder names, and image names are anybody's."""
    evil = '<script>alert("x")</script>'
    picture = Picture(**{**vars(PICTURE), "image": f"{evil}.png", "finding": evil})
    document = evaluation((evil, 'a"b'), classes=True)
    document["notes"] = [evil]
    run = record(evil)
    run["versions"]["torch"] = evil
    text = report.html(
        report.Documents(run=run, entries=[entry(1)], results=results(evil), evaluation=document, pictures=(picture,))
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_page_names_the_positive_class_of_sensitivity_and_operating_points(whole):
    """Of two classes either could be meant."""
    text = " ".join(re.sub(r"<[^>]+>", " ", whole).split()).replace("\u00a0", " ")
    assert "AUROC for Mass" in text
    assert "Positive class Mass" in text
    assert "370 of 390, for Mass" in text
    three = evaluation(("A", "B", "C"), classes=True)
    text = Page(report.html(report.Documents(run=record(), entries=[], evaluation=three))).text
    assert "Positive class C Sensitivity for C" in text
    assert "Each row is of its own class, as if that were the positive one; the positive class is C." in text


def test_two_classes_show_each_number_once(whole):
    """The other class has the same numbers, mirrored: twice as much to read, and nothing more to know."""
    labels = [one["aria-label"] for one in Page(whole).all("svg")]
    assert len([label for label in labels if label.startswith("ROC of")]) == 1
    assert not [label for label in labels if "Atelectasis" in label]
    tables = re.findall(r"<tbody>.*?</tbody>", whole, re.DOTALL)
    assert not [table for table in tables if ">Atelectasis<" in table or ">mean<" in table]


def test_results_on_other_images_are_folded(whole):
    """They cannot be compared: who wants them opens them; in print they are open."""
    folded = re.findall(r"<details>\s*<summary>([^<]+)</summary>(.*?)</details>", whole, re.DOTALL)
    words = dict(folded)
    assert "Wang 2017" in words["Published results on other images, not comparable"]
    assert "zoogzog" not in words["Published results on other images, not comparable"]
    css = whole.partition("<style>")[2].partition("</style>")[0]
    assert (
        "details::details-content { content-visibility: visible; block-size: auto; }"
        in css.partition("@media print")[2]
    )


def test_numbers_of_another_split_have_a_table_of_their_own(whole):
    """In one column they would read as better or worse."""
    tables = re.findall(r"<table>.*?</table>", whole, re.DOTALL)
    ours = next(table for table in tables if "exactly the same images" in table)
    others = next(table for table in tables if "not comparable" in table)
    assert "zoogzog" in ours
    assert "Wang 2017" not in ours
    assert "Wang 2017 (official split)" in others
    assert "this run" not in others


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"entries": []}, "curves: no epoch was recorded", id="no metrics.jsonl"),
        pytest.param({"results": None}, "the run has not ended", id="no results.json"),
        pytest.param({"evaluation": None}, "the run has not been evaluated", id="not evaluated"),
        pytest.param(
            {"entries": [{"step": 1, "epoch": 0.5, "train_loss": 1.0, "val": None}]},
            "no epoch was validated",
            id="no val",
        ),
        pytest.param(
            {"pictures": None, "why_none": "it is private"}, "No images are shown: it is private", id="no gallery"
        ),
        pytest.param({"run": {}}, "Run run", id="empty record"),
    ],
)
def test_missing_parts_of_a_run_are_stated_and_the_rest_is_shown(changes, said):
    """Old and unfinished runs are reported too, and nobody takes a gap for a zero."""
    parts = {
        "run": record(),
        "entries": [entry(1)],
        "results": results(),
        "evaluation": evaluation(("Mass",)),
    } | changes
    text = report.html(report.Documents(**parts))
    assert said in Page(text).text


def test_run_without_an_evaluation_shows_the_aurocs_of_its_results():
    """Its results.json has them, without intervals, and says so."""
    text = Page(report.html(report.Documents(run=record(), entries=[], results=results()))).text
    assert "without intervals" in text
    assert "0.710" in text
    assert "Hernia - -" in text


def test_model_scored_on_its_training_images_is_marked():
    """Such numbers flatter, and reports travel without their author."""
    document = evaluation(("Mass",))
    document["data"] |= {"trained_on_images": 17920}
    assert "17,920 of the evaluated images are of patients in the training set" in report.html(
        report.Documents(run=record(), entries=[], evaluation=document)
    )
    document["data"] |= {"trained_on_known": False, "trained_on_images": None}
    assert "training images are unknown" in report.html(report.Documents(run=record(), entries=[], evaluation=document))


def test_finding_without_positives_is_shown_as_a_dash():
    """Neither 0 nor 0.5 is its AUROC."""
    document = evaluation(("Mass",))
    document["findings"].append(undefined("Hernia"))
    assert "Hernia - - 0 0.0 %" in Page(
        report.html(report.Documents(run=record(), entries=[], evaluation=document))
    ).text.replace("\u00a0", " ")


def test_rewritten_report_keeps_its_gallery(tmp_path, capsys):
    """Making the gallery takes the model and the images; the page alone takes neither."""
    run = write_run(tmp_path / "run-1", entries=[entry(1)], outcome=results(), metrics=evaluation(("Mass",)))
    (run / "report").mkdir()
    (run / "report/gallery.json").write_bytes(to_bytes([PICTURE]))
    assert program.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run}/report/index.html\n"
    assert PICTURE.uri in (run / "report/index.html").read_text()
    assert (run / "report/curves.png").read_bytes().startswith(b"\x89PNG")
    assert program.main(["report", str(run), "--gallery", "off"]) == 0
    assert "data:image/jpeg" not in (run / "report/index.html").read_text()
    assert not (run / "report/gallery.json").exists()


def test_report_is_written_to_the_path_of_out(tmp_path, capsys):
    """A run may be read-only, or somebody else's."""
    run = write_run(tmp_path / "run-1", entries=[entry(1)])
    before = sorted(path.name for path in run.rglob("*"))
    assert program.main(["report", str(run), "--out", str(tmp_path / "one.html")]) == 0
    assert program.main(["report", str(run), "--out", str(tmp_path / "folder")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/one.html\n{tmp_path}/folder/index.html\n"
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["curves.png", "index.html"]
    assert sorted(path.name for path in run.rglob("*")) == before


def test_a_run_in_a_bucket_is_reported_there(s3, tmp_path):
    """Where jobs keep their runs."""
    storage = open_storage("s3://cxr/runs/run-1")
    storage.write("run.json", json.dumps(record()).encode())
    storage.write("metrics.jsonl", json.dumps(entry(1)).encode())
    report.write(storage)
    assert b"<title>Run run-1</title>" in storage.read("report/index.html")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, "it has no `run.json`", id="no run"),
        pytest.param({"run.json": "{"}, "it is not JSON", id="broken record"),
        pytest.param({"run.json": "[]"}, "must be a JSON object, got a list", id="record of another kind"),
        pytest.param(
            {"run.json": "{}", "evaluation/metrics.json": '{"format": 9}'}, "its format is 9", id="newer format"
        ),
        pytest.param(
            {"run.json": "{}", "evaluation/metrics.json": '{"format": 1}'}, "it lacks classes, ", id="not evidence"
        ),
        pytest.param(
            {"run.json": "{}", "results.json": '{"checkpoint": {"step": "x"}}'},
            "results.json`: it is not a valid document of a run: `checkpoint.step` must be a whole number",
            id="odd results",
        ),
    ],
)
def test_path_without_a_run_is_refused_by_name(files, words, tmp_path, capsys):
    """No traceback reaches a user."""
    for name, content in files.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert program.main(["report", str(tmp_path / "run")]) == 2
    assert words in capsys.readouterr().err


def test_lines_of_the_history_that_cannot_be_read_are_left_out(tmp_path):
    """A run that was killed while it wrote is still a run."""
    run = write_run(tmp_path / "run-1", entries=[entry(1), entry(2)])
    with (run / "metrics.jsonl").open("a") as file:
        file.write('7\n"x"\n{"step": 4\n')
    assert [one["step"] for one in report.read(open_storage(str(run))).entries] == [16, 32]


def test_page_states_the_images_that_its_numbers_are_of():
    """A statistician asks of each: which images, before or after calibration, chosen on what, and how sure."""
    found = evaluation(FINDINGS)
    found["findings"][0]["auroc"] = {"value": 1.0, "low": 1.0, "high": 1.0}
    found["subgroups"][0]["mean_auroc"] = {"value": 0.9, "low": None, "high": None}
    text = Page(report.html(report.Documents(run=record(), entries=[], evaluation=found, results=results()))).text
    for words in (
        "patients:70/10/20; the published 70/10/20 split",
        "images, used for selection",
        "Thresholds apply to probabilities before calibration. Results are measured on test",
        "On test, 22,433 images. Each plot states the area",
        "An interval of a single number",
        "A number has no interval",
        "Mean AUROC of each subgroup of test",
        "AUROC on exactly the same images: test of the published 70/10/20 split",
    ):
        assert words in text, words


def test_page_of_phantoms_states_so_first():
    """Who is sent the page alone must not take it for X-rays."""
    found = evaluation(FINDINGS)
    found["data"]["drawn"] = True
    text = Page(report.html(report.Documents(run=record(), entries=[], evaluation=found, results=results()))).text
    assert text.index("synthetic phantoms, not X-rays") < text.index("Each plot states")


def test_a_report_needs_no_torch(tmp_path):
    """It is made again on any machine, in a second."""
    run = write_run(tmp_path / "run-1", entries=[entry(1)])
    code = "import sys; from trainer.__main__ import main; main(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, "report", str(run)], capture_output=True, text=True, check=True
    )
    assert done.stderr == "False\n"


def test_documents_with_unexpected_content_are_an_error_with_a_hint():
    """Somebody edits a file by hand sooner or later."""
    with pytest.raises(InputError, match="one of its documents is invalid"):
        report.html(report.Documents(run={"identity": {"findings": 3}}, entries=[]))


def test_bug_in_the_page_is_not_reported_as_bad_input(monkeypatch):
    """Else nobody would ever look for it in this program."""

    def broken(_):
        raise KeyError("no such key")

    monkeypatch.setattr(run_page, "_SECTIONS", (broken,))
    with pytest.raises(KeyError):
        report.html(report.Documents(run=record(), entries=[], results=results()))


def cohort_part(part, **changes):
    cells = [{"group": "F", "images": None, "patients": None, "fewer_than": 5}]
    cells.append({"group": "M", "images": None, "patients": None, "fewer_than": None})
    views = [{"group": view, "images": 50, "patients": 30, "fewer_than": None} for view in ("PA", "AP")]
    counts = {"images": 1200, "patients": 800, "images_of_unknown_patients": 0, "images_per_patient_median": 1.0}
    ages = {"age_median": 47.0, "age_lower_quartile": 31.5, "age_upper_quartile": 60.0, "age_unknown": 3}
    known = {"sex": cells, "sex_unknown": 0, "view": views, "view_unknown": 20, "positives": {"Mass": 12}}
    return {"part": part, "images_per_patient_most": 9, "smallest_shown": 5, **counts, **ages, **known, **changes}


def test_page_shows_data_cohort_and_what_the_owner_stated():
    """A reviewer looks for these first, and must see what is lacking."""
    found = evaluation(("Mass",)) | {"cohort": [cohort_part("train"), cohort_part("test", images=300)]}
    run = record() | {"card": {"owner": "Ward <7>"}, "data_set": None}
    page = report.html(report.Documents(run=run, entries=[], results=results(), evaluation=found))
    section = page.rpartition("Data and cohort")[2].partition("</section>")[0]
    for words in (
        "1,200",
        "47 (31.5 to 60)",
        "50 (30)",
        "&lt;5",
        "not shown",
        "with Mass",
        "not recognised as a public",
    ):
        assert words in section, words
    stated = page.rpartition("Stated by the owner")[2].partition("</section>")[0]
    assert "Ward &lt;7&gt;" in stated
    assert stated.count("not stated") == 19


def test_results_published_for_two_classes_are_on_the_page():
    """Accuracies without an AUROC among them."""
    names = ("NORMAL", "PNEUMONIA")
    found = evaluation(names, classes=True)
    found["references"] = references(names, split="kaggle", part="test", images=624)
    page = report.html(report.Documents(run=record(), entries=[], results=results(), evaluation=found))
    section = page.rpartition("Published results")[2].partition("</section>")[0]
    for words in ("Kermany 2018", "0.968", "VGG16, 4 GPUs", "not reproducible", "these", "other"):
        assert words in section, words
