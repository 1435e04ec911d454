"""`trainer evaluate` on files of predictions, as a user calls it."""

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trainer.__main__ import main
from trainer.data.labels import FINDINGS

LABELS_HEADER = f"Image Index,{','.join(FINDINGS)},split"


class Files:
    """A small data set with predictions of two models, images 0-199 for testing and 200-299 for validation."""

    def __init__(self, folder):
        random = np.random.default_rng(0)
        self.folder = folder
        self.names = [f"{number // 2:08d}_{number % 2:03d}.png" for number in range(300)]
        self.labels = (random.random((300, 14)) < 0.3).astype(int)
        self.given = (1 / (1 + np.exp(-random.normal(self.labels)))).round(6)
        self.write_labels()
        self.write("test.csv", range(200))
        self.write("val.csv", range(200, 300))
        self.write("other.csv", range(200), 1 - self.given)

    def write_labels(self):
        rows = [
            ",".join([name, *map(str, row), "test" if number < 200 else "val"])
            for number, (name, row) in enumerate(zip(self.names, self.labels, strict=True))
        ]
        (self.folder / "labels.csv").write_text("\n".join([LABELS_HEADER, *rows]) + "\n")

    def write(self, name, rows, given=None):
        values = self.given if given is None else given
        lines = [",".join([self.names[row], *(f"{value:.6f}" for value in values[row])]) for row in rows]
        header = ",".join(["Image Index", *(f"prob_{finding}" for finding in FINDINGS)])
        (self.folder / name).write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Files(tmp_path)


def run(capsys, *flags):
    code = main(["evaluate", *flags])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


GIVEN = ("--predictions", "test.csv", "--labels", "labels.csv", "--resamples", "20")


def test_documents_and_plots_are_written_and_a_table_printed(files, capsys):
    """The whole way, with everything asked for; paths are no data and go to stderr."""
    code, out, err = run(
        capsys, *GIVEN, "--val-predictions", "val.csv", "--against", "other.csv", "--out", "deep/evaluation"
    )
    assert code == 0
    written = json.loads((files.folder / "deep/evaluation/metrics.json").read_text())
    auroc = {finding["name"]: finding["auroc"]["value"] for finding in written["findings"]}
    for k, name in enumerate(FINDINGS):
        assert auroc[name] == pytest.approx(roc_auc_score(files.labels[:200, k], files.given[:200, k]))
    assert written["data"] | {"drawn": False} == {
        "drawn": False,
        "labels": "labels.csv",
        "part": "test",
        "split": "other",
        "images": 200,
        "patients": 100,
        "patients_known": True,
        "fitted_on": "val.csv, 100 images",
        "trained_on_known": False,
        "trained_on_images": None,
    }
    assert written["comparison"]["other"] == "other.csv"
    assert "note: the model's training images are unknown" in out
    assert (files.folder / "deep/evaluation/metrics.csv").read_text().startswith("finding,")
    told = err.split()
    assert {"deep/evaluation/metrics.json", "deep/evaluation/roc.png"} <= set(told)
    assert all((files.folder / path).stat().st_size for path in told)


def test_json_and_csv_output_have_the_numbers_of_the_table(files, capsys):
    """One is for programs, one for spreadsheets; neither may be mixed with words."""
    code, out, err = run(capsys, *GIVEN, "--format", "json")
    assert (code, err) == (0, "")
    mean = json.loads(out)["mean_auroc"]["value"]
    code, out, _ = run(capsys, *GIVEN, "--format", "csv")
    assert float(list(csv.DictReader(io.StringIO(out)))[-1]["auroc"]) == mean
    assert sorted(path.name for path in files.folder.iterdir()) == ["labels.csv", "other.csv", "test.csv", "val.csv"]


def test_test_labels_change_neither_thresholds_nor_calibration(files, capsys):
    """Calibration fitted on val never sees test."""
    found = []
    for turn_test_labels in (False, True):
        if turn_test_labels:
            files.labels[:200] = 1 - files.labels[:200]
            files.write_labels()
        _, out, _ = run(capsys, *GIVEN, "--val-predictions", "val.csv", "--format", "json")
        found.append(json.loads(out)["findings"])
    for before, after in zip(*found, strict=True):
        assert before["auroc"]["value"] == pytest.approx(1 - after["auroc"]["value"])
        points, points_after = before["operating_points"], after["operating_points"]
        assert [point["threshold"] for point in points.values()] == [
            point["threshold"] for point in points_after.values()
        ]
        bins, bins_after = before["calibrated"]["bins"], after["calibrated"]["bins"]
        assert [one["predicted"] for one in bins] == [one["predicted"] for one in bins_after]


def test_exactly_the_predicted_images_are_scored_of_a_table_without_parts(files, capsys):
    """NIH's table has all 112,120 images, of which a test list is a fifth."""
    lines = (files.folder / "labels.csv").read_text().splitlines()
    (files.folder / "all.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    _, out, _ = run(capsys, "--predictions", "val.csv", "--labels", "all.csv", "--resamples", "20", "--format", "json")
    assert json.loads(out)["data"]["images"] == 100
    assert json.loads(out)["data"]["part"] == "all"


def write_two_classes(tmp_path, first, second):
    """A data set in folders of two classes, and predictions for it: the flags that evaluate them."""
    random = np.random.default_rng(0)
    rows = []
    for part, name in [(part, name) for part in ("train", "val", "test") for name in (first, second)]:
        (tmp_path / "cxr" / part / name).mkdir(parents=True)
        for number in range(6):
            image = f"{part}/{name}/{number}.png"
            (tmp_path / "cxr" / image).touch()
            p = round(random.random(), 3)
            rows.append(f"{image},{p},{1 - p:.3f}")
    (tmp_path / "p.csv").write_text("\n".join([f"Image Index,prob_{second},prob_{first}", *rows]) + "\n")
    return ("--predictions", str(tmp_path / "p.csv"), "--labels", str(tmp_path / "cxr"), "--resamples", "20")


def test_predictions_of_two_classes_are_evaluated_too(tmp_path, capsys):
    """A data set in folders has one class an image: accuracy is asked for there."""
    code, out, _ = run(capsys, *write_two_classes(tmp_path, "NORMAL", "PNEUMONIA"))
    assert code == 0
    assert "sensitivity for PNEUMONIA" in out
    assert "12 images" in out


@pytest.mark.parametrize(("flags", "positive"), [((), "Abnormal"), (("--positive-class", "Normal"), "Normal")])
def test_positive_class_of_two_is_chosen_by_name_or_given(tmp_path, capsys, flags, positive):
    """As in training."""
    given = write_two_classes(tmp_path, "Abnormal", "Normal")
    _, out, _ = run(capsys, *given, *flags)
    assert re.search(rf"^positive class +{positive}$", out, re.MULTILINE)
    assert f"sensitivity for {positive}" in out
    _, out, _ = run(capsys, *given, *flags, "--format", "json")
    assert json.loads(out)["classes"]["positive"] == positive


def test_positive_class_that_is_none_of_two_is_refused(files, tmp_path, capsys):
    code, out, err = run(capsys, *write_two_classes(tmp_path, "Abnormal", "Normal"), "--positive-class", "normal")
    assert (code, out) == (2, "")
    assert "no such class (from `--positive-class`)" in err
    assert "the classes are `Abnormal` and `Normal`" in err
    code, out, err = run(capsys, *GIVEN, "--positive-class", "Mass")
    assert (code, out) == (2, "")
    assert "the images do not have one class each" in err
    code, out, err = run(capsys, "run", "--data", "cxr", "--positive-class", "Mass")
    assert (code, out) == (2, "")
    assert "cannot use --positive-class: a model has that of its run" in err


@pytest.mark.parametrize(
    ("spoil", "flags", "told"),
    [
        (lambda f: f.write("test.csv", range(199)), GIVEN, "1 of 200 images are missing, got `test.csv`"),
        (lambda f: f.names.__setitem__(5, "other/x.png") or f.write("test.csv", range(200)), GIVEN, "other/x.png"),
        (
            lambda f: f.given.__setitem__((3, 0), np.nan) or f.write("test.csv", range(200)),
            GIVEN,
            "line 5: prob_Atelectasis is not a probability, got `nan`",
        ),
        (lambda f: None, (*GIVEN, "--val-predictions", "test.csv"), "patients of 200 of 200 images are also evaluated"),
        (lambda f: None, (*GIVEN, "--against", "val.csv"), "200 of 200 images are missing, got `val.csv`"),
        (lambda f: None, (*GIVEN, "--against", "nowhere.csv"), "cannot read `nowhere.csv`: no such file or directory"),
        (lambda f: None, (*GIVEN, "--part", "train"), "has no image in it, got `train` (from `--part`)"),
        (lambda f: None, (*GIVEN, "--out", "test.csv"), "cannot write: it is a file, got `test.csv` (from `--out`)"),
        (lambda f: None, ("--predictions", "test.csv"), "got --predictions"),
        (lambda f: None, (*GIVEN, "--data", "cxr"), "got --data and --predictions and --labels"),
        (lambda f: None, (*GIVEN, "--against", "s3://b/run"), "cannot read `s3://b/run`: it must be a local file"),
        (
            lambda f: None,
            (*GIVEN, "--tta", "flip", "--step", "3"),
            "cannot use --step and --tta: no model is used with --predictions",
        ),
        (
            lambda f: None,
            (*GIVEN, "--split", "patients:70/10/20"),
            "cannot use --split: these flags need a data set's directory",
        ),
        (lambda f: None, ("run", "--data", "cxr", "--val-predictions", "val.csv"), "cannot use --val-predictions"),
        (lambda f: None, ("run", "--data", "cxr", "--against", "nowhere.csv"), "cannot read `nowhere.csv`"),
        (lambda f: None, (), "got none"),
        (lambda f: None, (*GIVEN, "--resamples", "0"), "--resamples"),
    ],
)
def test_predictions_and_labels_that_do_not_match_are_refused_by_name(files, capsys, spoil, flags, told):
    """Exit code 2 and the file to correct, never a traceback and never a score of something else."""
    spoil(files)
    code, out, err = run(capsys, *flags)
    assert (code, out) == (2, "")
    assert told in err
    assert "Traceback" not in err


def test_calibration_fitted_on_training_images_is_noted(files, capsys):
    """Thresholds from images that a model knows by heart miss the patients after."""
    _, out, _ = run(capsys, *GIVEN, "--val-predictions", "val.csv")
    assert "are in train" not in out
    (files.folder / "labels.csv").write_text((files.folder / "labels.csv").read_text().replace(",val\n", ",train\n"))
    _, out, _ = run(capsys, *GIVEN, "--val-predictions", "val.csv")
    assert "note: 100 of 100 images used to fit thresholds and calibration are in train" in out


def test_labels_of_one_class_only_are_refused(files, capsys):
    """No finding could be scored; a table of dashes would look like a result."""
    files.labels[:] = 0
    files.write_labels()
    code, out, err = run(capsys, *GIVEN, "--out", "evaluation")
    assert (code, out) == (2, "")
    assert (
        "cannot evaluate: no finding has both positive and negative images, got 200 images (from `labels.csv`)" in err
    )


def test_files_are_evaluated_without_torch(files):
    """Whoever only has predictions need not install it."""
    script = (
        "import sys; sys.modules['torch'] = None\n"
        f"from trainer.__main__ import main; code = main(['evaluate', *{GIVEN!r}])\n"
        "sys.exit(code or len({'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mean" in done.stdout


def test_whole_published_test_list_is_scored_as_scikit_learn_does(shared, tmp_path, capsys):
    """What the public 22,433 x 14 file will be put through: NIH's own table, its names and its size."""
    labels = shared / "data/nih-labels"
    listed = gzip.decompress((labels / "test_list.txt.gz").read_bytes()).decode().splitlines()
    names = [line.split()[0] for line in listed]
    entries = csv.DictReader(
        io.StringIO(gzip.decompress((labels / "Data_Entry_2017_v2020.csv.gz").read_bytes()).decode())
    )
    found = {row["Image Index"]: set(row["Finding Labels"].split("|")) for row in entries}
    truth = np.array([[name in found[image] for name in FINDINGS] for image in names])
    given = (1 / (1 + np.exp(2.5 - np.random.default_rng(0).normal(truth * 1.4)))).round(
        4
    )  # rounded: thousands of ties
    rows = [f"{name},{','.join(map(repr, row))}" for name, row in zip(names, given.tolist(), strict=True)]
    header = ",".join(["Image Index", *(f"prob_{name}" for name in FINDINGS)])
    (tmp_path / "preds.csv").write_text("\n".join([header, *rows]) + "\n")
    code, out, _ = run(
        capsys,
        *("--predictions", str(tmp_path / "preds.csv"), "--labels", str(labels / "Data_Entry_2017_v2020.csv.gz")),
        *("--resamples", "10", "--format", "json"),
    )
    assert code == 0
    evaluation = json.loads(out)
    assert (evaluation["data"]["split"], evaluation["data"]["part"]) == ("random", "test")
    assert (evaluation["data"]["images"], evaluation["data"]["patients"]) == (22433, 6187)
    for k, finding in enumerate(evaluation["findings"]):
        assert finding["auroc"]["value"] == pytest.approx(roc_auc_score(truth[:, k], given[:, k]), abs=1e-9)
    assert {group["group"]: group["images"] for group in evaluation["subgroups"] if group["by"] == "view"} == {
        "PA": 13586,
        "AP": 8847,
    }
    assert "jrzech" in {one["name"] for one in evaluation["references"] if one["comparable"]}
