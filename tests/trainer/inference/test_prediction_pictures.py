"""Pictures of predictions: the image as it is, the answer below it, and only in the directory named."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from trainer.__main__ import main
from trainer.data.image_files import image_files
from trainer.evaluation.calibration import Calibrator, to_bytes
from trainer.inference import prediction_pictures
from trainer.inference.predict import Prediction
from trainer.inference.prediction_pictures import MOST_PX, prediction_picture, said
from trainer.models.architectures import build
from trainer.models.load import load_model
from trainer.report.captions import Entry


@pytest.fixture
def xrays(tmp_path, finished_run):
    """Three X-rays, two of them with one name, and a file that is none."""
    folder = tmp_path / "xrays"
    (folder / "sub").mkdir(parents=True)
    paths = [file.path for file in image_files([finished_run.data])]
    for path, name in zip(paths[:3], ("a.png", "b.png", "sub/a.png"), strict=True):
        shutil.copy(path, folder / name)
    (folder / "bad.png").write_text("no image")
    return folder


@pytest.fixture
def predict(finished_run, tmp_path, capsys):
    """Run it on the processor: exit code, stdout, stderr, and the directory of pictures."""

    def run(*argv, model=finished_run.root, out=tmp_path / "out"):
        code = main(["predict", *map(str, argv), "--model", str(model), "--out", str(out), "--device", "cpu"])
        stdout, stderr = capsys.readouterr()
        return code, stdout, stderr, out

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_readable_image_gets_a_picture_and_all_a_sheet(predict, xrays, finished_run, capsys):
    """The answers are printed as without pictures; unusable files are listed as well."""
    code, stdout, stderr, out = predict(xrays, "--format", "jsonl")
    assert code == 2
    assert "cannot predict 1 of 4 images, the others are predicted:" in stderr
    assert names(out) == ["a-2.prediction.png", "a.prediction.png", "b.prediction.png", "predictions.png"]
    main(["predict", str(xrays), "--model", str(finished_run.root), "--format", "jsonl", "--device", "cpu"])
    assert capsys.readouterr().out == stdout
    for name, image in (("a", "a.png"), ("b", "b.png"), ("a-2", "sub/a.png")):
        with Image.open(out / f"{name}.prediction.png") as picture, Image.open(xrays / image) as original:
            np.testing.assert_array_equal(picture.crop((0, 0, *original.size)), original.convert("L"))
            caption = np.asarray(picture)[original.height :]
            assert (caption < 80).any()
            assert (caption[:, [0, -1]] == 255).all()
            assert picture.info == {}, "no text of the image's file"


def test_pictures_are_the_same_each_time_and_replace_those_before(predict, xrays):
    """And what lies beside them stays."""
    *_, out = predict(xrays)
    (out / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    code, *_ = predict(xrays)
    assert code == 2
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["a.prediction.png", "predictions.png"])
def test_foreign_file_is_kept_and_refused_before_the_model_is_read(predict, xrays, tmp_path, name):
    """No accelerator is used for pictures that have no place."""
    out = tmp_path / "theirs"
    out.mkdir()
    Image.new("L", (40, 40)).save(out / name)
    before = (out / name).read_bytes()
    code, stdout, stderr, _ = predict(xrays, model=tmp_path / "no-such-model", out=out)
    assert (code, stdout) == (2, "")
    assert "this would replace files that this program did not write (from `--out`)" in stderr
    assert name in stderr
    assert "no-such-model" not in stderr
    assert (out / name).read_bytes() == before
    assert names(out) == [name]


def test_output_that_is_a_file_is_refused_before_the_model_is_read(predict, xrays, tmp_path):
    """With what to do instead."""
    (tmp_path / "out").write_text("mine")
    code, stdout, stderr, _ = predict(xrays, model=tmp_path / "no-such-model")
    assert (code, stdout) == (2, "")
    assert "it is not a directory (from `--out`)" in stderr
    assert "no-such-model" not in stderr
    assert (tmp_path / "out").read_text() == "mine"


def test_nothing_is_written_where_the_model_cannot_be_read(predict, xrays, tmp_path):
    """Not even the directory."""
    code, *_, out = predict(xrays, model=tmp_path / "no-such-model")
    assert code == 2
    assert not out.exists()


def test_picture_that_cannot_be_written_is_named(predict, xrays, monkeypatch):
    """A full disk, in the middle of the night."""

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prediction_pictures, "write_file", full)
    code, _, stderr, out = predict(xrays)
    assert code == 2
    assert f"cannot write to `{out}`: no space left on device (from `--out`)" in stderr


def test_pictures_among_the_images_are_not_predicted_by_the_next_call(predict, xrays):
    """OUT may be the directory of the images."""
    _, first, _, _ = predict(xrays, out=xrays)
    before = names(xrays)
    code, second, _, _ = predict(xrays, out=xrays)
    assert code == 2
    assert second == first
    assert names(xrays) == before


def test_pictures_are_written_when_the_reader_of_the_table_has_finished(monkeypatch, predict, xrays):
    """As with `| head`: the directory gets the rest."""
    monkeypatch.setattr("trainer.commands.predict._write", lambda lines, out: next(iter(lines)) is None)
    *_, out = predict(xrays, "--format", "jsonl")
    assert len(names(out)) == 4


def test_picture_of_a_dicom_file_shows_no_field_of_its_header(predict, tmp_path):
    """Only the name that the user gave the file."""
    pydicom = pytest.importorskip("pydicom")
    pixels = (np.random.default_rng(0).random((64, 80)) * 4095).astype(np.uint16)
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset = pydicom.dataset.FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.PatientName, dataset.PatientID = "Doe^Jane", "MRN-4711"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = pixels.tobytes()
    files = []
    for name, patient in (("one.dcm", "Doe^Jane"), ("two.dcm", "Roe^Richard^^^^")):
        dataset.PatientName = patient
        files.append(tmp_path / name / "x.dcm")
        files[-1].parent.mkdir()
        dataset.save_as(files[-1], enforce_file_format=True)
    code, _, _, out = predict(*files)
    assert code == 0
    first, second = (out / name for name in ("x.prediction.png", "x-2.prediction.png"))
    assert first.read_bytes() == second.read_bytes(), "files that differ in the header alone have one picture"
    with Image.open(first) as picture:
        expected = np.floor(pixels / 4095 * 255 + 0.5)
        np.testing.assert_array_equal(np.asarray(picture)[:64, :80], expected)


def answer(probability, positive):
    return Prediction("a.png", probability, probability, positive)


def texts(entries):
    return [entry.text for entry in entries]


@pytest.fixture
def trained(make_trained):
    return make_trained(torch.nn.Identity(), findings=("Mass", "Pleural_Thickening", "Edema", "Hernia"))


CALIBRATOR = Calibrator(("a", "b"), (1.0, 1.0), (0.0, 0.0), {}, "val", "0")
VALUES = {"Mass": 0.2, "Pleural_Thickening": 0.61234, "Edema": 0.4, "Hernia": 0.01}


def test_findings_above_threshold_are_named_most_probable_first(trained):
    """All of them: a reader takes an absent name for an absent finding."""
    trained = dataclasses.replace(trained, calibrator=CALIBRATOR)
    positive = {"Mass": True, "Pleural_Thickening": True, "Edema": False, "Hernia": None}
    assert texts(said(answer(VALUES, positive), trained, "best_f1")) == [
        "Pleural Thickening\N{NO-BREAK SPACE}0.612, Mass\N{NO-BREAK SPACE}0.200",
        "above threshold; calibrated, thresholds by best F1",
    ]


def test_image_without_a_finding_above_threshold_has_the_most_probable_ones(trained):
    """`No finding` alone would leave nothing to judge by."""
    trained = dataclasses.replace(trained, calibrator=CALIBRATOR)
    none = dict.fromkeys(VALUES, False)
    most = "Pleural Thickening\N{NO-BREAK SPACE}0.612, Edema\N{NO-BREAK SPACE}0.400, Mass\N{NO-BREAK SPACE}0.200"
    assert texts(said(answer(VALUES, none), trained, "youden")) == [
        "No finding above its threshold",
        f"most probable: {most}; calibrated, thresholds by Youden's J",
    ]


@pytest.mark.parametrize("positive", [{}, dict.fromkeys(VALUES)], ids=["no calibration", "no threshold"])
def test_without_thresholds_nothing_is_called_positive_or_negative(trained, positive):
    """They are the most probable ones, whatever that means."""
    title, detail = texts(said(answer(VALUES, positive), trained, "youden"))
    assert title.startswith("Most probable: Pleural Thickening\N{NO-BREAK SPACE}0.612, Edema")
    assert detail == "not calibrated, no thresholds"


def test_class_is_shown_with_its_confidence(trained):
    """As the figure of the paper does."""
    trained = dataclasses.replace(trained, loss="cross_entropy", calibrator=CALIBRATOR)
    entries = said(answer({"NORMAL": 0.0312, "VIRAL_PNEUMONIA": 0.9688}, {}), trained, "youden")
    assert [(entry.text, entry.is_title) for entry in entries] == [
        ("VIRAL PNEUMONIA", True),
        ("confidence 0.969, calibrated", False),
    ]


def test_large_image_is_reduced_and_a_small_one_is_not():
    """A picture is looked at; the file of the X-ray is there for details."""
    large = prediction_picture(Image.effect_noise((2048, 1024), 60), [Entry("x")])
    assert large.width == MOST_PX
    small = Image.effect_noise((100, 50), 60)
    picture = prediction_picture(small, [Entry("x")])
    np.testing.assert_array_equal(picture.crop((0, 0, 100, 50)), small)


def test_sheet_has_the_first_twelve_images(predict, tmp_path, finished_run):
    """In four columns, as a figure on one page."""
    files = [file.path for file in image_files([finished_run.data])]
    widths, heights = [], []
    for count in (1, 4, 12, 13):
        *_, out = predict(*files[:count], out=tmp_path / str(count))
        with Image.open(out / "predictions.png") as sheet:
            widths.append(sheet.width)
            heights.append(sheet.height)
    assert widths[0] < widths[1] == widths[2] == widths[3]
    assert heights[0] < heights[2] == heights[3]


def test_pictures_have_the_decisions_of_the_table(predict, xrays, finished_run, tmp_path, monkeypatch):
    """By the same rule."""
    model = tmp_path / "model"
    shutil.copytree(finished_run.root / "model", model)
    findings = load_model(str(model)).findings
    thresholds = {rule: dict.fromkeys(findings, value) for rule, value in (("youden", 1.0), ("best_f1", 0.0))}
    calibrator = Calibrator(findings, (1.0,) * 14, (0.0,) * 14, thresholds, "val, 3 images", "0")
    (model / "calibration.json").write_bytes(to_bytes(calibrator))
    seen = []
    monkeypatch.setattr(prediction_pictures, "said", lambda *what: seen.append(said(*what)) or seen[-1])
    for rule in ("youden", "best_f1"):
        _, stdout, _, _ = predict(xrays / "a.png", "--rule", rule, "--format", "jsonl", model=model)
        title = seen[-1][0].text
        positive = [name for name, is_so in json.loads(stdout)["positive"].items() if is_so]
        assert (title == "No finding above its threshold") == (positive == [])
        assert all(name.replace("_", " ") in title for name in positive)


def test_two_classes_are_drawn_end_to_end(monkeypatch, predict, xrays, make_trained):
    """The model of the paper."""
    torch.manual_seed(0)
    network = build("densenet_tiny", "hidden", 2).eval()
    two = make_trained(network, findings=("NORMAL", "PNEUMONIA"), loss="cross_entropy", head="hidden")
    monkeypatch.setattr("trainer.commands.predict.load_model", lambda place, step, cache: two)
    code, stdout, _, out = predict(xrays / "a.png", xrays / "b.png")
    assert code == 0
    assert stdout.startswith("image")
    assert names(out) == ["a.prediction.png", "b.prediction.png", "predictions.png"]


def test_pipe_in_place_of_a_picture_is_not_waited_for(predict, xrays, tmp_path):
    """Whoever opens one to read waits for a writer."""
    (tmp_path / "out").mkdir()
    os.mkfifo(tmp_path / "out/a.prediction.png")
    code, _, stderr, _ = predict(xrays)
    assert code == 2
    assert "not a regular file" in stderr
