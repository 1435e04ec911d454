"""A model of findings with any names, from training to each of its uses."""

import csv
import html
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from recipes import placed, tiny

from trainer.__main__ import main
from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.evaluation import document, predictions
from trainer.explanation.map_writer import _endings
from trainer.models.load import load_model
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training import run_data
from trainer.training.loop import train

NAMES = (
    "Lung, left",
    "Nodule/Mass",
    "Nodule_Mass",
    "nodule/mass",
    "Röntgen 肺 |x|",
    '"quoted" <b>&amp;',
    "=SUM(A1)",
    "prob_raw_a=b",
    "long " * 40 + "end",
    "../../etc/passwd",
    "C:\\x?*",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on phantoms whose findings have these names, and the folder of its images."""
    root = tmp_path_factory.mktemp("any")
    write_phantoms(root / "data", images=80, side=48)
    read = run_data.labelled

    def labelled(place, kept_split=None):
        source = read(place, kept_split)
        table = source.table.with_findings(source.table.findings[: len(NAMES)])
        return replace(source, table=replace(table, findings=NAMES))

    words = placed(tiny(1), root / "data", root, root / "cache", "r", "--split", "patients:50/20/30")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_data, "labelled", labelled)
        train(from_argv([*words, "--gallery", "on"]), World(), Reporter(0), RankLog(0))
    return root / "r", root / "data" / "images"


def test_run_has_all_its_documents_with_the_names(run):
    folder, _ = run
    for name in ("report/index.html", "model/card.md", "model/calibration.json", "evaluation/metrics.json"):
        assert (folder / name).is_file(), name
    evaluation = document.from_json((folder / "evaluation/metrics.json").read_bytes(), "metrics.json")
    assert [one["name"] for one in evaluation["findings"]] == list(NAMES)
    rows = list(csv.DictReader(io.StringIO((folder / "evaluation/metrics.csv").read_text())))
    assert len(rows) == len(NAMES) + 1
    page = (folder / "report/index.html").read_text()
    assert html.escape('"quoted" <b>&amp;', quote=False) in page
    assert '"quoted" <b>' not in page
    assert r"Röntgen 肺 \|x\|" in (folder / "model/card.md").read_text()


@pytest.mark.parametrize("split", ["val", "test"])
def test_predictions_of_a_run_are_read_with_its_names(run, split):
    assert predictions.read(run[0] / f"predictions/{split}.csv").findings == NAMES


def test_predictions_of_files_are_read_with_its_names(run, tmp_path, capsys):
    folder, images = run
    assert main(["predict", str(images), "--model", str(folder), "--device", "cpu", "--format", "csv"]) == 0
    (tmp_path / "p.csv").write_text(capsys.readouterr().out)
    read = predictions.read(tmp_path / "p.csv")
    assert read.findings == NAMES
    assert len(read.images) == 80


def test_model_calibration_and_thresholds_have_its_names(run):
    trained = load_model(str(run[0] / "model"))
    assert trained.findings == NAMES
    assert trained.calibrator is not None
    assert set(trained.calibrator.thresholds["youden"]) <= set(NAMES)


def test_maps_of_similar_names_are_different_files(run, tmp_path, capsys):
    """Also where the file system ignores case, and where a name has the comma that separates names."""
    folder, images = run
    image = min(images.iterdir())
    asked = "Nodule/Mass,Lung, left, nodule/mass ,Nodule_Mass"
    argv = ["explain", str(image), "--model", str(folder), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*argv, "--findings", asked]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["finding"] for line in lines] == ["Nodule/Mass", "Lung, left", "nodule/mass", "Nodule_Mass"]
    overlays = [line["overlay"] for line in lines]
    assert len({name.lower() for name in overlays}) == 4
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*overlays, "maps.jsonl"])


def test_endings_are_file_names_of_their_own():
    endings = _endings(NAMES)
    assert len({ending.lower() for ending in endings}) == len(NAMES)
    assert all("/" not in ending and "\\" not in ending and len(ending.encode()) < 100 for ending in endings)


def test_name_that_the_model_does_not_have_is_refused(run, tmp_path, capsys):
    folder, images = run
    argv = ["explain", str(images), "--model", str(folder), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*argv, "--findings", "Lung, right"]) == 2
    assert "cannot explain `Lung`" in capsys.readouterr().err


def test_onnx_file_has_its_names(run, tmp_path):
    onnx = pytest.importorskip("onnx")
    argv = ["export", str(run[0]), "--out", str(tmp_path / "out"), "--to", "onnx"]
    assert main(argv) == 0
    (file,) = (tmp_path / "out").glob("*.onnx")
    metadata = {one.key: one.value for one in onnx.load(str(file)).metadata_props}
    assert json.loads(metadata["findings"]) == list(NAMES)
    assert set(json.loads(metadata["thresholds"])["youden"]) <= set(NAMES)


def test_report_and_comparison_are_written_again(run, tmp_path):
    folder, _ = run
    assert main(["report", str(folder), "--out", str(tmp_path / "one.html")]) == 0
    assert main(["report", str(folder), str(folder), "--out", str(tmp_path / "two")]) == 0
    assert "肺" in (tmp_path / "one.html").read_text()


def test_curves_of_a_run_have_a_tag_for_each_name(run):
    entries = [json.loads(line) for line in (run[0] / "metrics.jsonl").read_text().splitlines()]
    assert list(entries[0]["val"]["auroc"]) == list(NAMES)
    assert np.isfinite(entries[0]["val"]["loss"])
