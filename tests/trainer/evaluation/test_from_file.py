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
        "edition": "unknown (labels.csv)",
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


def notes_of(out):
    return [line.removeprefix("note: ") for line in out.splitlines() if line.startswith("note: ")]


def rewrite(path, change):
    path.write_text("\n".join(map(change, path.read_text().splitlines())) + "\n")


def without(path, finding):
    """Remove the column of a finding from a file of predictions."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    column = rows[0].index(f"prob_{finding}")
    path.write_text("".join(",".join(row[:column] + row[column + 1 :]) + "\n" for row in rows))


def test_findings_of_one_side_only_are_left_out_by_name(files, capsys):
    """A public model knows 18 findings or 8; what both know is evaluated, and nothing disappears unsaid."""
    rewrite(files.folder / "test.csv", lambda line: line.replace("prob_Hernia", "prob_Fracture"))
    without(files.folder / "val.csv", "Mass")
    without(files.folder / "other.csv", "Edema")
    code, out, _ = run(
        capsys, *GIVEN, "--val-predictions", "val.csv", "--against", "other.csv", "--format", "json", "--out", "e"
    )
    assert code == 0
    found = json.loads(out)
    assert [finding["name"] for finding in found["findings"]] == list(FINDINGS[:-1])
    assert "labels without predictions, not evaluated: Hernia" in found["notes"]
    assert "predictions without labels, not evaluated: Fracture" in found["notes"]
    assert "not calibrated and no thresholds, as val.csv has no predictions: Mass" in found["notes"]
    assert "other.csv has no predictions, so it is not compared: Edema" in found["notes"]
    points = {finding["name"]: bool(finding["operating_points"]) for finding in found["findings"]}
    assert [name for name, has_points in points.items() if not has_points] == ["Mass"]
    compared = [row["name"] for row in found["comparison"]["differences"]]
    assert compared == [name for name in FINDINGS[:-1] if name != "Edema"] + ["mean"]


def test_predictions_of_no_label_are_refused(files, capsys):
    """There is nothing to evaluate."""
    rewrite(files.folder / "test.csv", lambda line: line.replace("prob_", "prob_my_"))
    code, out, err = run(capsys, *GIVEN)
    assert (code, out) == (2, "")
    assert "no column is for one of the labels, got `test.csv` with columns for my_Atelectasis" in err


def test_output_of_predict_is_evaluated_as_it_is(files, capsys):
    """Its images are paths, as they were given, and it has columns of decisions."""
    _, by_name, _ = run(capsys, *GIVEN, "--format", "json")
    rewrite(
        files.folder / "test.csv",
        lambda line: f"{line},positive_Mass" if line.startswith("Image") else f"/data/cxr/images_001/{line},1",
    )
    code, by_path, _ = run(capsys, *GIVEN, "--against", "other.csv", "--format", "json")
    assert code == 0
    by_name, by_path = json.loads(by_name), json.loads(by_path)
    assert by_path["mean_auroc"] == by_name["mean_auroc"]
    assert (
        "test.csv: 200 of 200 images have other folders in their names than in the labels, and were matched by file name"
        in by_path["notes"]
    )
    assert len(by_path["comparison"]["differences"]) == 15


def test_calibrated_probabilities_without_thresholds_are_not_said_to_be_uncalibrated(files, capsys):
    """The output of `predict` is calibrated; only thresholds need other images."""
    rows = list(csv.reader((files.folder / "test.csv").read_text().splitlines()))
    header, *rows = [[*row, *(cell.replace("prob_", "raw_") for cell in row[1:])] for row in rows]
    (files.folder / "both.csv").write_text("".join(f"{','.join(row)}\n" for row in [header, *rows]))
    flags = ("--labels", "labels.csv", "--resamples", "20", "--format", "json")
    both, plain = (
        json.loads(run(capsys, "--predictions", name, *flags)[1])["notes"] for name in ("both.csv", "test.csv")
    )
    assert "no thresholds: use --val-predictions to fit them" in both
    assert not any("no calibration" in note for note in both)
    assert "no thresholds and no calibration: use --val-predictions to fit them" in plain


def test_order_of_rows_changes_no_number(files, capsys):
    """The same seed draws the same patients, whatever the order of the rows."""
    flags = (*GIVEN, "--val-predictions", "val.csv", "--against", "other.csv", "--format", "json")
    _, before, _ = run(capsys, *flags)
    for name, seed in (("test.csv", 1), ("val.csv", 2), ("other.csv", 3), ("labels.csv", 4)):
        path = files.folder / name
        header, *rows = path.read_text().splitlines()
        np.random.default_rng(seed).shuffle(rows)
        path.write_text("\n".join([header, *rows]) + "\n")
    _, after, _ = run(capsys, *flags)
    assert after == before


def folders(root, classes, count=8):
    names = [f"{part}/{name}/{n}.png" for part in ("train", "val", "test") for name in classes for n in range(count)]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return names


def test_one_probability_column_of_two_classes_is_enough(tmp_path, capsys):
    """The other class has the rest; accuracy is the same as with both columns."""
    names = folders(tmp_path / "cxr", ("NORMAL", "PNEUMONIA"))
    p = np.random.default_rng(0).random(len(names))
    one = ["Image Index,prob_PNEUMONIA", *(f"{name},{value!r}" for name, value in zip(names, p.tolist(), strict=True))]
    both = ["Image Index,prob_PNEUMONIA,prob_NORMAL"]
    both += [f"{name},{value!r},{1 - value!r}" for name, value in zip(names, p.tolist(), strict=True)]
    found = []
    for name, rows in (("p.csv", one), ("both.csv", both)):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
        given = (
            "--predictions",
            str(tmp_path / name),
            "--labels",
            str(tmp_path / "cxr"),
            "--against",
            str(tmp_path / "p.csv"),
        )
        code, out, _ = run(capsys, *given, "--resamples", "20", "--format", "json")
        assert code == 0
        found.append(json.loads(out))
    assert "p.csv: no column `prob_NORMAL`, used is 1 - `prob_PNEUMONIA`" in found[0]["notes"]
    assert found[0]["classes"] == found[1]["classes"] is not None
    assert found[0]["findings"] == found[1]["findings"]
    assert [row["difference"]["value"] for row in found[0]["comparison"]["differences"]] == [0, 0, 0]


def test_class_probabilities_that_do_not_sum_to_1_are_noted(tmp_path, capsys):
    """Without the note, accuracy is just not there."""
    names = folders(tmp_path / "cxr", ("A", "B", "C"))
    rows = [f"{name},0.2,{0.25 + number % 7 / 100},0.5" for number, name in enumerate(names)]
    (tmp_path / "p.csv").write_text("\n".join(["Image Index,prob_A,prob_B,prob_C", *rows]) + "\n")
    given = ("--predictions", str(tmp_path / "p.csv"), "--labels", str(tmp_path / "cxr"), "--resamples", "20")
    code, out, _ = run(capsys, *given)
    assert code == 0
    assert "accuracy " not in out
    assert any(
        note.startswith(
            "p.csv: probabilities of 21 of 24 images do not sum to 1 over their classes (from 0.95 to 1.01)"
        )
        for note in notes_of(out)
    )
    without(tmp_path / "p.csv", "B")
    code, out, _ = run(capsys, *given)
    assert code == 0
    assert "labels without predictions, not evaluated: B" in notes_of(out)
    assert any(note.startswith("p.csv: not every class has probabilities, so each") for note in notes_of(out))


def test_edition_of_the_labels_is_always_printed(files, shared, capsys):
    """The editions differ in 181 rows. Of a directory with both tables, the output names the one that was read."""
    _, out, _ = run(capsys, *GIVEN)
    assert "\nedition of the labels: unknown (labels.csv)\n" in out
    nih = shared / "data/nih-labels"
    names = [line.split()[0] for line in gzip.decompress((nih / "test_list.txt.gz").read_bytes()).decode().splitlines()]
    rows = [f"{name},{number % 997 / 1000}" for number, name in enumerate(names)]
    (files.folder / "p.csv").write_text("\n".join(["Image Index,prob_Mass", *rows]) + "\n")
    _, out, _ = run(capsys, "--predictions", "p.csv", "--labels", str(nih), "--resamples", "2")
    assert "\nedition of the labels: 2017 (lists)\n" in out
    assert any("not read" in note and "`Data_Entry_2017_v2020.csv.gz`" in note for note in notes_of(out))
    (files.folder / "p.csv").write_text("\n".join(["Image Index,prob_Mass", *rows[1:]]) + "\n")
    table = str(nih / "Data_Entry_2017_v2020.csv.gz")
    _, out, _ = run(capsys, "--predictions", "p.csv", "--labels", table, "--resamples", "2")
    assert "\nedition of the labels: v2020 (Data_Entry_2017_v2020.csv.gz)\n" in out
    assert any(note.startswith("22,432 of 22,433 images of the published test list") for note in notes_of(out))


class Google:
    """Labels in the form of Google's adjudicated ones: text-mined labels of 80 images beside those of readers."""

    def __init__(self, folder):
        random = np.random.default_rng(0)
        self.folder = folder
        self.names = [f"{number:08d}_000.png" for number in range(1, 81)]
        self.truth = {name: random.random(80) < 0.4 for name in ("Nodule or mass", "Pneumothorax", "Fracture")}
        self.mined = {
            "Nodule": random.random(80) < 0.2,
            "Mass": random.random(80) < 0.2,
            "Pneumothorax": random.random(80) < 0.3,
        }
        header = ["Image Index", "Finding Labels", "Patient ID", *self.truth, "Set Id"]
        rows = [
            [
                name,
                "|".join(finding for finding, has_it in self.mined.items() if has_it[n]) or "No Finding",
                str(n + 1),
                *("YES" if has_it[n] else "NO" for has_it in self.truth.values()),
                "test" if n < 60 else "val",
            ]
            for n, name in enumerate(self.names)
        ]
        (folder / "google.csv").write_text("".join(",".join(row) + "\n" for row in [header, *rows]))
        self.given = random.random((90, 3)).round(6)
        names = [*self.names[:50], *(f"{number:08d}_000.png" for number in range(101, 141))]
        rows = [",".join([name, *map(str, row)]) for name, row in zip(names, self.given.tolist(), strict=True)]
        (folder / "p.csv").write_text("\n".join(["Image Index,prob_Nodule,prob_Mass,prob_Pneumothorax", *rows]) + "\n")


@pytest.fixture
def google(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Google(tmp_path)


OF_READERS = ("--predictions", "p.csv", "--labels", "google.csv", "--resamples", "30", "--format", "json")


def test_labels_of_readers_that_are_not_used_are_named(google, capsys):
    """Their file is chosen for them; the text-mined labels in it are not what its user means."""
    code, out, _ = run(capsys, *OF_READERS)
    assert code == 0
    found = json.loads(out)
    assert [finding["positives"] for finding in found["findings"][:1]] == [int(google.mined["Mass"][:50].sum())]
    (note,) = [note for note in found["notes"] if "readers" in note]
    assert (
        "google.csv also has labels of readers, which were not used: `Nodule or mass`, `Pneumothorax`, `Fracture`"
        in note
    )
    assert '--rename "' in note
    assert "mined" in found
    assert found["mined"] == []


def test_labels_of_readers_are_evaluated_beside_the_text_mined_ones(google, capsys):
    """A nodule or a mass is predicted by whichever is likelier, and mined as either, on the same resamples."""
    code, out, _ = run(capsys, *OF_READERS, "--rename", "Nodule or mass=Nodule|Mass")
    assert code == 0
    found = json.loads(out)
    scores = {"Nodule or mass": google.given[:50, :2].max(axis=1), "Pneumothorax": google.given[:50, 2]}
    mined = {
        "Nodule or mass": google.mined["Nodule"] | google.mined["Mass"],
        "Pneumothorax": google.mined["Pneumothorax"],
    }
    assert [finding["name"] for finding in found["findings"]] == list(scores)
    assert (found["data"]["part"], found["data"]["images"]) == ("test", 50)
    rows = {row["name"]: row for row in found["mined"]}
    assert list(rows) == [*scores, "mean"]
    for finding in found["findings"]:
        name = finding["name"]
        assert finding["auroc"]["value"] == pytest.approx(roc_auc_score(google.truth[name][:50], scores[name]))
        assert rows[name]["auroc"]["value"] == pytest.approx(roc_auc_score(mined[name][:50], scores[name]))
        assert rows[name]["positives"] == mined[name][:50].sum()
        difference = finding["auroc"]["value"] - rows[name]["auroc"]["value"]
        assert rows[name]["difference"]["value"] == pytest.approx(difference)
        assert rows[name]["difference"]["low"] < difference < rows[name]["difference"]["high"]
    assert found["data"]["edition"].startswith("columns of readers (Nodule or mass, Pneumothorax, Fracture)")
    assert "labels without predictions, not evaluated: Fracture" in found["notes"]
    assert "40 of 90 predicted images have no labels and are not evaluated" in found["notes"]
    assert "10 of 60 labelled images of test have no prediction and are not evaluated" in found["notes"]
    _, out, _ = run(capsys, *OF_READERS[:-2], "--rename", "Nodule or mass=Nodule|Mass")
    assert "the same predictions, images and resamples on text-mined labels" in out
    _, out, _ = run(capsys, *OF_READERS[:-1], "csv", "--rename", "Nodule or mass=Nodule|Mass")
    assert float(next(csv.DictReader(io.StringIO(out)))["auroc_text_mined"]) == rows["Nodule or mass"]["auroc"]["value"]


def test_equal_labels_of_readers_and_reports_differ_by_nothing_on_any_resample(google, capsys):
    """Both are evaluated on the same draws: other draws would give an interval."""
    lines = [line.split(",") for line in (google.folder / "google.csv").read_text().splitlines()]
    for line, has_it in zip(lines[1:], google.mined["Pneumothorax"], strict=True):
        line[4] = "YES" if has_it else "NO"
    (google.folder / "google.csv").write_text("".join(",".join(line) + "\n" for line in lines))
    _, out, _ = run(capsys, *OF_READERS, "--rename", "Pneumothorax=Pneumothorax")
    assert [row["difference"] for row in json.loads(out)["mined"]] == [{"value": 0, "low": 0, "high": 0}] * 2


def test_label_of_another_name_is_renamed_for_all_files(files, capsys):
    """CheXpert's models call an effusion a pleural one."""
    _, before, _ = run(capsys, *GIVEN, "--format", "json")
    rewrite(files.folder / "test.csv", lambda line: line.replace("prob_Effusion", "prob_Pleural Effusion"))
    code, after, _ = run(
        capsys, *GIVEN, "--format", "json", "--against", "other.csv", "--rename", "Effusion=Pleural Effusion"
    )
    assert code == 0
    assert json.loads(after)["findings"] == json.loads(before)["findings"]
    assert "other.csv has no predictions, so it is not compared: Effusion" in json.loads(after)["notes"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("Nodule or Mass=Nodule",), "no label `Nodule or Mass`, got `google.csv` (from `--rename`)"),
        (("Nodule or Mass=Nodule",), "those of readers are Nodule or mass, Pneumothorax, Fracture"),
        (("Nodule or mass=Nodul|Mass",), "no column `prob_Nodul`"),
        (("Nodule or mass",), "it must be NEW=OLD"),
        (("Nodule or mass=Mass", "--part", "train"), "has no image in it, got `train` (from `--part`)"),
        (("Nodule or mass=Mass", "--part", "val"), "none of their 90 images is among the 20 labelled ones"),
    ],
)
def test_renaming_that_cannot_be_meant_is_refused(google, capsys, flags, told):
    """A finding that is not there would be left out like any other."""
    code, out, err = run(capsys, *OF_READERS, "--rename", *flags)
    assert (code, out) == (2, "")
    assert told in err


def test_cohort_of_a_file_of_labels_hides_small_groups(files, capsys):
    """The labels of a hospital: one woman among a hundred men would be found."""
    lines = (files.folder / "labels.csv").read_text().splitlines()
    rows = [f"{line},{'F' if n < 4 else 'M'},50,PA" for n, line in enumerate(lines[1:])]
    header = f"{lines[0]},Patient Gender,Patient Age,View Position"
    (files.folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n")
    code, out, _ = run(capsys, *GIVEN)
    assert code == 0
    table = out.partition("cohort\n")[2].partition("\n\n")[0]
    assert "images                             200" in table
    assert "sex F                              <5" in table
    assert "sex M                              not shown" in table
    assert "view PA                            200 (100)" in table
    assert "age, median (quartiles)            50 (50 to 50)" in table
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"^sex M +- +-", out, re.MULTILINE)
    assert re.search(r"^sex F +- +-", out, re.MULTILINE)
    assert "note: numbers of sex F, M are not shown, as one has fewer than 5 patients" in out
    _, out, _ = run(capsys, *GIVEN, "--format", "json")
    assert [(group["group"], group["patients"]) for group in json.loads(out)["subgroups"]] == [("M", None), ("F", None)]
    (part,) = json.loads(out)["cohort"]
    assert [cell["images"] for cell in part["sex"]] == [None, None]
    assert part["positives"]["Mass"] == files.labels[:200, 4].sum()
