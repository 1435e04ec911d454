"""Predicting from files: the answers of training, the good part of a directory, and the bad listed."""

import csv
import dataclasses
import io
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from trainer import devices
from trainer.__main__ import main
from trainer.data.image_files import ImageFile, image_files
from trainer.devices import cpu
from trainer.errors import JobFailedError
from trainer.evaluation.calibration import Calibrator, from_bytes, to_bytes
from trainer.inference.predict import predictor
from trainer.models import forward_threads
from trainer.models.architectures import build
from trainer.models.load import load_model


@pytest.fixture(scope="module")
def rows_of_test(finished_run):
    """Predictions of the run for its test images, by name."""
    text = (finished_run.root / "predictions/test.csv").read_text()
    return {row["Image Index"]: row for row in csv.DictReader(io.StringIO(text))}


def nothing(done, words):
    """Tell nobody."""


def predicted(trained, files, **options):
    settings = {"tta": "none", "rule": "youden", "batch": 4} | options
    return list(predictor(trained, devices.find("cpu"), **settings).predictions(files, nothing))


def run_predict(capsys, *argv):
    """Exit code, objects on stdout, and stderr."""
    code = main(["predict", *map(str, argv), "--device", "cpu"])
    out, err = capsys.readouterr()
    return code, out, err


def test_predicted_probabilities_are_those_of_the_run(finished_run, rows_of_test):
    """What a clinician is shown must be what was scored."""
    trained = load_model(str(finished_run.root))
    names = list(rows_of_test)[:7]
    (folder,) = {path.parent for path in finished_run.data.rglob(names[0])}
    for each in predicted(trained, [ImageFile(folder / name) for name in names]):
        row = rows_of_test[each.image.rpartition("/")[2]]
        for finding in trained.findings:
            assert each.raw[finding] == pytest.approx(float(row[f"raw_{finding}"]), abs=1e-5)
            assert each.probability[finding] == pytest.approx(float(row[f"prob_{finding}"]), abs=1e-5)


def test_network_predicts_in_the_mode_that_the_device_was_started_for(finished_run):
    """Gaudi without compilation and without lazy mode lost AUC elsewhere, without an error."""
    seen = []

    def compiled(module, mode):
        seen.append(mode)
        return module

    members = {name: getattr(cpu, name) for name in dir(cpu) if not name.startswith("_")}
    device = SimpleNamespace(**members | {"inference_mode": lambda: "compile", "compiled": compiled})
    predictor(load_model(str(finished_run.root)), device, tta="none", rule="youden", batch=4)
    assert seen == ["compile"]


def test_batch_size_changes_no_prediction(finished_run, rows_of_test):
    """The last batch is smaller; what was in its buffer before must not come out."""
    trained = load_model(str(finished_run.root))
    files = image_files([finished_run.data])[:7]
    by_batch = [predicted(trained, files, batch=batch) for batch in (1, 3, 32)]
    for one, two, three in zip(*by_batch, strict=True):
        assert one.image == two.image == three.image
        for finding in one.raw:
            assert one.raw[finding] == pytest.approx(two.raw[finding], abs=1e-6)
            assert one.raw[finding] == pytest.approx(three.raw[finding], abs=1e-6)


def test_several_threads_change_no_prediction_and_no_order(monkeypatch, finished_run, mixed):
    """On one core the tests would never see the forward passes of several threads."""
    trained = load_model(str(finished_run.root))
    files = image_files([mixed, finished_run.data])[:40]
    one = predicted(trained, files, batch=3)
    monkeypatch.setattr(forward_threads, "usable_cores", lambda: 4)
    torch.set_num_threads(4)
    four = predicted(trained, files, batch=3)
    assert [each.image for each in four] == [file.name for file in files]
    assert [each.error for each in four] == [each.error for each in one]
    for single, several in zip(one, four, strict=True):
        assert several.raw == pytest.approx(single.raw, abs=1e-6)


@pytest.fixture
def mixed(tmp_path, finished_run):
    """Two good images among four bad files."""
    folder = tmp_path / "mixed"
    (folder / "sub").mkdir(parents=True)
    good = image_files([finished_run.data])[:2]
    shutil.copy(good[0].path, folder / "b.png")
    shutil.copy(good[1].path, folder / "sub/d.png")
    (folder / "a.png").write_text("no image")
    Image.new("L", (1, 1)).save(folder / "c.png")
    Image.fromarray(np.tile(np.array([200, 40, 10], np.uint8), (64, 64, 1))).save(folder / "photo.jpg")
    (folder / "notes.txt").write_text("no image, and none is said to be")
    return folder


def test_readable_images_of_a_directory_are_predicted_and_others_listed(capsys, mixed, finished_run):
    """One broken file among thousands must cost neither the others nor itself be lost."""
    code, out, err = run_predict(capsys, mixed, mixed / "gone.png", "--model", finished_run.root, "--format", "jsonl")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 2
    assert [line["image"].removeprefix(f"{mixed}/") for line in lines] == [
        *("a.png", "b.png", "c.png", "photo.jpg", "sub/d.png", "gone.png"),
    ]
    errors = {line["image"].removeprefix(f"{mixed}/"): line["error"] for line in lines if "error" in line}
    assert errors == {
        "a.png": "it is not a PNG, JPEG or DICOM image",
        "c.png": "it has 1 x 1 pixels, at least 32 per side are needed",
        "photo.jpg": "it is a colour picture (100% of its pixels are not gray), not an X-ray",
        "gone.png": "there is no such file",
    }
    assert len(lines[1]["probability"]) == 14
    assert "cannot predict 4 of 6 images, the others are predicted:" in err
    for name, problem in errors.items():
        assert f"{mixed}/{name}: {problem}" in err


def test_exit_code_is_0_when_every_image_is_predicted(capsys, mixed, finished_run):
    """Scripts look at it."""
    code, out, _ = run_predict(capsys, mixed / "b.png", "--model", finished_run.root, "--format", "csv")
    assert code == 0
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["Image Index"] == f"{mixed}/b.png"
    assert 0 < float(row["prob_Hernia"]) < 1


def calibrated(root, target, slope=2.0):
    """A copy of the run's exported model with a calibration that is known."""
    shutil.copytree(root / "model", target)
    trained = load_model(str(target))
    findings = trained.findings
    thresholds = {"youden": dict.fromkeys(findings[:2], 0.0) | {findings[2]: 1.0}}
    calibrator = Calibrator(findings, (slope,) * 14, (1.0,) * 14, thresholds, "val, 3 images", "0")
    (target / "calibration.json").write_bytes(to_bytes(calibrator))
    return target


def test_ignored_orientation_is_noted_and_changes_no_prediction(capsys, mixed, finished_run):
    """As in training; a viewer shows the file turned."""
    exif = Image.Exif()
    exif[0x0112] = 8
    image = Image.open(mixed / "b.png")
    image.save(mixed / "turned.png", exif=exif)
    code, out, err = run_predict(
        capsys, mixed / "b.png", mixed / "turned.png", "--model", finished_run.root, "--format", "jsonl"
    )
    assert code == 0
    assert "note: the EXIF orientation of 1 of 2 images is ignored" in err
    one, other = (json.loads(line) for line in out.splitlines())
    assert one["probability"] == other["probability"]


def test_calibration_and_thresholds_are_applied(capsys, mixed, finished_run, tmp_path):
    """Both are of one scale: what is shown is compared with the threshold that is shown."""
    model = calibrated(finished_run.root, tmp_path / "model")
    code, out, err = run_predict(capsys, mixed / "b.png", "--model", model, "--format", "jsonl")
    assert code == 0
    assert "note" not in err
    line = json.loads(out)
    assert line["calibrated"] is True
    for finding, value in line["probability"].items():
        raw = line["raw"][finding]
        assert np.log(value / (1 - value)) == pytest.approx(2 * np.log(raw / (1 - raw)) + 1, abs=1e-4)
    assert list(line["positive"].values()) == [True, True, False, *[None] * 11]
    _, table, _ = run_predict(capsys, mixed / "b.png", "--model", model)
    words = [text.split() for text in table.splitlines()[2:]]
    assert [word[2] for word in words] == ["0.0000", "0.0000", "1.0000", *["-"] * 11]
    assert [word[3] for word in words] == ["positive", "positive", "negative", *["-"] * 11]
    _, table, _ = run_predict(capsys, mixed / "b.png", "--model", model, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["positive_Atelectasis"], row["positive_Effusion"], row["positive_Hernia"]) == ("1", "0", "")


def test_decision_is_that_of_the_shown_probability(capsys, mixed, finished_run, tmp_path):
    """With a threshold between the calibrated and the raw probability, only one of them decides."""
    model = calibrated(finished_run.root, tmp_path / "model")
    _, out, _ = run_predict(capsys, mixed / "b.png", "--model", model, "--format", "jsonl")
    line, calibrator = json.loads(out), from_bytes((model / "calibration.json").read_bytes())
    between = {name: (line["probability"][name] + line["raw"][name]) / 2 for name in line["raw"]}
    fixed = replace(calibrator, thresholds={"youden": between})
    (model / "calibration.json").write_bytes(to_bytes(fixed))
    _, out, _ = run_predict(capsys, mixed / "b.png", "--model", model, "--format", "jsonl")
    assert json.loads(out)["positive"] == {
        name: line["probability"][name] > line["raw"][name] for name in line["probability"]
    }


def test_table_of_predictions_goes_straight_into_evaluate(capsys, finished_run, tmp_path):
    """With paths as names, decisions in further columns, and both scales: the numbers are the run's."""
    _, table, _ = run_predict(capsys, finished_run.data, "--model", finished_run.root, "--format", "csv")
    assert all("/" in row["Image Index"] for row in csv.DictReader(io.StringIO(table)))
    (tmp_path / "all.csv").write_text(table)
    config = json.loads((finished_run.root / "run.json").read_text())["config"]
    flags = [f"--labels={finished_run.data}", f"--split={config['split']}", f"--seed={config['seed']}", "--format=json"]
    assert main(["evaluate", f"--predictions={tmp_path}/all.csv", "--part=test", *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    of_run = json.loads((finished_run.root / "evaluation/metrics.json").read_text())
    assert found["scale"] == of_run["scale"] == "calibrated"
    for ours, theirs in zip(found["findings"], of_run["findings"], strict=True):
        assert ours["auroc"] == theirs["auroc"]
        for scale in ("raw", "calibrated"):
            assert ours[scale]["brier"] == pytest.approx(theirs[scale]["brier"], abs=1e-6)


def test_without_calibration_no_decision_is_made_and_a_note_states_so(capsys, mixed, finished_run, tmp_path):
    """An uncalibrated number looks like any other."""
    shutil.copytree(finished_run.root / "model", tmp_path / "model")
    (tmp_path / "model/calibration.json").unlink(missing_ok=True)
    code, out, err = run_predict(capsys, mixed / "b.png", "--model", tmp_path / "model", "--format", "jsonl")
    assert code == 0
    assert "probabilities are not calibrated" in err
    line = json.loads(out)
    assert line["calibrated"] is False
    assert "positive" not in line
    code, _, err = run_predict(capsys, mixed / "b.png", "--model", tmp_path / "model", "--rule", "best_f1")
    assert code == 2
    assert "no thresholds were fixed" in err


def test_mean_over_mirrored_views_is_the_same_for_the_mirrored_image(finished_run, tmp_path):
    """That is what `--tta flip` is for."""
    trained = load_model(str(finished_run.root))
    file = image_files([finished_run.data])[0]
    with Image.open(file.path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "x.png")
    files = [file, ImageFile(tmp_path / "x.png")]
    one, other = predicted(trained, files, tta="flip")
    assert list(one.raw.values()) == pytest.approx(list(other.raw.values()), abs=1e-6)
    one, other = predicted(trained, files)
    assert list(one.raw.values()) != pytest.approx(list(other.raw.values()), abs=1e-6)


@pytest.fixture
def two_classes(make_trained):
    torch.manual_seed(0)
    network = build("densenet_tiny", "hidden", 2).eval()
    return make_trained(network, findings=("NORMAL", "PNEUMONIA"), loss="cross_entropy", head="hidden")


def test_model_of_classes_predicts_class_and_confidence(monkeypatch, capsys, two_classes, mixed):
    """As the paper's program prints it."""
    monkeypatch.setattr("trainer.commands.predict.load_model", lambda place, step, cache: two_classes)
    code, out, _ = run_predict(capsys, mixed / "b.png", "--model", "m", "--format", "jsonl")
    assert code == 0
    line = json.loads(out)
    assert sum(line["probability"].values()) == pytest.approx(1, abs=1e-6)
    assert line["confidence"] == max(line["probability"].values())
    assert line["probability"][line["class"]] == line["confidence"]
    _, table, _ = run_predict(capsys, mixed / "b.png", "--model", "m")
    header, row = table.splitlines()
    assert header.split() == ["image", "class", "confidence"]
    assert row.split() == [f"{mixed}/b.png", line["class"], f"{line['confidence']:.4f}"]
    _, text, _ = run_predict(capsys, mixed / "b.png", "--model", "m", "--format", "csv")
    (cells,) = csv.DictReader(io.StringIO(text))
    assert cells["class"] == line["class"]
    code, _, err = run_predict(capsys, mixed / "b.png", "--model", "m", "--rule", "youden")
    assert code == 2
    assert "predicts one class per image" in err


def test_predictions_of_classes_name_the_positive_one(monkeypatch, capsys, two_classes, mixed):
    """A reader of the file alone need not guess it from the names."""
    made = dataclasses.replace(two_classes, positive_class="NORMAL")
    monkeypatch.setattr("trainer.commands.predict.load_model", lambda place, step, cache: made)
    _, out, _ = run_predict(capsys, mixed / "b.png", "--model", "m", "--format", "jsonl")
    assert json.loads(out)["positive_class"] == "NORMAL"
    _, text, _ = run_predict(capsys, mixed / "b.png", "--model", "m", "--format", "csv")
    assert [row["positive_class"] for row in csv.DictReader(io.StringIO(text))] == ["NORMAL"]
    _, table, _ = run_predict(capsys, mixed / "b.png", "--model", "m")
    assert table.splitlines()[-1] == "the positive class is NORMAL"


def test_non_finite_prediction_is_refused(make_trained, mixed):
    """It would be shown as a probability of `nan`."""
    network = build("densenet_tiny", "linear", 3).eval()
    torch.nn.init.constant_(network.classifier.weight, float("nan"))
    with pytest.raises(JobFailedError, match="has a non-finite output"):
        predicted(make_trained(network), [ImageFile(mixed / "b.png")])


def test_missing_package_is_named_for_the_files_that_need_it(monkeypatch, make_trained, mixed):
    """PNGs beside DICOM files are predicted."""
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    (mixed / "x.dcm").write_bytes(b"\0" * 128 + b"DICM")
    trained = make_trained(build("densenet_tiny", "linear", 3).eval())
    bad, good = predicted(trained, [ImageFile(mixed / "x.dcm"), ImageFile(mixed / "b.png")])
    assert bad.error == "cannot read DICOM files: the package pydicom is missing"
    assert good.error is None


@pytest.mark.parametrize("size", [0, 5000])
def test_batch_size_outside_its_limits_is_refused(capsys, mixed, size):
    """It would take all memory."""
    code, _, err = run_predict(capsys, mixed, "--model", "m", "--batch-size", size)
    assert code == 2
    assert "it must be from 1 to" in err
