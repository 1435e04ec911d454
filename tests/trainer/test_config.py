"""Flags and presets: what a run is told, and what is refused before anything starts."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.__main__ import app
from trainer.card_file import FIELDS, as_text
from trainer.config import PRESETS, WRITTEN_IF_CHANGED, TrainConfig, flag_of, from_argv, is_flag, to_argv
from trainer.errors import InputError

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1).filter(
    lambda text: not text.startswith("~")  # a home directory, which is replaced
)

REQUIRED = ["--data", "d", "--output", "o", "--name", "n"]

LABEL_FLAGS = [
    "findings",
    "rename",
    "uncertain",
    "blank",
    "projection",
    "valid_as",
    "readers",
    "physician_labels_only",
]

FLAGS = [
    "data",
    "output",
    "name",
    "preset",
    "layout",
    "val_list",
    "on_bad_image",
    "on_missing_image",
    "gray_range",
    "pack_fit",
    "device",
    "precision",
    "gaudi_mode",
    "compile",
    "activation_memory",
    "parity_check",
    "cache_dir",
    "resume",
    "seed",
    "max_steps",
    "deadline",
    "checkpoint_every_steps",
    "checkpoint_every_minutes",
    "keep_last",
    "hang_after",
    "log_every_steps",
    "profile",
    "cache_features",
    "report",
    "gallery",
    "card",
    "unfreeze_after",
    "positive_class",
    "split",
    "model",
    "head",
    "backbone",
    "loss",
    "weights",
    "pack_side",
    "crop_px",
    "crop",
    "flip",
    "rotate",
    "epochs",
    "batch_size",
    "global_batch_size",
    "optimizer",
    "lr",
    "weight_decay",
    "schedule",
    "warmup_epochs",
    "clip_norm",
]


def test_train_has_exactly_these_flags():
    """Flags are an interface: manifests and scripts of users hold them."""
    assert [field.name for field in dataclasses.fields(TrainConfig)] == [*LABEL_FLAGS, *FLAGS]


def test_choices_of_labels_are_written_only_where_they_are_made():
    """The trainer of an earlier version, in an image, does not know their flags."""
    plain = from_argv(REQUIRED)
    assert not {word.partition("=")[0] for word in to_argv(plain)} & {flag_of(name) for name in LABEL_FLAGS}
    labels = ["--uncertain=ignore", "--uncertain=Edema=ones", "--rename=A=B|C D", "--blank=zeros", "--projection=PA,AP"]
    chosen = from_argv([*REQUIRED, *labels, "--physician-labels-only"])
    assert chosen.uncertain == ("ignore", "Edema=ones")
    assert {*labels, "--physician-labels-only"} <= set(to_argv(chosen))
    assert from_argv(to_argv(chosen)) == chosen


def test_later_flags_are_written_only_where_they_differ_from_their_default():
    """The trainer of an earlier version, in an image, does not know them."""
    flags = {flag_of(name) for name in WRITTEN_IF_CHANGED}
    assert not {word.partition("=")[0] for word in to_argv(from_argv(REQUIRED))} & flags
    changed = from_argv([*REQUIRED, "--compile=off", "--activation-memory=low", "--profile=3"])
    assert {"--compile=off", "--activation-memory=low", "--profile=3"} <= set(to_argv(changed))
    assert from_argv(to_argv(changed)) == changed


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--model", "vgg16"], "--model vgg16"),
        (["--model", "resnet50"], "--model resnet50"),
        (["--compile", "on"], "--compile on"),
        (["--gaudi-mode", "compile"], "--gaudi-mode compile"),
    ],
)
def test_low_activation_memory_is_refused_where_it_has_no_effect(flags, named):
    """And where what is computed again would be compiled."""
    assert from_argv(REQUIRED).recomputes is False
    with pytest.raises(InputError, match=f"--activation-memory low .*{named}"):
        from_argv([*REQUIRED, "--activation-memory", "low", *flags])
    assert from_argv([*REQUIRED, "--activation-memory", "low"]).compile_choice == "off"


@pytest.mark.parametrize(("mode", "compile_"), [("lazy", "on"), ("eager", "on"), ("compile", "off")])
def test_a_mode_of_gaudi_that_contradicts_compile_is_refused(mode, compile_):
    """One of the two would have no effect."""
    with pytest.raises(InputError, match=f"--gaudi-mode {mode} and --compile {compile_}"):
        from_argv([*REQUIRED, "--gaudi-mode", mode, "--compile", compile_])
    from_argv([*REQUIRED, "--gaudi-mode", mode, "--compile", "auto"])


def test_a_wrong_choice_of_labels_is_refused_with_the_flags_of_a_job():
    with pytest.raises(InputError, match="from `--uncertain`"):
        from_argv([*REQUIRED, "--uncertain", "maybe"])


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_sets_every_flag_of_its_recipe(preset):
    """A preset decides every field that has no default of its own, so that nothing is left to chance."""
    config = from_argv([*REQUIRED, "--preset", preset])
    for field, value in PRESETS[preset]().items():
        assert getattr(config, field) == value


def test_flag_wins_over_preset():
    """What the user types is what happens."""
    config = from_argv([*REQUIRED, "--preset", "smoke", "--lr", "0.5", "--flip", "--crop-px", "40"])
    assert (config.lr, config.flip, config.crop_px, config.pack_side) == (0.5, True, 40, 72)


def test_global_batch_size_replaces_the_presets_batch_size():
    """A preset's batch is no second batch size that the user gave."""
    config = from_argv([*REQUIRED, "--global-batch-size", "96"])
    assert config.batch_size is None
    assert config.batch_per_worker(8) == 12


def test_global_batch_size_that_workers_cannot_share_evenly_is_refused():
    """Unequal parts would give samples unequal weight."""
    with pytest.raises(InputError, match=r"100 .* among 8 workers") as refusal:
        from_argv([*REQUIRED, "--global-batch-size", "100"]).batch_per_worker(8)
    assert refusal.value.hint == "--global-batch-size 104"


TINY_CROP = [*REQUIRED, "--preset", "smoke", "--pack-side", "72"]


@pytest.mark.parametrize(
    ("flags", "world", "given"),
    [
        ("--crop-px 32 --batch-size 1", 4, "--batch-size 1"),
        ("--crop-px 60 --batch-size 1", 1, "--batch-size 1"),
        ("--crop-px 32 --global-batch-size 4", 4, "--global-batch-size 4 on 4 workers"),
        ("--crop-px 32 --model resnet50 --batch-size 1", 1, "--batch-size 1"),
        ("--crop-px 32 --backbone frozen --unfreeze-after 2 --batch-size 1", 1, "--batch-size 1"),
    ],
)
def test_one_image_per_worker_on_which_batch_norm_has_no_variance_is_refused(flags, world, given):
    """torch would say so at the first step, in words about tensors."""
    with pytest.raises(InputError, match="BatchNorm layers need more than one value") as refusal:
        from_argv([*TINY_CROP, *flags.split()]).batch_per_worker(world)
    assert f"got {given}" in str(refusal.value)
    assert refusal.value.hint.split(",")[0] == f"{given.split()[0]} {2 * world if 'global' in given else 2}"


@pytest.mark.parametrize(
    ("flags", "world"),
    [
        ("--crop-px 61 --batch-size 1", 1),
        ("--crop-px 33 --model resnet50 --batch-size 1", 1),
        ("--crop-px 32 --model vgg16 --batch-size 1", 1),
        ("--crop-px 32 --backbone frozen --batch-size 1", 1),
        ("--crop-px 32 --global-batch-size 4", 2),
    ],
)
def test_one_image_per_worker_is_accepted_where_batch_norm_can_train(flags, world):
    """VGG16 has no such layer, a frozen backbone keeps its statistics, and a larger map has several values."""
    assert from_argv([*TINY_CROP, *flags.split()]).batch_per_worker(world) in {1, 2}


@settings(max_examples=50, deadline=None)  # the first start of the parser loads commands
@given(
    st.builds(
        TrainConfig,
        data=PRINTABLE,
        output=PRINTABLE,
        name=st.from_regex(r"\A[a-z]([-a-z0-9]{0,20}[a-z0-9])?\Z"),
        preset=st.sampled_from(sorted(PRESETS)),
        val_list=st.none() | PRINTABLE,
        card=st.dictionaries(st.sampled_from(sorted(FIELDS)), st.from_regex(r"\A[a-zÄ-ü$()'\"]{1,9}\Z")).map(
            lambda fields: as_text({key: fields[key] for key in FIELDS if key in fields})
        )
        | st.none(),
        seed=st.integers(0, 2**31),
        max_steps=st.none() | st.integers(1, 10**6),
        model=st.sampled_from(["densenet121", "vgg16", "resnet50", "densenet_tiny"]),
        split=PRINTABLE,
        head=st.sampled_from(["linear", "hidden"]),
        backbone=st.just("frozen"),
        unfreeze_after=st.none() | st.integers(1, 9),
        loss=st.sampled_from(["bce", "cross_entropy"]),
        rotate=st.floats(0, 180),
        weights=PRINTABLE,
        pack_side=st.integers(320, 512),
        crop_px=st.integers(32, 320),
        crop=st.sampled_from(["resized", "random", "center"]),
        compile=st.sampled_from(["auto", "on", "off"]),
        flip=st.booleans(),
        epochs=st.integers(10, 100),
        batch_size=st.none(),
        global_batch_size=st.integers(1, 4096),
        optimizer=st.sampled_from(["adam", "adamw"]),
        lr=st.floats(1e-12, 1e3),
        weight_decay=st.floats(0, 1),
        schedule=st.sampled_from(["constant", "plateau", "cosine"]),
        warmup_epochs=st.floats(0, 10),
        clip_norm=st.floats(1e-6, 1e6),
    )
)
def test_configuration_written_as_flags_parses_to_the_same_configuration(config):
    """The launcher writes flags into manifests; the pod must read what the user meant, whatever the values are."""
    assert from_argv(to_argv(config)) == config
    _, bound, _ = app.parse_args(["train", *to_argv(config)], exit_on_error=False, print_error=False)
    assert bound.arguments["config"] == config  # the pod's own parser


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        pytest.param(
            [*REQUIRED, "--batch-size", "8", "--global-batch-size", "64"], "two batch sizes", id="two batch sizes"
        ),
        pytest.param(
            [*REQUIRED, "--batchsize", "8"],
            "unknown option: --batchsize. Did you mean --batch-size?",
            id="unknown flag",
        ),
        pytest.param([*REQUIRED, "stray"], "stray", id="stray word"),
        pytest.param([*REQUIRED, "--lr", "fast"], 'invalid value for --lr: unable to convert "fast"', id="no number"),
        pytest.param([*REQUIRED, "--lr", "0"], "--lr 0", id="learning rate 0"),
        pytest.param([*REQUIRED, "--lr", "nan"], "--lr nan", id="learning rate nan"),
        pytest.param([*REQUIRED, "--lr", "inf"], "--lr inf", id="learning rate infinite"),
        pytest.param([*REQUIRED, "--weight-decay", "nan"], "--weight-decay nan", id="weight decay nan"),
        pytest.param([*REQUIRED, "--warmup-epochs", "inf"], "--warmup-epochs inf", id="endless warm-up"),
        pytest.param([*REQUIRED, "--seed", str(10**30)], "--seed 1000000000000000000000000000000", id="seed too large"),
        pytest.param([*REQUIRED, "--pack-side", "999999999"], "--pack-side 999999999", id="giant images"),
        pytest.param(["--data", "d", "--output", "", "--name", "n"], "it is empty", id="empty output"),
        pytest.param([*REQUIRED, "--cache-dir", "s3://b/c"], "s3://b/c", id="cache in a bucket"),
        pytest.param([*REQUIRED, "--epochs", "0"], "--epochs 0", id="no epochs"),
        pytest.param(
            [*REQUIRED, "--preset", "pneumonia", "--unfreeze-after", "20"],
            "after 20 epochs (`--unfreeze-after`)",
            id="a backbone that is never freed",
        ),
        pytest.param([*REQUIRED, "--preset", "best"], 'invalid value "best" for --preset', id="unknown preset"),
        pytest.param([*REQUIRED, "--crop-px", "300"], "crop 300 pixels", id="crop larger than pack"),
        pytest.param([*REQUIRED, "--crop-px", "16"], "--crop-px 16", id="crop too small for the network"),
        pytest.param(["--data", "d", "--output", "o"], "--name", id="no name"),
        pytest.param(["--data", "d", "--output", "o", "--name", "Big"], "lower-case", id="capitals"),
        pytest.param(["--data", "d", "--output", "o", "--name", "n" * 60], "53 characters", id="long name"),
    ],
)
def test_unusable_flags_are_refused_in_one_line_with_a_hint(argv, complaint):
    """Bad input never costs an accelerator minute."""
    with pytest.raises(InputError) as refusal:
        from_argv(argv)
    message = str(refusal.value).partition("\n\nhint: ")[0]
    assert complaint in message
    assert "\n" not in message
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("change", "caches"),
    [
        pytest.param({}, True, id="still images"),
        pytest.param({"crop": "random"}, False, id="another crop each epoch"),
        pytest.param({"flip": True}, False, id="mirrored"),
        pytest.param({"rotate": 1.0}, False, id="turned"),
        pytest.param({"unfreeze_after": 3}, False, id="a backbone that is trained later"),
        pytest.param({"backbone": "trained"}, False, id="a backbone that is trained"),
        pytest.param({"cache_features": False}, False, id="not wanted"),
    ],
)
def test_features_are_cached_only_where_they_stay_the_same(change, caches):
    """Cached wrongly, augmentation would be told of and not done."""
    still = from_argv([*REQUIRED, "--preset", "pneumonia", "--crop", "center", "--no-flip", "--rotate", "0"])
    assert dataclasses.replace(still, **change).caches_features is caches


def test_backbone_is_frozen_until_unfreeze_after():
    """Counted from 0."""
    config = from_argv([*REQUIRED, "--preset", "pneumonia", "--unfreeze-after", "2"])
    assert [config.freezes(epoch) for epoch in range(4)] == [True, True, False, False]
    assert not dataclasses.replace(config, backbone="trained", unfreeze_after=None).freezes(0)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--preset", "smoke", "--positive-class", "Normal"), "with `--loss bce` each finding has its own sensitivity"),
        (("--preset", "pneumonia", "--positive-class", "a\nb"), r"cannot use `a\nb`: it is empty or has unprintable"),
        (("--preset", "pneumonia", "--positive-class="), "cannot use ``: it is empty"),
    ],
)
def test_positive_class_that_no_run_can_use_is_refused(flags, told):
    """By the launcher too, before a pod is made."""
    with pytest.raises(InputError, match=re.escape(told)) as caught:
        from_argv([*REQUIRED, *flags])
    assert "--positive-class" in str(caught.value)


def test_positive_class_is_a_flag():
    config = from_argv([*REQUIRED, "--preset", "pneumonia", "--positive-class", "No Finding"])
    assert config.positive_class == "No Finding"
    assert "--positive-class=No Finding" in to_argv(config)
    assert is_flag("--positive-class")


def test_configuration_loads_neither_torch_nor_pandas():
    """The launcher uses it on laptops without torch, and `--help` must be quick."""
    code = "import sys, json, trainer.config, trainer.layout, trainer.errors, trainer.storage; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )
    assert not {"torch", "pandas", "boto3", "numpy"} & set(modules)
