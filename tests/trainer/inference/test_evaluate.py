"""Scoring a trained model: the run's own numbers come out again, known patients are refused, nothing is fitted on what is scored."""

import csv
import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.trainer.gated_decoders import gated_decoders  # noqa: F401 - a fixture
from trainer.__main__ import main
from trainer.data.labels import FINDINGS
from trainer.errors import InputError, JobFailedError
from trainer.evaluation.calibration import names_sha256
from trainer.evaluation.document import from_json
from trainer.evaluation.inputs import evaluated
from trainer.evaluation.metrics import probability
from trainer.inference.evaluate import ModelRequest, evaluate_model
from trainer.label_choices import LabelChoices
from trainer.models.load import load_model
from trainer.models.tta import OverViews
from trainer.runtime.console import Reporter


@pytest.fixture
def answers(finished_run, tmp_path):
    """What a model says of the phantoms it was trained on, their test part unless told otherwise."""

    def ask(model=None, **options):
        known = {"model": str(model or finished_run.root), "data": str(finished_run.data), "part": "test"}
        known |= {"device": "cpu", "batch_size": 8, "cache_dir": finished_run.cache}
        return evaluate_model(ModelRequest(**known | options), Reporter(0))

    return ask


@pytest.fixture
def model_alone(finished_run, tmp_path):
    """The exported model without its run: nothing is known of its training, nor how it was calibrated."""
    shutil.copytree(finished_run.root / "model", tmp_path / "model")
    (tmp_path / "model/calibration.json").unlink(missing_ok=True)
    return tmp_path / "model"


def written(finished_run, part):
    text = (finished_run.root / f"predictions/{part}.csv").read_text()
    return {row["Image Index"]: row for row in csv.DictReader(io.StringIO(text))}


def test_evaluating_a_run_reproduces_its_own_predictions(finished_run, answers):
    """The split is the run's, and so is the geometry: any slip in either changes every number."""
    inputs = answers()
    rows = written(finished_run, "test")
    assert set(inputs.scored.images) == set(rows)
    for image, values in zip(inputs.scored.images, probability(inputs.scored.log_odds_NK), strict=True):
        expected = [float(rows[image][f"raw_{name}"]) for name in FINDINGS]
        assert values.tolist() == pytest.approx(expected, abs=1e-5)
    shown = probability(inputs.calibrator.apply(inputs.scored.log_odds_NK))
    for image, values in zip(inputs.scored.images, shown, strict=True):
        assert values.tolist() == pytest.approx([float(rows[image][f"prob_{name}"]) for name in FINDINGS], abs=1e-5)
    assert inputs.trained_on_known
    assert inputs.trained_on_images == 0
    assert inputs.model == f"r, step {load_model(str(finished_run.root)).step}"


def test_evaluating_a_runs_predictions_reproduces_its_evaluation(finished_run, capsys):
    """A reviewer who has only the predictions must come to the same numbers, thresholds and calibration."""
    of_run = json.loads((finished_run.root / "evaluation/metrics.json").read_text())
    files = [f"--{flag}={finished_run.root}/predictions/{part}.csv" for flag, part in OF_FILES.items()]
    config = json.loads((finished_run.root / "run.json").read_text())["config"]
    labels = [f"--labels={finished_run.data}", f"--split={config['split']}", f"--seed={config['seed']}"]
    assert main(["evaluate", *files, *labels, "--format", "json"]) == 0
    of_files = json.loads(capsys.readouterr().out)
    assert of_files["findings"][0]["operating_points"] or of_files["findings"][2]["operating_points"]
    for key in ("mean_auroc", "mean_auprc", "findings", "subgroups"):
        for found, expected in zip(numbers(of_files[key]), numbers(of_run[key]), strict=True):
            assert found == (pytest.approx(expected, abs=1e-9, rel=1e-7) if isinstance(expected, float) else expected)


OF_FILES = {"predictions": "test", "val-predictions": "val"}


def numbers(document):
    """What is in a document, in its order."""
    parts = document.values() if isinstance(document, dict) else document
    for part in parts if isinstance(document, dict | list) else [document]:
        yield from numbers(part) if isinstance(part, dict | list) else [part]


def test_stored_calibration_is_used_and_val_is_not_scored_again(finished_run, answers):
    """It was fitted on the run's validation images."""
    inputs = answers()
    assert inputs.val is None
    assert inputs.calibrator.images_sha256 == names_sha256(list(written(finished_run, "val")))
    assert not [note for note in inputs.notes if "calibration" in note]


def test_calibration_fitted_on_the_scored_images_is_detected_without_the_run(finished_run, answers, tmp_path):
    """A copied model no longer says whom it was chosen by; what was fitted tells its images itself."""
    shutil.copytree(finished_run.root / "model", tmp_path / "copied")
    split = json.loads((finished_run.root / "run.json").read_text())["config"]["split"]
    on_test, on_val = (answers(tmp_path / "copied", split=split, part=part) for part in ("test", "val"))
    assert on_test.calibrator is not None
    assert on_val.calibrator is None
    assert not [note for note in on_test.notes if "fitted on" in note]
    elsewhere = answers(tmp_path / "copied", split="patients:50/25/25@3")
    assert [note for note in elsewhere.notes if note.startswith("the images used to fit thresholds")]


def test_without_a_stored_calibration_it_is_fitted_on_val_alone(finished_run, answers, model_alone):
    """Calibration that has seen test flatters itself."""
    split = json.loads((finished_run.root / "run.json").read_text())["config"]["split"]
    inputs = answers(model_alone, split=split)
    assert inputs.calibrator is None
    assert set(inputs.val.images) == set(written(finished_run, "val"))
    assert not set(inputs.val.images) & set(inputs.scored.images)
    assert not set(inputs.val.patients_N.tolist()) & set(inputs.scored.patients_N.tolist())
    assert not inputs.trained_on_known
    assert inputs.trained_on_images is None
    assert "the model's training images are unknown" in inputs.notes[0]


def test_stored_calibration_is_not_used_with_other_test_time_views(answers):
    """It was fitted on one view; ten have other log-odds."""
    inputs = answers(tta="flip")
    assert inputs.calibrator is None
    assert len(inputs.val.images) > 0
    assert "probabilities are the mean over 2 views of each image (--tta flip)" in inputs.notes
    assert not np.allclose(inputs.scored.log_odds_NK, answers().scored.log_odds_NK, atol=1e-4)


def test_validation_images_are_scored_without_the_calibration_fitted_on_them(answers):
    """Their thresholds and calibration would be judged by the images they come from."""
    inputs = answers(part="val")
    assert inputs.calibrator is None
    assert inputs.val is None
    notes = " ".join(inputs.notes)
    assert "of patients used to select the checkpoint" in notes
    assert "no thresholds and no calibration" in notes


def test_patients_of_the_training_split_are_refused_unless_forced(answers):
    """Such a number says nothing of new patients."""
    with pytest.raises(InputError, match=r"of (\d+) images are of patients in its training set") as caught:
        answers(part="train")
    assert "--force" in caught.value.hint
    inputs = answers(part="train", force=True)
    assert inputs.trained_on_images == len(inputs.scored.images) > 0
    assert any("these results say little about new patients" in note for note in inputs.notes)


def test_another_split_of_the_same_images_is_refused_before_an_image_is_read(finished_run, answers, tmp_path):
    """Most of one split's test patients are in another's train; the data set may be a copy elsewhere."""
    shutil.copytree(finished_run.data, tmp_path / "copy", ignore=shutil.ignore_patterns("*.png"))
    with pytest.raises(InputError, match="patients in its training set"):
        answers(data=str(tmp_path / "copy"), split="given")


def test_only_the_images_of_the_scored_split_are_needed(finished_run, answers, tmp_path):
    """Who has downloaded the test part can score it."""
    shutil.copytree(finished_run.data, tmp_path / "copy")
    keep = written(finished_run, "test").keys()
    for path in (tmp_path / "copy").rglob("*.png"):
        if path.name not in keep:
            path.unlink()
    inputs = answers(data=str(tmp_path / "copy"), cache_dir=None)
    assert set(inputs.scored.images) == set(keep)


def test_network_computes_while_images_are_decoded(answers, gate, monkeypatch):
    """An accelerator that waits until the last image is decoded waits for most of the time. The numbers are those of decoded images."""
    expected = answers()
    forward, decoded_before = OverViews.forward, []

    def noted(network, x_N1SS):
        decoded_before.append(len(gate.decoded))
        gate.allow(100)
        return forward(network, x_N1SS)

    monkeypatch.setattr(OverViews, "forward", noted)
    gate.allow(2)
    beside = answers(cache_dir=None, batch_size=4)
    assert decoded_before[0] == 2 < len(gate.decoded)
    assert beside.scored.images == expected.scored.images
    np.testing.assert_allclose(beside.scored.log_odds_NK, expected.scored.log_odds_NK, atol=1e-5)


def test_images_in_no_split_do_not_move_those_of_a_cached_pack(finished_run, answers, tmp_path):
    """The rows of a pack are those of the images in a split; a model would be evaluated on the labels of other images."""
    data = tmp_path / "data"
    shutil.copytree(finished_run.data, data)
    listed = (data / "train_val_list.txt").read_text().split()
    (data / "train_val_list.txt").write_text("\n".join(listed[:1] + listed[4:]) + "\n")

    def ask(cache, part):
        return answers(data=str(data), split="given", force=True, cache_dir=tmp_path / cache, part=part)

    expected = ask("empty", "test").scored
    whole = ask("cache", "all").scored
    packs = list((tmp_path / "cache/packs").glob("*/manifest.json"))
    found = ask("cache", "test").scored
    assert list((tmp_path / "cache/packs").glob("*/manifest.json")) == packs
    assert len(whole.images) == 80 - 3
    assert found.images == expected.images
    np.testing.assert_allclose(found.log_odds_NK, expected.log_odds_NK, atol=1e-5)


@pytest.mark.parametrize("is_black", [True, False])
def test_output_that_is_not_finite_ends_the_evaluation_unless_its_image_is_not_evaluated(
    finished_run, answers, tmp_path, monkeypatch, is_black
):
    """Unreadable images are computed as black ones, before it is known that they are unreadable."""
    shutil.copytree(finished_run.data, tmp_path / "copy")
    names = list(written(finished_run, "test"))
    next((tmp_path / "copy").rglob(names[3])).write_bytes(b"no image")
    forward = OverViews.forward

    def broken(network, x_N1SS):
        logits_NK = forward(network, x_N1SS)
        logits_NK[(x_N1SS.amax((1, 2, 3)) == 0) == is_black] = float("nan")
        return logits_NK

    monkeypatch.setattr(OverViews, "forward", broken)
    data = {"data": str(tmp_path / "copy"), "cache_dir": None}
    if is_black:
        assert len(answers(**data).scored.images) == len(names) - 1
    else:
        with pytest.raises(JobFailedError, match=r"the network's output for .* images is not finite"):
            answers(**data)


def test_unreadable_image_is_left_out_and_listed(finished_run, answers, tmp_path):
    """Numbers of fewer images are other numbers."""
    shutil.copytree(finished_run.data, tmp_path / "copy")
    names = list(written(finished_run, "test"))
    next((tmp_path / "copy").rglob(names[3])).write_bytes(b"no image")
    inputs = answers(data=str(tmp_path / "copy"), cache_dir=tmp_path / "cache")
    assert set(inputs.scored.images) == set(names) - {names[3]}
    assert f"1 of {len(names)} images could not be read and are not evaluated" in inputs.notes
    expected = answers()
    (rows,) = ([expected.scored.images.index(name) for name in inputs.scored.images],)
    np.testing.assert_allclose(inputs.scored.log_odds_NK, expected.scored.log_odds_NK[rows], atol=1e-5)


def folders(root, classes):
    rng = np.random.default_rng(0)
    for part in ("train", "val", "test"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (40, 48), np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{part}{name}{number}.png")
    return root


def test_labels_without_any_finding_of_the_model_are_refused_by_name(answers, tmp_path):
    """Two classes are no 14 findings."""
    data = folders(tmp_path / "data", ["NORMAL", "TUBERCULOSIS"])
    with pytest.raises(
        InputError, match=r"its outputs are Atelectasis, .*, but the data set's labels are NORMAL, TUBERCULOSIS"
    ):
        answers(data=str(data), split="given")


def test_external_test_scores_what_model_and_data_set_have_in_common(answers, finished_run, tmp_path):
    """The findings have other names there; what only one of both has is listed, and the document says what was tested."""
    inputs = answers(data=str(folders(tmp_path / "data", ["NORMAL", "PNEUMONIA"])), split="given")
    assert inputs.findings == ("Pneumonia",)
    assert inputs.scored.labels_NK.ravel().tolist() == [float("PNEUMONIA" in name) for name in inputs.scored.images]
    assert inputs.val is None  # thresholds are those of the run
    document = from_json(json.dumps(evaluated(inputs, resamples=5)).encode(), "metrics.json")
    assert document["external"]["trained_on"] == finished_run.data.name
    assert document["external"]["matches"] == [{"name": "Pneumonia", "outputs": ["Pneumonia"], "labels": ["PNEUMONIA"]}]
    assert document["external"]["labels_without_outputs"] == ["NORMAL"]
    assert len(document["external"]["outputs_without_labels"]) == 13
    assert document["notes"][0].startswith(
        "external test: by their names, no image is of the data set that the model was trained on"
    )
    assert "evaluated on labels of other names: Pneumonia (PNEUMONIA)" in document["notes"]
    assert "labels without an output of the model: NORMAL" in document["notes"]


def test_all_images_are_evaluated_only_of_a_set_that_the_model_was_not_trained_on(answers, tmp_path):
    """Nothing is fitted on them: thresholds and calibration are those of the run."""
    inputs = answers(data=str(folders(tmp_path / "data", ["NORMAL", "PNEUMONIA"])), split="given", part="all")
    assert len(inputs.scored.images) == 18
    assert inputs.val is None
    assert inputs.calibrator is not None
    assert evaluated(inputs, resamples=5)["data"]["part"] == "all"
    with pytest.raises(InputError, match=r"on all of .* are of patients in its training set"):
        answers(part="all")


def test_outputs_are_joined_where_the_label_is_a_join(answers):
    """The label of several findings: the highest log-odds of their outputs are evaluated."""
    whole = answers()
    renames = ("Lung Lesion=Nodule|Mass", "Opacity=Consolidation|Pneumonia", "Fluid=Effusion")
    inputs = answers(choices=LabelChoices(rename=renames))
    by_name = dict(zip(inputs.findings, inputs.scored.log_odds_NK.T, strict=True))
    for name, parts in {
        "Lung Lesion": ("Nodule", "Mass"),
        "Opacity": ("Consolidation", "Pneumonia"),
        "Effusion": ("Effusion",),
    }.items():
        columns = [FINDINGS.index(part) for part in parts]
        np.testing.assert_allclose(by_name[name], whole.scored.log_odds_NK[:, columns].max(axis=1), atol=1e-6)
        labels_N = inputs.scored.labels_NK[:, inputs.findings.index(name)]
        np.testing.assert_array_equal(labels_N, whole.scored.labels_NK[:, columns].max(axis=1))
    assert {"Mass", "Nodule", "Consolidation", "Fluid"}.isdisjoint(inputs.findings)
    assert "evaluated on labels of other names: Effusion (Fluid)" in inputs.notes
    assert inputs.external is None
    assert inputs.label_policy["renamed"]["Lung Lesion"] == ["Nodule", "Mass"]


def test_a_join_that_cannot_be_evaluated_is_refused(answers):
    """It would be ignored silently: each output is used once. One whose label is not chosen has no part in the evaluation."""
    with pytest.raises(InputError, match="Edema is evaluated on the label One, and each output and label is used once"):
        answers(choices=LabelChoices(rename=("One=Effusion|Edema", "Two=Edema|Hernia")))
    chosen = LabelChoices(rename=("Fluid=Effusion",), findings="Edema")
    assert answers(choices=chosen).findings == ("Edema",)


def test_a_join_with_an_output_that_has_a_label_of_its_name_is_refused(answers, tmp_path):
    data = str(folders(tmp_path / "data", ["NORMAL", "PNEUMONIA"]))
    chosen = LabelChoices(rename=("PNEUMONIA=Emphysema|Pneumonia",))
    assert answers(data=data, split="given", choices=chosen).findings == ("PNEUMONIA",)
    data = str(folders(tmp_path / "other", ["NORMAL", "Pneumonia"]))
    with pytest.raises(InputError, match=r"got `Pneumonia=Emphysema` \(from `--rename`\)"):
        answers(data=data, split="given", choices=LabelChoices(rename=("Pneumonia=Emphysema",)))


def of_rsna(root, images, mapping):
    """A set in RSNA's form, of these images; the mapping file has their names in ChestX-ray14."""
    root.mkdir()
    rows, names = ["patientId,x,y,width,height,Target"], []
    for number, path in enumerate(images):
        Image.open(path).save(root / f"r{number}.png")
        rows.append(f"r{number},,,,,{number % 2}")
        names.append({"subset_img_id": f"r{number}", "img_id": path.name})
    (root / "stage_2_train_labels.csv").write_text("\n".join(rows) + "\n")
    if mapping:
        (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(names))
    return root


def test_images_that_another_set_has_renamed_are_no_external_test(answers, finished_run, tmp_path):
    """RSNA's images are ChestX-ray14's: with its mapping file, patients of the training set are found; without, it is said."""
    images = sorted(finished_run.data.rglob("*.png"))[:40]
    with pytest.raises(InputError, match="are of patients in its training set"):
        answers(data=str(of_rsna(tmp_path / "mapped", images, mapping=True)), split="patients:10/10/80")
    inputs = answers(data=str(of_rsna(tmp_path / "bare", images, mapping=False)), split="patients:10/10/80")
    assert inputs.external is None
    assert inputs.findings == ("Pneumonia",)
    assert "no external test: these images and those that the model was trained on are of ChestX-ray14" in inputs.notes


def test_findings_of_an_evaluation_are_chosen(answers):
    """Others are not scored, and a finding that is not there is refused."""
    inputs = answers(choices=LabelChoices(findings="Mass,Hernia"))
    assert inputs.findings == ("Mass", "Hernia")
    with pytest.raises(InputError, match="similar are Hernia"):
        answers(choices=LabelChoices(findings="Hernias"))


@pytest.fixture
def chooser(monkeypatch, make_trained):
    """A model of three classes that are not in the order of the folders."""
    import torch

    from trainer.models.architectures import build

    torch.manual_seed(0)
    network = build("densenet_tiny", "linear", 3).eval()
    made = make_trained(network, findings=("c", "a", "b"), loss="cross_entropy")
    monkeypatch.setattr("trainer.inference.evaluate.load_model", lambda place, step, cache: made)
    return made


def test_classes_are_brought_into_the_models_order(answers, chooser, tmp_path):
    """Else one class is judged by another's labels."""
    inputs = answers("m", data=str(folders(tmp_path / "data", "abc")), cache_dir=tmp_path / "cache")
    assert inputs.classes
    assert inputs.findings == ("c", "a", "b")
    assert len(inputs.val.images) == 9
    for image, labels_K in zip(inputs.scored.images, inputs.scored.labels_NK, strict=True):
        assert inputs.findings[int(labels_K.argmax())] == image.split("/")[1]
    assert probability(inputs.scored.log_odds_NK).sum(axis=1) == pytest.approx(1)
    assert {one["name"] for one in inputs.shortcuts} <= {"pixel count", "aspect ratio"}


def test_positive_class_is_the_models_own(answers, chooser, monkeypatch, tmp_path):
    """A run trained before keeps its choice, whatever the names say."""
    made = replace(chooser, positive_class="a")
    monkeypatch.setattr("trainer.inference.evaluate.load_model", lambda place, step, cache: made)
    inputs = answers("m", data=str(folders(tmp_path / "data", "abc")), cache_dir=tmp_path / "cache")
    assert evaluated(inputs, resamples=5)["classes"]["positive"] == "a"


def test_classes_that_a_model_does_not_know_are_refused(answers, chooser, tmp_path):
    """It would have to take them for others."""
    with pytest.raises(InputError, match="its outputs are c, a, b, but the data set's labels are a, b, c, d"):
        answers("m", data=str(folders(tmp_path / "data", "abcd")), cache_dir=tmp_path / "cache")


def test_labels_that_a_model_does_not_predict_are_ignored_and_named(monkeypatch, answers, finished_run, tmp_path):
    """Public models know fewer findings than the data set."""
    import torch

    trained = load_model(str(finished_run.root))
    torch.manual_seed(0)
    from trainer.models.architectures import build

    fewer = replace(
        trained, network=build("densenet_tiny", "linear", 2).eval(), findings=("Hernia", "Mass"), calibrator=None
    )
    monkeypatch.setattr("trainer.inference.evaluate.load_model", lambda place, step, cache: fewer)
    inputs = answers("m")
    assert inputs.scored.labels_NK.shape[1] == 2
    assert any(note.startswith("labels without an output of the model: Atelectasis") for note in inputs.notes)


def test_outputs_without_labels_are_left_out_and_named(monkeypatch, answers, finished_run):
    """A model may know findings that a data set does not; its calibration is that of those left."""
    trained = load_model(str(finished_run.root))
    renamed = tuple("Gout" if name == "Effusion" else name for name in trained.findings)
    fitted = replace(trained.calibrator, findings=renamed)
    other = replace(trained, findings=renamed, calibrator=fitted)
    whole = answers()
    monkeypatch.setattr("trainer.inference.evaluate.load_model", lambda place, step, cache: other)
    inputs = answers("m")
    kept = [k for k, name in enumerate(FINDINGS) if name != "Effusion"]
    assert inputs.findings == inputs.calibrator.findings == tuple(FINDINGS[k] for k in kept)
    assert inputs.calibrator.slope_K == tuple(fitted.slope_K[k] for k in kept)
    np.testing.assert_array_equal(inputs.scored.labels_NK, whole.scored.labels_NK[:, kept])
    np.testing.assert_allclose(inputs.scored.log_odds_NK, whole.scored.log_odds_NK[:, kept], atol=1e-6)
    assert "outputs of the model without labels, not evaluated: Gout" in inputs.notes
    assert "labels without an output of the model: Effusion" in inputs.notes
    assert [finding["name"] for finding in evaluated(inputs, resamples=5)["findings"]] == list(inputs.findings)


def test_a_data_set_in_a_bucket_is_scored(finished_run, answers, s3, tmp_path):
    """Data lie in S3 on a cluster."""
    import boto3

    bucket = boto3.client("s3")
    for path in finished_run.data.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), "cxr", f"data/{path.relative_to(finished_run.data).as_posix()}")
    inputs = answers(data="s3://cxr/data", cache_dir=tmp_path / "cache")
    np.testing.assert_allclose(inputs.scored.log_odds_NK, answers().scored.log_odds_NK, atol=1e-5)


@pytest.mark.usefixtures("drawn_at_once")
def test_evaluate_writes_metrics_and_predictions(capsys, finished_run, tmp_path):
    """What `--out` names is what a reviewer is given."""
    argv = ["evaluate", finished_run.root, "--data", finished_run.data, "--cache-dir", finished_run.cache]
    code = main([*map(str, argv), "--device", "cpu", "--resamples", "20", "--out", str(tmp_path / "out")])
    assert code == 0
    evaluation = json.loads((tmp_path / "out/metrics.json").read_text())
    results = json.loads((finished_run.root / "results.json").read_text())
    assert evaluation["mean_auroc"]["value"] == pytest.approx(results["test"]["mean_auroc"], abs=1e-6)
    assert evaluation["data"]["trained_on_images"] == 0
    assert evaluation["findings"][0]["operating_points"] or evaluation["findings"][2]["operating_points"]
    rows = list(csv.DictReader((tmp_path / "out/predictions/test.csv").read_text().splitlines()))
    assert {row["Image Index"] for row in rows} == written(finished_run, "test").keys()
    assert "mean" in capsys.readouterr().out


@pytest.mark.usefixtures("drawn_at_once")
def test_two_models_are_compared_on_the_same_images(finished_run, tmp_path, capsys):
    """One command from two models to a page with their differences; here the last checkpoint and an exported model."""
    shutil.copytree(finished_run.root / "model", tmp_path / "exported")
    models, out = [str(finished_run.root), str(tmp_path / "exported")], tmp_path / "out"
    split = json.loads((finished_run.root / "run.json").read_text())["config"]["split"]
    flags = [f"--data={finished_run.data}", f"--split={split}", f"--out={out}", "--resamples=50", "--format=json"]
    assert main(["evaluate", *models, *flags]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["comparison"] is None
    assert second["comparison"]["other"] == first["model"]
    for row in second["comparison"]["differences"]:
        assert row["difference"]["value"] in {0, None}
    assert {path.name for path in out.iterdir()} == {"r", "exported", "index.html", "comparison.csv"}
    assert from_json((out / "exported/metrics.json").read_bytes(), "metrics.json") == second
    assert (out / "r/predictions/test.csv").is_file()
    assert first["model"] in (out / "index.html").read_text()
    assert "comparison.csv" not in capsys.readouterr().out


def test_models_with_different_test_images_are_refused_before_any_prediction(finished_run, tmp_path, capsys):
    """A difference would be one of images."""
    other = tmp_path / "other"
    shutil.copytree(finished_run.root, other)
    record = json.loads((other / "run.json").read_text())
    record["config"]["split"] = "patients:50/10/40@7"
    (other / "run.json").write_text(json.dumps(record))
    (other / "split.csv.gz").unlink()
    assert main(["evaluate", str(finished_run.root), str(other), f"--data={finished_run.data}", "--force"]) == 2
    message = capsys.readouterr().err
    assert f"cannot compare `{other}` with `{finished_run.root}`: their runs have different test images" in message
    assert "evaluating" not in message


def test_against_is_refused_with_several_models(finished_run, capsys):
    """The first is what they are compared with."""
    run = str(finished_run.root)
    assert main(["evaluate", run, run, f"--data={finished_run.data}", "--against=x.csv"]) == 2
    assert "cannot use --against: several models are compared with the first" in capsys.readouterr().err


def test_evaluated_part_has_its_cohort(finished_run, answers):
    """As the run itself counted it, where nothing was skipped."""
    evaluation = json.loads((finished_run.root / "evaluation/metrics.json").read_text())
    of_test = {part["part"]: part for part in evaluation["cohort"]}["test"]
    assert evaluated(answers(), resamples=5)["cohort"] == [of_test]
    assert of_test["patients"] == evaluation["data"]["patients"]
    assert sum(cell["images"] for cell in of_test["sex"]) + of_test["sex_unknown"] == of_test["images"]
