"""Members of a comparison: the jobs of one spec at several sizes, with their names and batches."""

import dataclasses
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from cyclopts import Parameter, Token

from launcher.settings.sources import GENERATED
from launcher.spec.job import MAX_SERVICE_NAME, MAX_WORKERS, JobSpec
from trainer.config import TrainConfig
from trainer.errors import InputError, on_one_line
from trainer.layout import MAX_NAME, check_name

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(JobSpec))


def _parts(tokens: Sequence[Token], flag: str, example: str) -> list[str]:
    """The parts of a comma-separated list. Raises: InputError for an empty or repeated part, and for a repeated flag."""
    if len(tokens) > 1:
        together = ",".join(token.value for token in tokens)
        raise InputError(f"cannot use {flag} more than once", hint=f"{flag} {on_one_line(together)}")
    text = tokens[0].value
    parts = [part.strip() for part in text.split(",")]
    twice = next((part for part in parts if parts.count(part) > 1), None)
    if twice is not None or not all(parts):
        reason = f"`{on_one_line(twice)}` is given twice" if twice else "it has an empty part"
        raise InputError(f"cannot use {flag} {on_one_line(text)}: {reason}", hint=f"{flag} {example}")
    return parts


def _sizes(_: type, tokens: Sequence[Token]) -> tuple[int, ...]:
    """Numbers of workers, the smallest first. Raises: InputError."""
    text = tokens[-1].value
    parts = _parts(tokens, "--workers", "1,2,4")
    wrong = [part for part in parts if not (part.isascii() and part.isdecimal() and 1 <= int(part[:9]) <= MAX_WORKERS)]
    if wrong:
        raise InputError(
            f"cannot use --workers {on_one_line(text)}: each size must be 1 to {MAX_WORKERS}, got `{on_one_line(wrong[0])}`",
            hint="--workers 1,2,4",
        )
    return tuple(sorted(map(int, parts)))


def _models(_: type, tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(_parts(tokens, "--models", "vgg16,densenet121"))


def _given_name(_: type, tokens: Sequence[Token]) -> str:
    """Raises: InputError for a generated name: the next call would generate another and could not find the runs."""
    if tokens[-1].source == GENERATED:
        raise InputError("cannot compare sizes: `--name` not given", hint="--name NAME; the runs are NAME-MODEL-wN")
    return tokens[-1].value


@dataclass(frozen=True, kw_only=True)
class ScaleSpec(JobSpec):
    """The common settings of the jobs, their sizes and models; each job is checked when it is created."""

    workers: Annotated[int, Parameter(parse=False)] = 1

    sizes: Annotated[
        tuple[int, ...], Parameter(name="--workers", converter=_sizes, n_tokens=1, accepts_keys=False, negative=())
    ]
    """Sizes to compare, such as `1,2,4`: numbers of training processes, each with one accelerator."""

    name: Annotated[
        str, Parameter(required=False, show_default=False, converter=_given_name, n_tokens=1, accepts_keys=False)
    ]
    """Prefix of the names of the runs, which are NAME-MODEL-wN."""

    elastic: Annotated[str | None, Parameter(show=False)] = None

    models: Annotated[
        tuple[str, ...], Parameter(converter=_models, n_tokens=1, accepts_keys=False, negative=(), show_default=False)
    ] = ()
    """Models to compare, such as `vgg16,densenet121`; the default is that of the trainer's flags."""

    weak: Annotated[bool, Parameter(negative=(), show_default=False)] = False
    """Keep the batch of each worker constant, not the global batch, which then grows with the size."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.elastic is not None:
            raise InputError(
                f"cannot compare sizes with --elastic {on_one_line(self.elastic)}: the size of an elastic job can change while it runs",
                hint="omit --elastic",
            )


def members(scale_spec: ScaleSpec) -> list[JobSpec]:
    """The jobs, by model and size.

    Raises: InputError when no cluster could run one of them.
    """
    config, given = scale_spec.parse_train_flags()
    if scale_spec.models and "model" in given:
        raise InputError(
            f"cannot use --models {','.join(scale_spec.models)} with --model {config.model} after `--`: both select the model",
            hint="omit one of them",
        )
    if config.resume != "auto":
        raise InputError(
            f"cannot compare sizes with --resume {config.resume}: the same command always resumes its own runs",
            hint="omit --resume; use another --name for another comparison",
        )
    models = scale_spec.models or (config.model,)
    batch = _batch_flags(scale_spec, config, given)
    _check_names(scale_spec, models)
    return [
        _made(
            scale_spec,
            workers=size,
            name=run_name(scale_spec.name, model, size),
            train_flags=(*scale_spec.train_flags, *([f"--model={model}"] if scale_spec.models else []), *batch),
        )
        for model in models
        for size in scale_spec.sizes
    ]


def _made(scale_spec: ScaleSpec, **changes: object) -> JobSpec:
    values: dict[str, Any] = {field: getattr(scale_spec, field) for field in _FIELDS}
    return JobSpec(**(values | changes))


def run_name(name: str, model: str, size: int | str) -> str:
    """Name of the run of a model and size in the comparison of this name."""
    return f"{name}-{model.replace('_', '-')}-w{size}"


def _batch_flags(scale_spec: ScaleSpec, config: TrainConfig, given: Collection[str]) -> list[str]:
    """Flags that set the batch if the given ones do not.

    Source: the pneumonia paper divides the loader's batch of 64 among its GPUs, so the recipe's batch is the global one.

    Raises: InputError.
    """
    if scale_spec.weak:
        if "global_batch_size" in given:
            raise InputError(
                f"cannot use --weak, with which the global batch grows, with --global-batch-size {config.global_batch_size}",
                hint="-- --batch-size N sets the batch of a worker; or omit --weak",
            )
        return []
    if "batch_size" in given:
        raise InputError(
            f"cannot keep the global batch constant with --batch-size {config.batch_size}, which is the batch of a worker",
            hint=f"-- --global-batch-size {config.batch_size}; or --weak, with which the global batch grows",
        )
    batch = config.global_batch_size or config.batch_size
    assert batch is not None
    is_given = "global_batch_size" in given
    _check_shared(scale_spec.sizes, batch, "--global-batch-size" if is_given else "the preset's batch")
    return [] if is_given else [f"--global-batch-size={batch}"]


def _check_shared(sizes: Sequence[int], batch: int, origin: str) -> None:
    uneven = [str(size) for size in sizes if batch % size]
    if uneven:
        common = math.lcm(*sizes)
        raise InputError(
            f"cannot divide a global batch of {batch} ({origin}) evenly among {', '.join(uneven)} workers (`--workers`)",
            hint=f"-- --global-batch-size {-(-batch // common) * common}; or --weak, with which it grows",
        )


def _check_names(scale_spec: ScaleSpec, models: Sequence[str]) -> None:
    """Raises: InputError for a name with which the name of a run or a pod would be too long."""
    for model in models:
        for size in scale_spec.sizes:
            suffix = run_name("", model, size)
            job = _made(scale_spec, workers=size, name="a", train_flags=())
            room = min(MAX_NAME, MAX_SERVICE_NAME - len(job.kind.last_pod("", job.nodes))) - len(suffix)
            if len(scale_spec.name) > room:
                raise InputError(
                    f"cannot use `{scale_spec.name}` as a name: the run `{scale_spec.name}{suffix}` would be too long, "
                    f"use at most {room} characters (from `--name`)",
                    hint=f"--name {scale_spec.name[:room].rstrip('-')}",
                )
