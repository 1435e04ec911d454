"""The end of a run: what it leaves, and that nothing beside its results can spoil them."""

import csv
import json
import os
import shutil
import signal

import pytest
from safetensors import safe_open

from trainer.config import from_argv
from trainer.data.labels import FINDINGS
from trainer.evaluation import calibration
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.preemption import StopError
from trainer.runtime.world import World
from trainer.training import final_report
from trainer.training.loop import train


def document(root, key):
    """A JSON file of a run."""
    return json.loads((root / key).read_text())


def test_run_ends_with_calibration_evaluation_report_and_model_card(finished_run):
    """All that a reader needs, without another command."""
    root = finished_run.root
    evaluation = document(root, "evaluation/metrics.json")
    results = document(root, "results.json")
    assert evaluation["data"]["part"] == "test"
    assert evaluation["data"]["images"] == results["test"]["images"]
    assert evaluation["data"]["trained_on_images"] == 0
    assert evaluation["data"]["labels"] == finished_run.data.name, (
        "the document is passed on, the machine's paths are not"
    )
    assert evaluation["data"]["drawn"]
    assert evaluation["mean_auroc"]["value"] == pytest.approx(results["test"]["mean_auroc"])
    rows = list(csv.DictReader((root / "evaluation/metrics.csv").read_text().splitlines()))
    assert [row["finding"] for row in rows[:14]] == list(FINDINGS)
    assert (root / "report/index.html").read_text().startswith("<!doctype html>")
    assert (root / "report/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (root / "model/card.md").read_text().startswith("# Model card")
    assert list((root / "tensorboard").iterdir())


def test_run_names_the_label_files_that_it_did_not_read(finished_run, tmp_path, capfd):
    """A directory may have both editions of NIH's table: in the log, in the evaluation, and on the page."""
    data = tmp_path / "data"
    shutil.copytree(finished_run.data, data)
    shutil.copy(data / "Data_Entry_2017.csv", data / "Data_Entry_2017_v2020.csv")
    recipe = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --epochs 1 --batch-size 8 --device cpu"
    flags = f"--split patients:50/25/25 --data {data} --output {tmp_path} --name r --gallery off"
    train(from_argv([*recipe.split(), *flags.split()]), World(), Reporter(0), RankLog(0))
    told = "labels are read from `Data_Entry_2017_v2020.csv`; not read, though in the same directory: `Data_Entry_2017.csv`"
    assert told in capfd.readouterr().err
    evaluation = document(tmp_path / "r", "evaluation/metrics.json")
    assert told in evaluation["notes"]
    edition = "v2020 by the name of its file (Data_Entry_2017_v2020.csv)"
    assert evaluation["data"]["edition"] == edition
    page = (tmp_path / "r/report/index.html").read_text()
    assert edition in page
    assert page.count("<svg viewBox") > 2 * len(FINDINGS)  # ROC and precision-recall curves of each, and more
    assert (tmp_path / "r/report/curves.png").stat().st_size > 10_000


def test_calibration_is_fitted_on_the_validation_images_alone(finished_run):
    """Fitted on test it would promise what it was made from."""
    fitted = calibration.from_bytes((finished_run.root / "model/calibration.json").read_bytes())
    with (finished_run.root / "predictions/val.csv").open() as file:
        val = [row["Image Index"] for row in csv.DictReader(file)]
    assert fitted.images_sha256 == calibration.names_sha256(val)
    assert fitted.fitted_on == f"val, {len(val)} images"
    assert document(finished_run.root, "evaluation/metrics.json")["data"]["fitted_on"] == fitted.fitted_on


def test_results_hold_training_time_and_throughput(finished_run):
    """What a table over several sizes is made of."""
    results, (epoch,) = (
        document(finished_run.root, "results.json"),
        [json.loads(line) for line in (finished_run.root / "metrics.jsonl").read_text().splitlines()],
    )
    assert results["model"] == "densenet_tiny"
    assert results["global_batch"] == 8
    assert results["training_s"] == epoch["seconds"] > 0
    assert results["images_per_s"] == epoch["images_per_s"]
    assert results["utilisation"] is epoch["utilisation"] is None
    assert results["hardware"]


def test_header_of_exported_weights_describes_the_model(finished_run):
    """So that the file can be used without its run."""
    with safe_open(finished_run.root / "model/model.safetensors", "np") as file:
        told = file.metadata()
    assert json.loads(told["findings"]) == list(FINDINGS)
    assert (told["format"], told["model"], told["crop_px"], told["name"]) == ("1", "densenet_tiny", "32", "r")


def test_results_of_classes_hold_accuracy_sensitivity_and_specificity(classify, tmp_path):
    """Accuracy alone hides which class is missed; what the size of the files gives away stands beside it."""
    results = classify("r", "--report", "--epochs", "1")
    test = document(tmp_path / "r", "results.json")["test"]
    assert test["classes"]["positive"] == "PNEUMONIA"
    assert test["classes"]["accuracy"] == test["accuracy"]
    assert test["accuracy"]["correct"] == results.scores["test"].accuracy["correct"]
    assert test["classes"]["sensitivity"]["total"] + test["classes"]["specificity"]["total"] == 12
    evaluation = document(tmp_path / "r", "evaluation/metrics.json")
    assert evaluation["classes"] == test["classes"]
    assert evaluation["shortcuts"][0] == {"name": "pixel count", "auroc": {"NORMAL": 1.0, "PNEUMONIA": 1.0}}


@pytest.mark.parametrize("part", ["evaluate", "report", "gallery", "card"])
def test_failing_report_or_card_does_not_fail_a_run_with_results(classify, tmp_path, monkeypatch, capfd, part):
    """A night's training must not fail for a drawing."""

    def breaks(*_args, **_options):
        raise ZeroDivisionError("a bug")

    places = {
        "evaluate": (final_report, "evaluate"),
        "report": (final_report.report, "files"),
        "card": (final_report.model_card, "as_markdown"),
    }
    monkeypatch.setattr(*places.get(part, (final_report.gallery, "wanted")), breaks)
    classify("r", "--report", "--max-steps", "1")
    said = capfd.readouterr().err
    assert said.count("ZeroDivisionError: a bug; `python -m trainer ") == 1
    assert f"{tmp_path}/r` creates it" in said
    assert document(tmp_path / "r", "results.json")["test"]["accuracy"]["total"] == 12
    there = {"evaluate": "evaluation/metrics.json", "report": "report/index.html", "card": "model/card.md"}
    missing = {what for what, key in there.items() if not (tmp_path / "r" / key).exists()}
    assert missing == {part} - {"gallery"}


def test_run_stopped_during_its_final_report_is_finished_by_the_next_start(classify, tmp_path, monkeypatch):
    """torchrun kills after thirty seconds, and evidence, pictures and report of a large test set together may take longer."""

    def told(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate(*arguments, **options)

    evaluate = final_report.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(final_report, "evaluate", told)
        with pytest.raises(StopError, match="stopped at step 1 after SIGTERM"):
            classify("r", "--report", "--max-steps", "1")
    assert (tmp_path / "r/evaluation/metrics.json").exists(), "what was made is kept"
    assert not (tmp_path / "r/report").exists()
    assert not (tmp_path / "r/results.json").exists()
    classify("r", "--report", "--max-steps", "1")
    assert (tmp_path / "r/report/index.html").exists()
    assert (tmp_path / "r/results.json").exists()


def test_no_report_leaves_out_report_and_evaluation(classify, tmp_path):
    """`--no-report` is for many short runs."""
    classify("r", "--max-steps", "1")
    assert not (tmp_path / "r/report").exists()
    assert not (tmp_path / "r/evaluation").exists()
    assert (tmp_path / "r/results.json").exists()
