"""First weights, and public formats of them."""

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import DenseNet, resnet50

from trainer.data.augment import normalise
from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.models.architectures import build, head_of
from trainer.models.pretrained import (
    IMAGENET,
    check_first_weights,
    first_weights,
    load_first_weights,
    read_weights,
)

XRAYVISION = (
    *("Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion"),
    *("Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia"),
    *("Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum"),
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def put_in_cache(folder, model, state, monkeypatch):
    """The file that torchvision would have downloaded for ImageNet's weights, named by its hash as theirs are."""
    (folder / "checkpoints").mkdir(parents=True)
    torch.save(state, folder / "new")
    path = folder / "checkpoints" / f"{model}-{hashlib.sha256((folder / 'new').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "new").rename(path)
    url = f"http://127.0.0.1:9/{path.name}"
    entry = SimpleNamespace(url=url, get_state_dict=lambda **how: torch.hub.load_state_dict_from_url(url, **how))
    monkeypatch.setitem(IMAGENET, model, entry)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    return path


def as_in_2017(state):
    """Under the names, and without the counters, of torch 0.3."""
    return OrderedDict(
        (re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name), tensor)
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )


def test_imagenet_weights_that_are_neither_cached_nor_reachable_are_a_clear_error(tmp_path, monkeypatch):
    """A pod without internet must find out before it holds eight cards."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot get ImageNet weights") as refusal:
        first_weights("imagenet", "densenet121", tmp_path)
    assert "--weights" in refusal.value.hint


def test_foreign_files_in_the_cache_of_imagenet_weights_are_kept(tmp_path, monkeypatch):
    """A killed download leaves its half there; whatever else has a name like it stays."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    name = Path(IMAGENET["densenet121"].url).name
    weights = tmp_path / "weights"
    weights.mkdir()
    ours, new = weights / f"{name}.{'0' * 32}.partial", weights / f"{name}.{'1' * 32}.partial"
    others = [
        weights / f"{name}.partial",
        weights / f"other.{'0' * 32}.partial",
        weights / f"{name}.{'2' * 32}.partial",
    ]
    for path in [ours, new, *others[:2]]:
        path.write_bytes(b"half")
    others[2].symlink_to(others[0])
    for path in [ours, *others]:
        os.utime(path, (0, 0), follow_symlinks=False)
    with pytest.raises(InputError, match="cannot get ImageNet weights"):
        first_weights("imagenet", "densenet121", tmp_path)
    assert [path.exists() for path in [ours, new, *others]] == [False, True, True, True, True]
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/weights").symlink_to(weights)
    with pytest.raises(InputError, match="it is a link"):
        first_weights("imagenet", "densenet121", tmp_path / "cache")


@pytest.mark.parametrize("findings", [14, 1000])
def test_imagenet_file_as_torchvision_publishes_it_is_loaded_without_its_head(tmp_path, monkeypatch, findings):
    """It has names and gaps of 2017; its classes are none of ours, even where there are a thousand."""
    theirs = build("densenet121", "linear", 1000)
    put_in_cache(tmp_path / "hub", "densenet121", as_in_2017(theirs.state_dict()), monkeypatch)
    network = build("densenet121", "linear", findings)
    head = network.classifier.weight.clone()
    load_first_weights(network, first_weights("imagenet", "densenet121", tmp_path), "imagenet")
    torch.testing.assert_close(network.features.state_dict(), theirs.features.state_dict())
    torch.testing.assert_close(network.classifier.weight, head)


@pytest.mark.parametrize(("model", "head"), [("vgg16", "classifier.6"), ("resnet50", "fc")])
def test_imagenet_head_of_every_model_is_dropped_and_all_else_kept(tmp_path, monkeypatch, model, head):
    """The paper's VGG16 keeps the two large layers before the last."""
    file = {f"{head}.weight": torch.ones(2), f"{head}.bias": torch.ones(1), "classifier.3.weight": torch.zeros(1)}
    put_in_cache(tmp_path / "hub", model, file, monkeypatch)
    assert first_weights("imagenet", model, tmp_path).keys() == {"classifier.3.weight"}


def test_damaged_imagenet_file_in_the_cache_is_named_and_not_used(tmp_path, monkeypatch):
    """torch compares hashes of what it downloads only: a half copied file would say something obscure, or nothing."""
    path = put_in_cache(tmp_path / "hub", "resnet50", {"fc.bias": torch.ones(1)}, monkeypatch)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(InputError, match=f"{path.name}` is damaged"):
        first_weights("imagenet", "resnet50", tmp_path)


def test_checkpoint_with_a_head_for_other_findings_gives_its_backbone_only(tmp_path):
    """Fine-tuning on one's own findings starts from features, not from the head."""
    trained, fresh = build("densenet_tiny", "linear", 14), build("densenet_tiny", "linear", 2)
    head = fresh.classifier.weight.clone()
    torch.save({"model": trained.state_dict()}, tmp_path / "state.pt")
    load_first_weights(fresh, first_weights(str(tmp_path / "state.pt"), "densenet_tiny", tmp_path), "state.pt")
    torch.testing.assert_close(fresh.features.conv0.weight, trained.features.conv0.weight)
    torch.testing.assert_close(fresh.classifier.weight, head)


def test_older_parameter_names_of_torchvisions_file_are_understood():
    """The ImageNet file was saved under older names than the modules have."""
    network = build("densenet_tiny", "linear", 2)
    old = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): tensor + 1
        for name, tensor in network.state_dict().items()
    }
    assert old.keys() != network.state_dict().keys()
    before = network.features.denseblock1.denselayer1.conv2.weight.clone()
    load_first_weights(network, old, "old")
    torch.testing.assert_close(network.features.denseblock1.denselayer1.conv2.weight, before + 1)


def test_weights_of_another_architecture_are_refused():
    """Loading what fits and leaving out the rest would start from noise unnoticed."""
    with pytest.raises(InputError, match="another architecture"):
        load_first_weights(
            build("densenet121", "linear", 14), build("densenet_tiny", "linear", 14).state_dict(), "x.pt"
        )


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_head_for_the_same_findings_is_loaded(head):
    """A run goes on from another of the same findings with all it had learnt."""
    trained, fresh = build("densenet_tiny", head, 3), build("densenet_tiny", head, 3)
    load_first_weights(fresh, trained.state_dict(), "x.pt")
    torch.testing.assert_close(head_of(fresh).state_dict(), head_of(trained).state_dict())


def test_head_of_another_kind_is_left_out_and_the_backbone_taken():
    """A hidden head starts on features of a model with a linear one, and the other way round."""
    for first, then in [("linear", "hidden"), ("hidden", "linear")]:
        trained, fresh = build("densenet_tiny", first, 3), build("densenet_tiny", then, 3)
        before = {name: tensor.clone() for name, tensor in head_of(fresh).state_dict().items()}
        load_first_weights(fresh, trained.state_dict(), "x.pt")
        torch.testing.assert_close(fresh.features.state_dict(), trained.features.state_dict())
        torch.testing.assert_close(dict(head_of(fresh).state_dict()), before)


@pytest.mark.parametrize("zipped", [True, False], ids=["today's container", "container of 2017"])
def test_public_chexnet_checkpoint_is_read(tmp_path, zipped):
    """arnoweng's and zoogzog's files: wrapped twice, old names, head with its sigmoid, and a best loss that numpy made."""
    theirs = build("densenet121", "linear", 14)
    inner = {name.replace("classifier.", "classifier.0."): tensor for name, tensor in theirs.state_dict().items()}
    file = {
        "epoch": 7,
        "arch": "DENSENET121",
        "state_dict": OrderedDict((f"module.densenet121.{name}", tensor) for name, tensor in as_in_2017(inner).items()),
        "best_loss": np.float64(0.15),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(1e-4), "params": [0]}]},
    }
    path = tmp_path / "m.pth.tar"
    torch.save(file, path, _use_new_zipfile_serialization=zipped)
    if not zipped:
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    read = read_weights(tmp_path / "m.pth.tar")
    assert read.findings == FINDINGS
    assert "order of the published lists" in read.note
    torch.testing.assert_close(read.state, dict(theirs.state_dict()))
    network = build("densenet121", "linear", 14)
    network.load_state_dict(read.state)


@pytest.mark.parametrize("model", ["densenet_tiny", "resnet50"])
def test_torchxrayvision_weights_predict_the_same_through_our_preparation(tmp_path, model):
    """Their network sees one channel from -1024 to 1024, ours three normalised ones: every pixel counts, also at the edges."""
    if model == "resnet50":
        theirs = resnet50(num_classes=18)
        theirs.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    else:
        theirs = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=18)
        theirs.features.conv0 = nn.Conv2d(1, 16, 7, stride=2, padding=3, bias=False)
    x_N1PP = torch.randint(0, 256, (4, 1, 64, 64), dtype=torch.uint8)
    gray_N1PP = 2048 * (x_N1PP / 255) - 1024
    theirs.train()(gray_N1PP)  # statistics that suit such pixels
    theirs.eval()
    torch.save({f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "xrv.pt")
    read = read_weights(tmp_path / "xrv.pt")
    ours = build(model, "linear", 14).eval()
    ours.load_state_dict(read.state)
    with torch.inference_mode():
        expected_NK = theirs(gray_N1PP)[:, [XRAYVISION.index(name) for name in FINDINGS]]
        torch.testing.assert_close(ours(normalise(x_N1PP)), expected_NK, atol=1e-4, rtol=0)
    assert read.findings == FINDINGS
    assert read.side == (512 if model == "resnet50" else 224)


def gray_densenet(findings):
    network = DenseNet(growth_rate=8, block_config=(2, 2, 2, 2), num_init_features=16, num_classes=findings)
    network.features.conv0 = nn.Conv2d(1, 16, 7, stride=2, padding=3, bias=False)
    return network.state_dict()


def test_outputs_that_torchxrayvision_never_trained_are_left_out(tmp_path):
    """Its CheXpert model has 18 outputs too; noise under the name of a finding would be scored as if it meant something."""
    thresholds = torch.full((18,), 0.1)
    absent = ["Infiltration", "Emphysema", "Hernia"]
    thresholds[[XRAYVISION.index(name) for name in absent]] = float("nan")
    state = gray_densenet(18)
    torch.save(state | {"op_threshs": thresholds}, tmp_path / "xrv.pt")
    read = read_weights(tmp_path / "xrv.pt")
    assert read.findings == tuple(name for name in FINDINGS if name not in absent)
    rows = [XRAYVISION.index(name) for name in read.findings]
    torch.testing.assert_close(read.state["classifier.weight"], state["classifier.weight"][rows])
    assert "11 of its 18 findings" in read.note
    assert "does not record which were trained" not in read.note
    torch.save(state, tmp_path / "bare.pt")
    assert "does not record which were trained" in read_weights(tmp_path / "bare.pt").note


def test_error_names_the_flag_only_if_it_was_given(tmp_path):
    """The same file is `--model` of one command and `--weights` of another."""
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(InputError, match="it has no state dict") as read:
        read_weights(tmp_path / "text.pth")
    assert "--weights" not in f"{read.value} {read.value.hint}"
    with pytest.raises(InputError, match=r"it has no state dict.*\(from `--weights`\)"):
        first_weights(str(tmp_path / "text.pth"), "densenet_tiny", tmp_path)


def test_other_weights_for_gray_images_are_refused(tmp_path):
    """Nothing says what their black and white are; a guess would give answers that look fine."""
    torch.save(gray_densenet(14), tmp_path / "gray.pt")
    with pytest.raises(InputError, match="one channel"):
        read_weights(tmp_path / "gray.pt")


def test_exported_model_is_taken_with_the_findings_its_header_names(tmp_path):
    """What a run leaves behind is where the next one starts."""
    state = build("densenet_tiny", "hidden", 2).state_dict()
    save_file(state, tmp_path / "model.safetensors", metadata={"findings": json.dumps(["NORMAL", "PNEUMONIA"])})
    read = read_weights(tmp_path / "model.safetensors")
    assert read.findings == ("NORMAL", "PNEUMONIA")
    torch.testing.assert_close(read.state, dict(state))


@pytest.mark.parametrize("content", [None, b"", b"no safetensors" * 9], ids=["missing", "empty", "another format"])
def test_safetensors_that_cannot_be_read_are_a_clear_error(tmp_path, content):
    """Half a download has the right name."""
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read weights.*model\.safetensors"):
        read_weights(tmp_path / "model.safetensors")


def test_pickled_model_is_refused_with_what_to_do(tmp_path):
    """jrzech's file and torchxrayvision's own downloads hold objects; their classes are programs, and the state dict is asked for."""
    torch.save({"model": nn.Linear(1, 1), "epoch": 6}, tmp_path / "checkpoint")
    with pytest.raises(InputError, match=r"object of `torch\.nn\.modules\.linear\.Linear`") as refusal:
        read_weights(tmp_path / "checkpoint")
    assert "torch.save(model.state_dict()" in refusal.value.hint


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize(
    "prefix", ["", "model.", "net.", "backbone.", "module._orig_mod.", "encoder.", "student.cnn.0."]
)
@pytest.mark.parametrize("keys", ["", "state_dict", "network", "checkpoint.weights"])
def test_network_is_found_below_any_keys_and_prefix(tmp_path, prefix, keys, kind):
    """Wrapper classes are named by whoever writes them; what fits is the network."""
    theirs = build("densenet_tiny", "linear", 14).state_dict()
    path = tmp_path / f"w.{kind}"
    if kind == "safetensors":
        save_file(prefixed(theirs, f"{keys}.{prefix}" if keys else prefix), path)
    else:
        content = prefixed(theirs, prefix)
        for key in reversed(keys.split(".") if keys else []):
            content = {key: content, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}}}
        torch.save(content, path)
    read = read_weights(path)
    assert read.model == "densenet_tiny"
    torch.testing.assert_close(read.state, dict(theirs))
    assert read.note is None


@pytest.mark.parametrize(("model", "head"), [("vgg16", "linear"), ("resnet50", "hidden"), ("densenet121", "hidden")])
def test_every_model_is_found_by_what_fits(tmp_path, model, head):
    """ResNet's first name also ends names of its layers, and VGG's head is the last layer of a sequence."""
    theirs = build(model, head, 2).state_dict()
    torch.save({"state_dict": prefixed(theirs, "net.")}, tmp_path / "w.ckpt")
    read = read_weights(tmp_path / "w.ckpt")
    assert read.model == model
    assert read.state.keys() == theirs.keys()


def test_other_tensors_of_a_program_are_left_out_and_named(tmp_path):
    """A loss keeps its weights beside the model in Lightning's checkpoints."""
    theirs = build("densenet_tiny", "linear", 14).state_dict()
    torch.save({"state_dict": prefixed(theirs, "model.") | {"criterion.weight": torch.ones(14)}}, tmp_path / "w.ckpt")
    read = read_weights(tmp_path / "w.ckpt")
    torch.testing.assert_close(read.state, dict(theirs))
    assert read.note == "1 tensor in it not part of densenet_tiny and not used, the first is `criterion.weight`"


def test_features_without_their_head_are_found_under_another_name(tmp_path):
    """`self.encoder = densenet121().features`: the head is elsewhere."""
    theirs = build("densenet_tiny", "linear", 14)
    state = prefixed(theirs.features.state_dict(), "encoder.") | {"head.weight": torch.ones(2, 3)}
    torch.save(state, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    fresh = build("densenet_tiny", "linear", 3)
    head = fresh.classifier.weight.clone()
    load_first_weights(fresh, read.state, "w.pt")
    torch.testing.assert_close(fresh.features.state_dict(), theirs.features.state_dict())
    torch.testing.assert_close(fresh.classifier.weight, head)
    assert "`head.weight`" in read.note


def test_layer_after_dropout_is_a_linear_head(tmp_path):
    """`classifier = Sequential(Dropout, Linear)` is the commonest change of a torchvision model."""
    theirs = build("densenet_tiny", "linear", 5).state_dict()
    state = {name.replace("classifier.", "classifier.1."): tensor for name, tensor in theirs.items()}
    torch.save(state, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt")
    torch.testing.assert_close(read.state, dict(theirs))
    assert read.findings is None


def test_networks_with_different_weights_are_refused_with_their_places(tmp_path):
    """An averaged copy predicts other numbers; which of them was published is not in the file."""
    one, other = (build("densenet_tiny", "linear", 14).state_dict() for _ in range(2))
    torch.save({"state_dict": prefixed(one, "net."), "ema": {"module": other}}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="2 networks with different weights") as refusal:
        read_weights(tmp_path / "w.pt")
    assert "different weights: `ema.module`, `state_dict.net`" in str(refusal.value)
    save_file(prefixed(one, "student.") | prefixed(other, "teacher."), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="`student`, `teacher`"):
        read_weights(tmp_path / "w.safetensors")


def test_copies_with_the_same_weights_are_one_network(tmp_path):
    """A frozen copy, and one without its head, say nothing else."""
    state = build("densenet_tiny", "linear", 14).state_dict()
    bare = {name: tensor.clone() for name, tensor in state.items() if name.startswith("features.")}
    torch.save({"backbone": bare, "model": state}, tmp_path / "w.pt")
    torch.testing.assert_close(read_weights(tmp_path / "w.pt").state, dict(state))


def test_of_two_models_the_one_to_train_is_taken(tmp_path):
    """An ensemble of architectures in one file is no doubt about what `--model` names; without it, it is."""
    networks = {model: build(model, "linear", 2).state_dict() for model in ("densenet_tiny", "resnet50")}
    torch.save(networks, tmp_path / "w.pt")
    assert first_weights(str(tmp_path / "w.pt"), "resnet50", tmp_path).keys() == networks["resnet50"].keys()
    with pytest.raises(InputError, match=r"2 networks with different weights"):
        read_weights(tmp_path / "w.pt")


def test_other_architecture_is_named_before_training(tmp_path):
    """The file tells what to give as `--model`."""
    torch.save(prefixed(build("densenet_tiny", "linear", 2).state_dict(), "net."), tmp_path / "w.pt")
    with pytest.raises(InputError, match="densenet_tiny in place of densenet121") as refusal:
        first_weights(str(tmp_path / "w.pt"), "densenet121", tmp_path)
    assert refusal.value.hint == "--model densenet_tiny"


def test_weights_that_are_not_finite_are_refused(tmp_path):
    """The first step would say so, on an accelerator."""
    state = build("densenet_tiny", "linear", 2).state_dict()
    state["features.norm5.bias"][3] = torch.nan
    torch.save(prefixed(state, "net."), tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"`features\.norm5\.bias` is not finite"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("head", ["linear", "hidden"])
def test_head_follows_the_names_of_its_findings(tmp_path, head):
    """Equal numbers of outputs are not the same outputs: PNEUMONIA's row must not become NORMAL's."""
    theirs = build("densenet_tiny", head, 3).state_dict()
    *_, weight, bias = theirs
    save_file(theirs, tmp_path / "m.safetensors", metadata={"findings": json.dumps(["A", "B", "C"])})

    def taken(*findings):
        return first_weights(str(tmp_path / "m.safetensors"), "densenet_tiny", tmp_path, findings=findings)

    torch.testing.assert_close(taken("A", "B", "C"), dict(theirs))
    torch.testing.assert_close(taken("C", "A")[weight], theirs[weight][[2, 0]])
    torch.testing.assert_close(taken("C", "A")[bias], theirs[bias][[2, 0]])
    assert not check_first_weights("densenet_tiny", head, 3, taken("A", "B", "X"), "m")
    assert check_first_weights("densenet_tiny", head, 2, taken("C", "A"), "m")


def test_head_of_unknown_outputs_is_taken_and_said(tmp_path):
    """NORMAL and PNEUMONIA may be the other way round there."""
    torch.save(build("densenet_tiny", "linear", 2).state_dict(), tmp_path / "w.pt")
    said = []
    first_weights(str(tmp_path / "w.pt"), "densenet_tiny", tmp_path, findings=["A", "B"], report=said.append)
    assert said == [f"the outputs of `{tmp_path}/w.pt` are not recorded: its head is taken for A, B, in this order"]
    first_weights(str(tmp_path / "w.pt"), "densenet_tiny", tmp_path, findings=["A", "B", "C"], report=said.append)
    assert len(said) == 1


def test_parts_that_torch_has_wrapped_are_found(tmp_path):
    """`model.features = torch.compile(model.features)` changes names in their middle."""
    theirs = build("densenet_tiny", "linear", 2).state_dict()
    state = {name.replace("features.", "features._orig_mod."): tensor for name, tensor in theirs.items()}
    torch.save(prefixed(state, "net."), tmp_path / "w.pt")
    torch.testing.assert_close(read_weights(tmp_path / "w.pt").state, dict(theirs))
    other = build("densenet_tiny", "linear", 2).state_dict()
    torch.save(theirs | prefixed(other, "_orig_mod."), tmp_path / "w.pt")
    with pytest.raises(InputError, match="2 networks with different weights"):
        read_weights(tmp_path / "w.pt")


def archive(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in names:
            file.writestr(name, b"x")
    return buffer.getvalue()


def torchscript():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


FOREIGN = {
    "git-LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28\n", "git lfs pull"),
    "git-annex pointer": (b"/annex/objects/SHA256E-s1--00.pt\n", "git annex get"),
    "HTML page": (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning", "download the file itself"),
    "XML document": (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "download the file itself"),
    "JSON document": (b'{"metadata": {"total_size": 1}, "weight_map": {}}', "a state dict"),
    "text file": ("404: Not Found, nämlich".encode(), "a state dict"),
    "empty": (b"", "again"),
    "HDF5 file": (b"\x89HDF\r\n\x1a\n" + bytes(99), "PyTorch"),
    "ONNX model": (b"\x08\x08\x12\x07pytorch\x1a\x052.6.0", "state dict of the PyTorch model"),
    "TensorFlow SavedModel": (b"\x08\x01\x12\xff\x00", "PyTorch"),
    "compressed with gzip": (b"\x1f\x8b\x08" + bytes(99), "unpack"),
    "TorchScript archive": (torchscript(), "torch.jit.load"),
    "Keras model": (archive("metadata.json", "model.weights.h5"), "PyTorch"),
    "archive of NumPy arrays": (archive("arr_0.npy", "arr_1.npy"), "a state dict"),
    "zip archive that torch did not write": (archive("weights/model.pth"), "unpack"),
}


@pytest.mark.parametrize("name", ["w.pt", "model.safetensors"])
@pytest.mark.parametrize(("what", "found"), FOREIGN.items(), ids=FOREIGN)
def test_file_of_another_format_is_named_as_what_it_is(tmp_path, what, found, name):
    """`UnpicklingError` says neither what went wrong in the download nor what to do."""
    content, hint = found
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=what) as refusal:
        read_weights(tmp_path / name)
    assert hint in refusal.value.hint


def test_format_is_known_by_content_not_by_name(tmp_path):
    """Files are renamed; `pytorch_model.bin` may be either."""
    state = build("densenet_tiny", "linear", 2).state_dict()
    save_file(state, tmp_path / "w.bin")
    torch.save(state, tmp_path / "w.safetensors")
    for name in ("w.bin", "w.safetensors"):
        torch.testing.assert_close(read_weights(tmp_path / name).state, dict(state))


class Trap:
    """An object that must never be made from a file."""


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"not torch"), "no state dict", id="not a checkpoint"),
        pytest.param(lambda path: torch.save([1, 2], path), "no state dict", id="a list"),
        pytest.param(lambda path: torch.save({"model": Trap()}, path), "instead of a state dict", id="code"),
        pytest.param(lambda path: torch.save(nn.Linear(1, 1), path), "instead of a state dict", id="a pickled module"),
    ],
)
def test_file_without_weights_is_refused_and_never_executed(tmp_path, write, complaint):
    """Checkpoints come from elsewhere; loading one must not run it."""
    write(tmp_path / "w.pt")
    with pytest.raises(InputError, match=complaint):
        first_weights(str(tmp_path / "w.pt"), "densenet121", tmp_path)
