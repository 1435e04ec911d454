"""First weights, and public formats of them."""

import pytest
import torch
from torch import nn

from trainer.errors import InputError
from trainer.model import build
from trainer.weights import first_weights, load_first_weights


def test_imagenet_weights_that_are_neither_cached_nor_reachable_are_a_clear_error(tmp_path, monkeypatch):
    """A pod without internet must find out before it holds eight cards."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="cannot get ImageNet weights") as refusal:
        first_weights("imagenet", "densenet121", tmp_path)
    assert "--weights" in refusal.value.hint


def test_weights_of_a_checkpoint_are_taken_with_a_head_for_other_findings_left_as_it_is(tmp_path):
    """Fine-tuning on one's own findings starts from features, not from the head."""
    torch.manual_seed(0)
    trained, fresh = build("densenet_tiny", "linear", 14), build("densenet_tiny", "linear", 2)
    head = fresh.classifier.weight.clone()
    torch.save({"model": trained.state_dict()}, tmp_path / "state.pt")
    load_first_weights(fresh, first_weights(str(tmp_path / "state.pt"), "densenet_tiny", tmp_path), "state.pt")
    torch.testing.assert_close(fresh.features.conv0.weight, trained.features.conv0.weight)
    torch.testing.assert_close(fresh.classifier.weight, head)


def test_names_of_torchvisions_own_file_are_understood():
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


class Trap:
    """An object that must never be made from a file."""


@pytest.mark.parametrize(
    ("write", "complaint"),
    [
        pytest.param(lambda path: None, "no such file", id="missing"),
        pytest.param(lambda path: path.write_bytes(b"not torch"), "no state dict", id="not a checkpoint"),
        pytest.param(lambda path: torch.save([1, 2], path), "no state dict", id="a list"),
        pytest.param(lambda path: torch.save({"model": Trap()}, path), "no state dict", id="code"),
        pytest.param(lambda path: torch.save(nn.Linear(1, 1), path), "no state dict", id="a pickled module"),
    ],
)
def test_file_without_weights_is_refused_and_never_executed(tmp_path, write, complaint):
    """Checkpoints come from elsewhere; loading one must not run it."""
    write(tmp_path / "w.pt")
    with pytest.raises(InputError, match=complaint):
        first_weights(str(tmp_path / "w.pt"), "densenet121", tmp_path)
