"""Configuration of a training run: one frozen dataclass, presets as functions, conversion to and from flags.

Flag, field and run.json key have the same name; `--help` shows the text under each field. Flags that are not given take the
preset's values; a preset is a complete recipe.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

from cyclopts import App, ArgumentCollection, CycloptsError, Parameter, Token

from trainer import card_file, label_choices
from trainer.errors import InputError, on_one_line
from trainer.label_choices import LabelChoices
from trainer.layout import check_name
from trainer.location import expanded_words

Layout = Literal[
    "auto", "nih", "lists", "csv", "folders", "chexpert", "mimic-cxr", "padchest", "vindr", "rsna", "prepared"
]
PackFit = Literal["crop", "pad", "squash"]
OnBadImage = Literal["fail", "skip"]
OnMissingImage = Literal["fail", "skip"]
Resume = Literal["auto", "never", "must"]
Precision = Literal["auto", "fp32", "bf16"]
Mode = Literal["lazy", "compile", "eager"]
"""How a device executes a network: graphs of Gaudi's bridge, torch.compile, or one operation at a time (docs/decisions/0032, 0038)."""
Compile = Literal["auto", "on", "off"]
Value = str | int | float | bool

T = TypeVar("T")
Recipe = Annotated[T, Parameter(group="Recipe (defaults come from the preset)", required=False)]
"""A field with a value in every preset."""

MIN_CROP_PX: Final = 32
"""Smallest crop for DenseNet-121, which halves the image five times."""

_SINGLE_CELL_PX: Final = {"densenet121": 60, "densenet_tiny": 60, "resnet50": 32}
"""Largest crop of which the last BatchNorm layers see one cell; VGG16 has no such layer. A test measures it on the networks."""

WRITTEN_IF_CHANGED: Final = frozenset({"compile", "activation_memory", "profile", "preflight"})
"""Fields that `to_argv` leaves out at their default: images of earlier versions do not know their flags."""

_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)

_GRAY_RANGE: Final = re.compile(r"full|used|[1-9]|1[0-6]", re.ASCII)

_RANGE_HINT: Final = "remove the flag to use its default, or the preset's value"

MOST: Final = {
    "seed": 2**63 - 1,
    "lr": 1e3,
    "clip_norm": 1e9,
    "weight_decay": 1e3,
    "warmup_epochs": 1e6,
    "pack_side": 4096,
    "rotate": 180.0,
    "profile": 100,
}
"""Largest meaningful values; larger ones are typing errors."""


def flag_of(field: str) -> str:
    """The flag that sets a field."""
    return "--" + field.replace("_", "-")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LabelChoices):
    """A complete, checked configuration of one training run.

    Raises: InputError, on construction, for values that no run can use.
    """

    data: str
    """Data set (NIH, label lists, `labels.csv` or one folder per class): a directory, or s3://BUCKET/PREFIX, downloaded by each node."""

    output: str
    """Directory or s3://BUCKET/PREFIX for runs; this run's files go to OUTPUT/NAME."""

    name: str
    """Name of the run: a-z, 0-9 and `-`, at most 53 characters."""

    preset: Literal["chexnet", "chexnet_adamw", "pneumonia", "smoke"] = "chexnet"
    """Recipe with the defaults of the flags in the group Recipe."""

    layout: Layout = "auto"
    """Layout of the data set; `auto` detects it."""

    val_list: str | None = None
    """File with the names of the validation images (NIH layout); a relative path is searched in the data set."""

    on_bad_image: OnBadImage = "fail"
    """Unreadable images: `fail`, or `skip` them and list them in the run."""

    on_missing_image: OnMissingImage = "fail"
    """Images of the label files without a file: `fail`, or `skip` them and record what share of each split is there."""

    gray_range: str | None = None
    """Values of 16-bit images shown as black to white: `full` (16 bits), the bits `used` by the greatest value, or a number of bits; required where 12 bits or fewer are used."""

    pack_fit: PackFit = "crop"
    """How to make images square: `crop` the centre, `pad` with black, or `squash`."""

    device: Literal["auto", "cpu", "cuda", "hpu"] = "auto"
    """Device to train on; `auto` chooses an accelerator if there is one. A named device that is not usable is an error."""

    precision: Precision = "auto"
    """Arithmetic of the forward pass; `auto` is bf16 on hpu and on GPUs that compute in it (from Ampere on), fp32 elsewhere."""

    gaudi_mode: Mode | None = None
    """Execution on Gaudi: `lazy`, `compile` (torch.compile) or `eager`; must fit PT_HPU_LAZY_MODE. Default: `lazy` or `compile`, by PT_HPU_LAZY_MODE."""

    compile: Compile = "auto"
    """Train with torch.compile; `auto` compiles on GPUs where it works, and on Gaudi as --gaudi-mode says. `on` is an error where it does not work."""

    activation_memory: Literal["normal", "low"] = "normal"
    """`low` computes activations of DenseNets again in the backward pass instead of keeping them: less memory, the same results, slower; not compiled."""

    parity_check: int | None = None
    """Before training, compare loss and gradients of N steps with the CPU in fp32, and stop where they differ."""

    cache_dir: str | None = None
    """Directory for decoded images, shared by runs; default: OUTPUT/cache."""

    preflight: Literal["on", "off"] = "on"
    """Check the device, the node and the other workers at the start on a node where the run has not been."""

    resume: Resume = "auto"
    """`auto` continues an existing run, `never` requires a new run, `must` requires a checkpoint to resume from."""

    seed: int = 0
    """Random seed of weights, sample order and augmentation."""

    max_steps: int | None = None
    """Stop after this many optimiser steps, regardless of `--epochs`; a later attempt without it continues."""

    deadline: str | None = None
    """Stop with a checkpoint this long (`90m`, `8h`) after the first start of the run; a longer deadline continues from it."""

    checkpoint_every_steps: int | None = None
    """Save a checkpoint every N optimiser steps, in addition to the end of each epoch."""

    checkpoint_every_minutes: int | None = 10
    """Save a checkpoint when the last one is this old."""

    keep_last: int = 2
    """Number of newest checkpoints to keep, in addition to the best one."""

    hang_after: str = "10m"
    """Exit for restart after this long without progress; the first steps of an attempt, which compile, get three times as long."""

    log_every_steps: int = 20
    """Read the loss from the device and log it every N steps."""

    profile: int | None = None
    """Write a torch.profiler trace of N steps after the warm-up of this start into the run, and log the operations with most time."""

    cache_features: bool = True
    """Compute the frozen backbone's features of each image once, if no crop, flip or rotation changes the image between epochs."""

    report: bool = True
    """At the end, fit calibration, evaluate and write the report; takes seconds, or minutes on a large test set."""

    gallery: Literal["auto", "on", "off"] = "auto"
    """Show images in the report: `auto` only for recognised public data sets."""

    card: Annotated[str | None, Parameter(converter=card_file.read_card, n_tokens=1, accepts_keys=False)] = None
    """YAML file with fields of the model card that only the model's owner knows: owner, contact, weights_licence and others."""

    unfreeze_after: int | None = None
    """Unfreeze a frozen backbone after this many epochs."""

    positive_class: str | None = None
    """Class of which sensitivity and specificity are reported, in a set of two classes; default: the one whose name does not
    look healthy (`NORMAL`, `No Finding`), else the last by name."""

    split: Recipe[str]
    """`given` by the data set, or `patients:A/B/C[@SEED]`: train, validation and test in these proportions, no patient in two."""

    model: Recipe[Literal["densenet121", "vgg16", "resnet50", "densenet_tiny"]]
    """Backbone; `densenet_tiny` is for tests."""

    head: Recipe[Literal["linear", "hidden"]]
    """Head on the backbone's features: one linear layer, or hidden layers with dropout."""

    backbone: Recipe[Literal["trained", "frozen"]]
    """Train all weights, or only the head; a frozen backbone also keeps its BatchNorm statistics."""

    loss: Recipe[Literal["bce", "cross_entropy"]]
    """Independent findings (`bce`), or one class per image (`cross_entropy`)."""

    weights: Recipe[str]
    """Initial weights: `imagenet`, `none`, or a checkpoint as a file or s3://BUCKET/KEY."""

    pack_side: Recipe[int]
    """Side, in pixels, to which images are resized once (bilinear)."""

    crop_px: Recipe[int]
    """Side of the model's input in pixels."""

    crop: Recipe[Literal["resized", "random", "center"]]
    """Training crop: a resized random part (area 8-100 %), a random position, or the centre."""

    flip: Recipe[bool]
    """Mirror half of the training images."""

    rotate: Recipe[float]
    """Rotate training images by up to this many degrees either way."""

    epochs: Recipe[int]
    """Passes over the training images."""

    batch_size: Annotated[int | None, Parameter(group="Recipe (defaults come from the preset)")] = None
    """Images per worker and step."""

    global_batch_size: Annotated[int | None, Parameter(group="Recipe (defaults come from the preset)")] = None
    """Images per step over all workers; instead of --batch-size."""

    optimizer: Recipe[Literal["adam", "adamw"]]
    """Optimiser."""

    lr: Recipe[float]
    """Peak learning rate."""

    weight_decay: Recipe[float]
    """Weight decay; L2 in adam, decoupled in adamw."""

    schedule: Recipe[Literal["constant", "plateau", "cosine"]]
    """Learning-rate schedule: constant, divided by 10 when validation loss stalls, or a cosine to 1 % of the peak."""

    warmup_epochs: Recipe[float]
    """Linear warm-up, in epochs."""

    clip_norm: Recipe[float]
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name)
        check_gray_range(self.gray_range)
        if self.card is not None:
            card_file.parsed(self.card)
        if self.deadline is not None:
            parse_duration(self.deadline, "--deadline")
        parse_duration(self.hang_after, "--hang-after")
        self._check_places()
        self._check_mode()
        self._check_activation_memory()
        self._check_batch()
        self._check_sizes()
        if self.positive_class is not None and not self.classes:
            raise InputError(
                f"cannot use `{on_one_line(self.positive_class)}` as the positive class: with `--loss {self.loss}` each finding "
                "has its own sensitivity (from `--positive-class`)",
                hint="remove --positive-class, or use --loss cross_entropy for a set of two classes",
            )
        if self.unfreeze_after is not None and self.backbone == "trained":
            raise InputError(
                f"cannot unfreeze a backbone that is not frozen: got --unfreeze-after {self.unfreeze_after}",
                hint="use --backbone frozen, or remove --unfreeze-after",
            )
        if self.unfreeze_after is not None and self.unfreeze_after >= self.epochs:
            raise InputError(
                f"cannot unfreeze the backbone after {self.unfreeze_after} epochs (`--unfreeze-after`): training ends after {self.epochs}",
                hint="remove it to keep the backbone frozen, or use more --epochs",
            )

    @property
    def recomputes(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return self.activation_memory == "low"

    @property
    def compile_choice(self) -> Compile:
        """`--compile`, where `auto` is off if activations are computed again."""
        return "off" if self.recomputes and self.compile == "auto" else self.compile

    @property
    def changes_images(self) -> bool:
        """Whether an image differs between epochs."""
        return self.crop != "center" or self.flip or self.rotate > 0

    @property
    def classes(self) -> bool:
        """Whether each image has exactly one class."""
        return self.loss == "cross_entropy"

    @property
    def caches_features(self) -> bool:
        """Whether the backbone's features of an image are computed once."""
        fixed = self.backbone == "frozen" and self.unfreeze_after is None
        return self.cache_features and fixed and not self.changes_images

    def freezes(self, epoch: int) -> bool:
        """Whether the backbone is frozen in this epoch, counted from 0."""
        return self.backbone == "frozen" and (self.unfreeze_after is None or epoch < self.unfreeze_after)

    def _check_places(self) -> None:
        for flag in ("data", "output", "cache_dir", "weights", "split", "val_list", "positive_class"):
            text = getattr(self, flag)
            if text is not None and not (text and text.isprintable()):
                raise InputError(
                    f"cannot use `{on_one_line(text)}`: it is empty or has unprintable characters (from `{flag_of(flag)}`)",
                    hint=f"{flag_of(flag)} TEXT",
                )
        if self.cache_dir and "://" in self.cache_dir:
            raise InputError(
                f"cannot keep decoded images in `{self.cache_dir}`: it is not a directory (from `--cache-dir`)",
                hint="--cache-dir DIRECTORY",
            )

        for flag in ("data", "output"):
            if "://" in getattr(self, flag) and self.cache_dir is None:
                raise InputError(
                    f"cannot keep images in `{getattr(self, flag)}`: they need a directory (from `{flag_of(flag)}`)",
                    hint="--cache-dir DIRECTORY",
                )

    def _check_mode(self) -> None:
        if self.gaudi_mode is None or self.compile == "auto":
            return
        if (self.gaudi_mode == "compile") == (self.compile == "on"):
            return
        raise InputError(
            f"cannot use both --gaudi-mode {self.gaudi_mode} and --compile {self.compile}: they contradict each other",
            hint="remove --compile, and choose by --gaudi-mode lazy, compile or eager",
        )

    def _check_activation_memory(self) -> None:
        if self.activation_memory == "normal":
            return
        if not self.model.startswith("densenet"):
            raise InputError(
                f"cannot use --activation-memory low with --model {self.model}: only DenseNets can compute their activations again",
                hint="remove --activation-memory, and use a smaller --batch-size",
            )
        for flag, value in (("--compile", self.compile), ("--gaudi-mode", self.gaudi_mode)):
            if value in {"on", "compile"}:
                raise InputError(
                    f"cannot use both --activation-memory low and {flag} {value}: what is computed again is not compiled",
                    hint=f"remove one of them, or use {flag} {'off' if flag == '--compile' else 'lazy'}",
                )

    def _check_batch(self) -> None:
        if self.batch_size is not None and self.global_batch_size is not None:
            raise InputError(
                f"cannot use two batch sizes: got --batch-size {self.batch_size} and --global-batch-size {self.global_batch_size}",
                hint="--batch-size is per worker, --global-batch-size for all workers; use one of them",
            )
        if self.batch_size is None and self.global_batch_size is None:
            raise InputError("no batch size", hint="use --batch-size or --global-batch-size")

    def _check_sizes(self) -> None:
        at_least_one = [
            "epochs",
            "log_every_steps",
            "batch_size",
            "global_batch_size",
            "max_steps",
            "keep_last",
            "parity_check",
            "profile",
        ]
        for flag in [*at_least_one, "checkpoint_every_steps", "checkpoint_every_minutes", "unfreeze_after"]:
            _check_least(flag, getattr(self, flag), 1)
        for flag in ["warmup_epochs", "weight_decay", "seed", "rotate"]:
            _check_least(flag, getattr(self, flag), 0)
        for flag, most in MOST.items():
            value = getattr(self, flag)
            if value is None:
                continue
            if not math.isfinite(value):
                raise InputError(f"cannot use {flag_of(flag)} {value}: it must be a finite number", hint=_RANGE_HINT)
            if value > most:
                raise InputError(f"cannot use {flag_of(flag)} {value}: it must be at most {most:g}", hint=_RANGE_HINT)
        for flag in ["lr", "clip_norm"]:
            if not getattr(self, flag) > 0:
                value = getattr(self, flag)
                raise InputError(f"cannot use {flag_of(flag)} {value}: it must be above 0", hint=_RANGE_HINT)
        _check_least("crop_px", self.crop_px, MIN_CROP_PX)
        if self.pack_side < self.crop_px:
            raise InputError(
                f"cannot crop {self.crop_px} pixels (`--crop-px`) from images of {self.pack_side} (`--pack-side`)",
                hint=f"--pack-side {self.crop_px * 8 // 7}",
            )

    def batch_per_worker(self, world_size: int) -> int:
        """Images per worker and step.

        Raises: InputError when the global batch is not a multiple of the workers, or when BatchNorm could not train on one image
        per worker.
        """
        if self.batch_size is not None:
            self._check_normalised(self.batch_size, f"--batch-size {self.batch_size}", "--batch-size 2")
            return self.batch_size
        total = self.global_batch_size
        assert total is not None
        if total % world_size:
            raise InputError(
                f"cannot share a global batch of {total} (`--global-batch-size`) among {world_size} workers evenly",
                hint=f"--global-batch-size {-(-total // world_size) * world_size}",
            )
        given = f"--global-batch-size {total} on {world_size} worker{'s' if world_size > 1 else ''}"
        self._check_normalised(total // world_size, given, f"--global-batch-size {2 * world_size}")
        return total // world_size

    def _check_normalised(self, images: int, given: str, hint: str) -> None:
        """Raises: InputError when a trained BatchNorm layer would get one value per channel, which has no variance."""
        largest = _SINGLE_CELL_PX.get(self.model, 0)
        stays_frozen = self.backbone == "frozen" and self.unfreeze_after is None
        if images > 1 or self.crop_px > largest or stays_frozen:
            return
        raise InputError(
            f"cannot train {self.model} on one image per worker at {self.crop_px} pixels (`--crop-px`): its BatchNorm layers need more "
            f"than one value per channel, got {given}",
            hint=f"{hint}, or --crop-px {largest + 1} or more",
        )


def _check_least(field: str, value: float | None, least: int) -> None:
    if value is not None and not value >= least:
        raise InputError(f"cannot use {flag_of(field)} {value}: it must be at least {least}", hint=_RANGE_HINT)


def chexnet() -> dict[str, Value]:
    """DenseNet-121 with Adam and a plateau schedule, as published for CheXNet.

    Source: arXiv:1711.05225 for model, loss, Adam, batch 16 and division by 10 when validation loss stalls. Differs: learning
    rate 1e-4 and weight decay 1e-5 instead of the paper's 1e-3 and 0, and RandomResizedCrop instead of its plain resize, as in
    the best public reproduction (zoogzog/chexnet: mean AUROC .8508 where the paper has .8414).
    """
    return {
        "split": "given",
        "model": "densenet121",
        "head": "linear",
        "backbone": "trained",
        "loss": "bce",
        "weights": "imagenet",
        "pack_side": 256,
        "crop_px": 224,
        "crop": "resized",
        "flip": True,
        "rotate": 0.0,
        "epochs": 30,
        "batch_size": 16,
        "optimizer": "adam",
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "schedule": "plateau",
        "warmup_epochs": 0.0,
        "clip_norm": 1.0,
    }


def chexnet_adamw() -> dict[str, Value]:
    """`chexnet` with AdamW, warm-up and a cosine schedule.

    Source: the fine-tuning recipe of Medical-MAE (weight decay .05, warm-up, cosine); its learning rate, 2.5e-4 per 256 images,
    is for global batches of 1,024. Differs: 1e-4 for any batch size, 30 epochs.
    """
    return chexnet() | {
        "optimizer": "adamw",
        "lr": 1e-4,
        "weight_decay": 0.05,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
    }


def pneumonia() -> dict[str, Value]:
    """Transfer learning on a data set of two classes: a frozen ImageNet backbone and a head with hidden layers.

    Source: Kumar & Moghal, "Pneumonia Diagnosis with Deep Learning": DenseNet-121 or VGG16, Adam at 0.003 on the head only, NLL
    of log-softmax, rotation by 30 degrees, RandomResizedCrop(224), mirroring, 80 % for training and 20 % for testing, batch 64;
    20 epochs in its example. Differs: no patient is in two splits, a tenth of the training split selects the checkpoint, and the
    frozen backbone is in eval mode; the paper rotates before the crop to a square, to the nearest pixel, this
    preset afterwards and bilinearly.
    """
    return chexnet() | {
        "split": "patients:72/8/20",
        "head": "hidden",
        "backbone": "frozen",
        "loss": "cross_entropy",
        "pack_side": 255,
        "rotate": 30.0,
        "epochs": 20,
        "batch_size": 64,
        "lr": 0.003,
        "weight_decay": 0.0,
        "schedule": "constant",
    }


def smoke() -> dict[str, Value]:
    """A real but small training for a laptop's CPU: 64 pixels, no pretrained weights, minutes."""
    return chexnet() | {
        "weights": "none",
        "pack_side": 72,
        "crop_px": 64,
        "crop": "random",
        "flip": False,
        "epochs": 6,
        "lr": 1e-3,
        "schedule": "cosine",
        "warmup_epochs": 0.5,
    }


PRESETS: Final = {"chexnet": chexnet, "chexnet_adamw": chexnet_adamw, "pneumonia": pneumonia, "smoke": smoke}


def apply_preset(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001 - cyclopts' signature
    """Fill flags that are not given from the preset; cyclopts calls this between reading and converting flags."""
    by_field = {argument.field_info.name: argument for argument in arguments}
    if "preset" not in by_field:
        return
    tokens = by_field["preset"].tokens
    name = tokens[-1].value if tokens else "chexnet"
    recipe = PRESETS[name]() if name in PRESETS else chexnet()  # a wrong name is refused at conversion
    if by_field["global_batch_size"].tokens:
        recipe.pop("batch_size")
    for field, value in recipe.items():
        argument = by_field[field]
        if not argument.tokens:
            argument.append(Token(keyword=flag_of(field), value=str(value), source=f"preset {name}"))


def check_gray_range(text: str | None) -> None:
    """Check a value of `--gray-range`. Raises: InputError."""
    if text is not None and not _GRAY_RANGE.fullmatch(text):
        raise InputError(
            f"cannot use `{on_one_line(text)}` as a gray range: it must be full, used, or a number of bits from 1 to 16 (from `--gray-range`)",
            hint="--gray-range used",
        )


def parse_duration(text: str, flag: str) -> int:
    """Seconds of a duration such as `90s`, `90m`, `8h` or `2d`.

    Raises: InputError.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise InputError(
            f"cannot use `{on_one_line(text)}` as a duration: it must be a number and s, m, h or d (from `{flag}`)",
            hint=f"{flag} 8h",
        )
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[match[2]]


def from_argv(argv: Sequence[str]) -> TrainConfig:
    """The configuration that these flags of `trainer train` mean.

    Raises: InputError for unknown flags, values that don't convert and values that no run could use.
    """
    return parse_flags(argv)[0]


def parse_flags(argv: Sequence[str]) -> tuple[TrainConfig, frozenset[str]]:
    """The configuration that these flags of `trainer train` mean, and the fields that the flags themselves set.

    Raises: InputError, as `from_argv`.
    """
    given: set[str] = set()

    def note_given(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:  # noqa: ARG001 - cyclopts' signature
        given.update(argument.field_info.name for argument in arguments if argument.tokens)

    parser = App(name="train", config=[note_given, apply_preset], help_flags=(), version_flags=())
    parser.default(_same)
    try:
        _, bound, _ = parser.parse_args(expanded_words(argv), exit_on_error=False, print_error=False)
    except CycloptsError as problem:
        raise InputError(
            f"cannot use the trainer's flags: {usage_problem(problem)}",
            hint="`python -m trainer train --help` lists the flags",
        ) from problem
    return bound.arguments["config"], frozenset(given)


def from_document(document: Mapping[str, Any]) -> TrainConfig:
    """The configuration in a run's record, whose fields have been checked. Raises: InputError, TypeError for unknown fields."""
    fields: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in document.items()}
    return TrainConfig(**fields)


def is_flag(word: str) -> bool:
    """Whether a word such as `--lr` or `--no-flip` is a flag of `trainer train`."""
    fields = {field.name: field.type for field in dataclasses.fields(TrainConfig)}
    name = word.removeprefix("--").replace("-", "_")
    return word.startswith("--") and (name in fields or "bool" in str(fields.get(name.removeprefix("no_"))))


def _same(config: Annotated[TrainConfig, Parameter(name="*")]) -> TrainConfig:
    return config


def usage_problem(problem: CycloptsError) -> str:
    """The parser's error message on one line."""
    text = " ".join(str(problem).split()).rstrip(".")
    return text[:1].lower() + text[1:]


def to_argv(config: TrainConfig) -> list[str]:
    """The flags of `trainer train` that mean this configuration, every value written out.

    Choices of labels are written only where they are made, and `WRITTEN_IF_CHANGED` only where it differs from the default, so that
    images of earlier versions take the flags.
    """
    argv = []
    unmade = label_choices.NAMES - config.given().keys()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        flag = flag_of(field.name)
        if field.name in unmade or (field.name in WRITTEN_IF_CHANGED and value == field.default):
            continue
        if isinstance(value, tuple):
            argv += [f"{flag}={each}" for each in value]
        elif isinstance(value, bool):
            argv.append(flag if value else "--no-" + flag[2:])
        elif value is not None:
            argv.append(f"{flag}={value!r}" if isinstance(value, float) else f"{flag}={value}")
    return argv
