"""The classifier: its size, what of it is trained, and its losses."""

import pytest
import torch
from torch import nn

from trainer.config import from_argv
from trainer.errors import InputError
from trainer.models.architectures import build, features_of, freeze, head_of, headless, to_training, unfreeze
from trainer.models.losses import class_loss, finding_loss


def counted(network):
    """Trained and all parameters."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in network.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def test_densenet_121_with_14_findings_has_the_published_size():
    """A head or a layer too many would go unnoticed in training."""
    assert counted(build("densenet121", "linear", 14))[1] == 6_968_206


@pytest.mark.parametrize(
    ("model", "trained", "total"), [("densenet121", 656_642, 7_610_498), ("vgg16", 2_098_690, 136_359_234)]
)
def test_frozen_networks_of_the_pneumonia_paper_train_as_many_parameters_as_it_says(model, trained, total):
    """To the unit: another head would be another experiment."""
    with torch.device("meta"):
        network = build(model, "hidden", 2)
    freeze(network)
    assert counted(network) == (trained, total)
    unfreeze(network)
    assert counted(network) == (total, total)


def test_frozen_backbone_keeps_its_statistics_in_training_mode():
    """BatchNorm would go on averaging, and the backbone would no longer be the one whose weights are frozen."""
    network = build("densenet_tiny", "hidden", 2)
    freeze(network)
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    to_training(network, frozen=True)
    network(torch.randn(4, 3, 32, 32)).sum().backward()
    for name, buffer in network.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert all(module.training for module in head_of(network).modules())
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == {
        name for name, _ in network.named_parameters() if name.startswith("classifier.")
    }
    to_training(network, frozen=False)
    network(torch.randn(4, 3, 32, 32))
    assert not torch.equal(network.features.norm5.running_mean, before["features.norm5.running_mean"])


def test_dropout_of_a_frozen_backbone_is_disabled():
    """VGG16 has two in front of its head; with them no two epochs would see the same features."""
    with torch.device("meta"):
        network = build("vgg16", "hidden", 2)
    to_training(network, frozen=True)
    drops = {name: module.training for name, module in network.named_modules() if isinstance(module, nn.Dropout)}
    assert drops == {"classifier.2": False, "classifier.5": False, "classifier.6.2": True}


@pytest.mark.parametrize("model", ["densenet_tiny", "resnet50"])
def test_head_on_backbone_features_equals_the_whole_network(model):
    """What is cached must be what the head is given, and the network be whole again afterwards."""
    network = build(model, "hidden", 2).eval()
    x_NCHW = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        whole = network(x_NCHW)
        with headless(network) as backbone:
            features = backbone(x_NCHW)
        assert features.shape == (2, features_of(network))
        torch.testing.assert_close(head_of(network)(features), whole)
        torch.testing.assert_close(network(x_NCHW), whole)


def test_loss_is_mean_binary_cross_entropy():
    """Not softmax: findings are not exclusive."""
    logits, labels = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
    expected = (-torch.log(torch.tensor(0.5)) - torch.log(1 - torch.sigmoid(torch.tensor(2.0)))) / 2
    torch.testing.assert_close(finding_loss(logits, labels), expected)


def test_loss_of_classes_is_the_negative_log_of_the_true_ones_probability():
    """NLL of log-softmax, as the paper has it in two parts."""
    logits, classes = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = nn.functional.nll_loss(logits.log_softmax(dim=1), classes)
    torch.testing.assert_close(class_loss(logits, nn.functional.one_hot(classes, 3).float()), expected)


def fewest_values(network, crop_px):
    """Values per image and channel in the smallest input of a BatchNorm layer; None without such a layer."""
    seen = []
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, 0].numel()))
    network.eval()(torch.empty(1, 3, crop_px, crop_px, device="meta"))
    return min(seen, default=None)


@pytest.mark.parametrize("model", ["densenet121", "vgg16", "resnet50", "densenet_tiny"])
def test_images_that_batch_norm_cannot_train_on_one_at_a_time_are_refused(model):
    """The refusal has to know from what size on the last map has more than one cell; here the network is asked."""
    for crop_px in (32, 33, 59, 60, 61, 64):
        with torch.device("meta"):
            network = build(model, "linear", 2)
        flags = f"--preset smoke --model {model} --crop-px {crop_px} --batch-size 1 --data d --output o --name n"
        config = from_argv(flags.split())
        if fewest_values(network, crop_px) == 1:
            with pytest.raises(InputError, match=f"cannot train {model} on one image per worker at {crop_px} pixels"):
                config.batch_per_worker(1)
        else:
            assert config.batch_per_worker(1) == 1
