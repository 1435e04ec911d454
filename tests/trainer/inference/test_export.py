"""Trained models in formats of other programs: `trainer export`."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import report_samples as samples
import torch
from PIL import Image
from safetensors.torch import save
from torch import nn
from torchvision.models import DenseNet, densenet121

from trainer.__main__ import main
from trainer.data.augment import normalise
from trainer.data.labels import FINDINGS
from trainer.data.packs.records import Geometry
from trainer.errors import InputError, JobFailedError
from trainer.evaluation import calibration
from trainer.evaluation.calibration import Calibrator
from trainer.inference import onnx_file
from trainer.inference.export import Known, export, fitting, header, images_of, torchvision_code, wanted
from trainer.models.architectures import build
from trainer.models.load import LoadedModel, load_model
from trainer.storage import open_storage

TWO = ("NORMAL", "PNEUMONIA")


def calibrator(findings, *, classes=False):
    """Far enough from nothing to be noticed when it is left out."""
    count = len(findings)
    return Calibrator(
        findings=tuple(findings),
        slope_K=(1.7,) * count if classes else tuple(np.linspace(0.5, 2, count).tolist()),
        intercept_K=(0.0,) * count if classes else tuple(np.linspace(-1, 1, count).tolist()),
        thresholds={"youden": dict.fromkeys(findings, 0.25)},
        fitted_on="val, 10 images",
        images_sha256="0" * 64,
        classes=classes,
    )


def trained(*, model="densenet_tiny", head="linear", findings=FINDINGS, loss="bce", side=40, crop_px=32, **changes):
    """A model of random weights, whose BatchNorm has seen images as ours are."""
    torch.manual_seed(0)
    network = build(model, head, len(findings))
    with torch.no_grad():
        network.train()(normalise(torch.randint(0, 256, (8, 1, 32, 32), dtype=torch.uint8)))
    return LoadedModel(
        **{
            "origin": "x",
            "network": network.eval(),
            "model": model,
            "head": head,
            "findings": tuple(findings),
            "loss": loss,
            "geometry": Geometry(side=side, fit="crop"),
            "crop_px": crop_px,
            "calibrator": None,
            "trained_on": None,
            "record": None,
            "step": None,
        }
        | changes
    )


def exported(one, out, *formats):
    images_NPP = images_of(one, None, print) if "onnx" in formats else None
    return {each.name: each for each in export(one, open_storage(str(out)), formats, Known(), images_NPP)}


def test_export_writes_all_formats_or_those_of_format():
    """`--to onnx,torch` and `--to onnx --to torch` are what people type."""
    assert wanted([]) == ("safetensors", "torch", "onnx")
    assert wanted(["onnx,torch"]) == wanted(["torch", "onnx"]) == ("torch", "onnx")


def test_missing_packages_leave_onnx_out_unless_it_is_asked_for(monkeypatch):
    """The other formats need no extra; who asks for ONNX is told what to install."""
    monkeypatch.setattr(onnx_file, "missing", lambda: ["onnx", "onnxruntime"])
    assert wanted([]) == ("safetensors", "torch")
    with pytest.raises(InputError, match="packages onnx and onnxruntime are missing") as refusal:
        wanted(["onnx"])
    assert "chexnet-jobs[onnx]" in refusal.value.hint


def test_exported_weights_are_opened_again_with_all_that_was_known_of_them(tmp_path):
    """The file goes to people who have no run."""
    one = trained(
        head="hidden",
        findings=TWO,
        loss="cross_entropy",
        calibrator=calibrator(TWO, classes=True),
        positive_class="NORMAL",
    )
    exported(one, tmp_path, "safetensors")
    again = load_model(str(tmp_path / "model.safetensors"))
    for key in ("model", "head", "findings", "loss", "geometry", "crop_px", "calibrator", "positive_class"):
        assert getattr(again, key) == getattr(one, key), key
    torch.testing.assert_close(again.network.state_dict(), one.network.state_dict())


def test_state_dict_fits_torchvisions_densenet_121_strictly(tmp_path):
    """`load_state_dict` without any renaming is what compatible means."""
    one = trained(model="densenet121")
    files = exported(one, tmp_path, "torch")
    assert "densenet121(num_classes=14)" in files["model.pt"].description
    network = densenet121(num_classes=14).eval()
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    x_N3PP = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network(x_N3PP), one.network(x_N3PP))


def test_printed_code_for_a_hidden_head_builds_the_network_of_the_state_dict(tmp_path):
    """The paper's head is no layer of torchvision's; without the recipe nobody can load it."""
    one = trained(head="hidden", findings=TWO)
    exported(one, tmp_path, "torch")
    code, _, head = torchvision_code(one).partition(", with classifier = ")
    network = eval(code, {"DenseNet": DenseNet})
    network.classifier = eval(head, {"nn": nn})
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
@pytest.mark.parametrize("fitted", [False, True], ids=["raw", "calibrated"])
def test_onnx_file_predicts_as_the_network_with_preparation_and_calibration(tmp_path, loss, fitted):
    """Whoever runs it gives gray bytes; a forgotten mean or calibration would give wrong answers that look right."""
    findings, head = (TWO, "hidden") if loss == "cross_entropy" else (FINDINGS, "linear")
    fit = calibrator(findings, classes=loss == "cross_entropy") if fitted else None
    one = trained(head=head, findings=findings, loss=loss, calibrator=fit)
    files = exported(one, tmp_path, "onnx")
    assert "max |Δ|" in files["model.onnx"].description
    assert ("calibrated probabilities" in files["model.onnx"].description) == fitted
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images_N1PP = np.random.default_rng(0).integers(0, 256, (5, 1, 32, 32), dtype=np.uint8)
    logits_NK, probabilities_NK = session.run(None, {"images": images_N1PP})
    with torch.inference_mode():
        expected_NK = one.network(normalise(torch.from_numpy(images_N1PP)))
    np.testing.assert_allclose(logits_NK, expected_NK.numpy(), atol=1e-4, rtol=0)
    if loss == "bce":
        line_NK = expected_NK * torch.tensor(fit.slope_K) + torch.tensor(fit.intercept_K) if fit else expected_NK
        wanted_NK = torch.sigmoid(line_NK)
    else:
        wanted_NK = torch.softmax(expected_NK * (1.7 if fit else 1.0), dim=1)
    np.testing.assert_allclose(probabilities_NK, wanted_NK.numpy(), atol=1e-4, rtol=0)


def test_onnx_file_describes_its_inputs_and_outputs(tmp_path):
    """It is all that its users get to see of the model."""
    exported(trained(calibrator=calibrator(FINDINGS)), tmp_path, "onnx")
    model = onnx.load(tmp_path / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["findings"]) == list(FINDINGS)
    assert told["crop_px"] == "32"
    assert json.loads(told["thresholds"])["youden"]["Hernia"] == 0.25
    assert told["probability_scale"] == told["threshold_scale"] == "calibrated"
    assert told["resize_filter"] == "Pillow BILINEAR (antialiased)"
    assert "not for clinical use" in model.doc_string
    assert "positive_class" not in told


def test_onnx_file_names_the_positive_class(tmp_path):
    exported(trained(findings=TWO, loss="cross_entropy", positive_class="NORMAL"), tmp_path, "onnx")
    told = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert told["positive_class"] == "NORMAL"


def test_onnx_file_that_predicts_differently_is_not_written(tmp_path):
    """A file nobody compared is trusted like one that was."""
    one = trained()
    content = onnx_file.onnx_file(one, {})
    with torch.no_grad():
        one.network.classifier.bias += 0.01
    with pytest.raises(JobFailedError, match=r"differs by 1\.0e-02"):
        onnx_file.checked(content, one, images_of(one, None, print))


def test_network_with_non_finite_output_is_not_exported():
    """Comparisons with nan are false both ways, so that no difference would be seen."""
    one = trained()
    with torch.no_grad():
        one.network.classifier.bias[0] = float("nan")
    with pytest.raises(JobFailedError, match="not finite"):
        onnx_file.checked(onnx_file.onnx_file(one, {}), one, images_of(one, None, print))


def test_densenet_121_as_onnx_differs_by_less_than_a_ten_thousandth_on_real_x_rays(shared, tmp_path):
    """The promise is about the model and the images people have, not about small ones and noise."""
    one = trained(model="densenet121", side=256, crop_px=224)
    for path in sorted((shared / "data" / "nih-sample" / "images").glob("*.png"))[:4]:
        (tmp_path / path.name).symlink_to(path)
    images_NPP = images_of(one, tmp_path, print)
    assert images_NPP.shape == (4, 224, 224)
    result = onnx_file.checked(onnx_file.onnx_file(one, {}), one, images_NPP)
    assert result.images == 4
    assert result.largest_difference <= 1e-4


@pytest.mark.parametrize("crop_px", [224, 240, 448, 192, 256])
def test_vgg16_at_a_size_that_onnx_cannot_pool_is_refused_or_left_out(crop_px):
    """torch's own message is a screen full of its graph."""
    one = trained(side=crop_px, crop_px=crop_px)
    vgg = dataclasses.replace(one, model="vgg16")
    told = []
    if crop_px in {224, 240, 448}:
        assert fitting(["torch", "onnx"], vgg, requested=True, report=told.append) == ("torch", "onnx")
        return
    assert fitting(["torch", "onnx"], vgg, requested=False, report=told.append) == ("torch",)
    assert "multiple of 224" in told[0]
    with pytest.raises(InputError, match=f"got {crop_px}"):
        fitting(["onnx"], vgg, requested=True, report=told.append)


def test_nothing_is_written_when_one_format_fails(tmp_path):
    """Half an export looks like a whole one."""
    one = trained()
    with torch.no_grad():
        one.network.classifier.bias[0] = float("nan")
    with pytest.raises(JobFailedError):
        exported(one, tmp_path / "out", "safetensors", "onnx")
    assert not (tmp_path / "out").exists()


def test_unreadable_images_are_listed_and_the_others_used(tmp_path):
    """One broken file in a folder must not hide what the check is for."""
    Image.fromarray(np.arange(2500, dtype=np.uint8).reshape(50, 50)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c\nd.png").symlink_to("nowhere")
    told = []
    assert images_of(trained(), tmp_path, told.append).shape == (1, 32, 32)
    (words,) = told
    assert words.splitlines() == [
        "skipped 2 of 3 images:",
        f"  {tmp_path}/b.png: it is not a PNG, JPEG or DICOM image",
        f"  {tmp_path}/c\\nd.png: no such file or directory",
    ]
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match="no image in"):
        images_of(trained(), tmp_path, told.append)


@pytest.fixture
def run(tmp_path):
    """What `pull --what model` leaves of a run, and what was said of it."""
    one = trained(side=72, crop_px=64)
    folder = tmp_path / "runs" / "run-1"
    storage = open_storage(str(folder))
    config = {"pack_side": 72, "pack_fit": "crop", "crop_px": 64, "loss": "bce"}
    storage.write("run.json", json.dumps(samples.record(model="densenet_tiny", **config)).encode())
    told = header(one) | {"step": "96", "name": "run-1"}
    storage.write("model/model.safetensors", save(one.network.state_dict(), metadata=told))
    storage.write("model/calibration.json", calibration.to_bytes(calibrator(FINDINGS)))
    storage.write("results.json", json.dumps(samples.results()).encode())
    storage.write("evaluation/metrics.json", json.dumps(samples.evaluation()).encode())
    return folder


def test_run_is_exported_with_a_model_card_of_its_evaluation(run, tmp_path, capsys):
    """One command from a run to what is handed over."""
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    names = {"model.safetensors", "model.pt", "model.onnx", "calibration.json", "card.md"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    told = capsys.readouterr().out
    assert {line.split()[0].rpartition("/")[2] for line in told.splitlines()} == names
    card = (tmp_path / "out" / "card.md").read_text()
    assert card.startswith("# Model card: run-1, step 96\n")
    assert "0.812 (0.792 to 0.832)" in card
    assert "max |Δ|" in card
    assert str(tmp_path) not in card


def test_scores_of_another_checkpoint_are_not_on_the_card(run, tmp_path):
    """The evidence of a run is that of its best checkpoint, and of no other."""
    (run / "results.json").write_text(json.dumps(samples.results() | {"checkpoint": {"step": 5}}))
    assert main(["export", str(run), "--out", str(tmp_path / "out"), "--to", "torch"]) == 0
    assert "0.812" not in (tmp_path / "out" / "card.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere", "--out", "out"], "there is no run"),
        (["model", "--out", "out", "--to", "coreml"], "unknown format, got `coreml`"),
        (["model", "--out", "file/out"], "file/out/calibration.json`: not a directory"),
        (["model", "--out", "out", "--check", "empty"], "no image in `empty`"),
        (["model", "--out", ""], "no output directory"),
        (["model", "--out", "of-another"], "it has a calibration.json, and this model has none"),
    ],
    ids=["no model", "format", "place", "images", "no place", "calibration of another model"],
)
def test_formats_that_cannot_be_exported_are_refused_by_name(tmp_path, monkeypatch, capsys, arguments, complaint):
    """Exit code 2, one line, and nothing half written."""
    monkeypatch.chdir(tmp_path)
    exported(trained(), tmp_path / "model", "safetensors")
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "of-another").mkdir()
    (tmp_path / "of-another/calibration.json").write_text("{}")
    there = sorted(tmp_path.rglob("*"))
    assert main(["export", *arguments]) == 2
    assert complaint in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == there
    assert not (tmp_path / "out").exists()


def test_model_card_is_written_without_torch():
    """The launcher and the report are quick to start."""
    code = "import sys, trainer.report.model_card; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fields_of_a_card_at_the_export_go_before_those_of_the_run(finished_run, tmp_path):
    """Who exports knows more than who started the run, and weights without a run have no other way."""
    (tmp_path / "card.yaml").write_text("owner: Ward 7\nweights_licence: CC BY 4.0\n")
    flags = ["--to", "torch", "--card", str(tmp_path / "card.yaml")]
    run = tmp_path / "run"
    shutil.copytree(finished_run.root, run)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"card": {"owner": "nobody", "funding": "none"}}))
    for model, out in ((run, "a"), (run / "model/model.safetensors", "b")):
        assert main(["export", str(model), "--out", str(tmp_path / out), *flags]) == 0
        card = (tmp_path / out / "card.md").read_text()
        assert "| Owner of the model (`owner`) | Ward 7 |" in card
        assert "| Licence of the weights (`weights_licence`) | CC BY 4.0 |" in card
        assert "nobody" not in card
    assert "| none |" in (tmp_path / "a/card.md").read_text()


def test_export_refuses_a_card_before_it_reads_the_model(tmp_path, capsys):
    """By name, with the fields that there are."""
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "out"), "--card", "{licence: MIT}"]) == 2
    err = capsys.readouterr().err
    assert "cannot use the card: unknown field `licence` (from `--card`)" in err
    assert "weights_licence" in err
