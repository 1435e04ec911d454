"""Asks for what most jobs need and writes it to the project's settings file, where every command finds it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from launcher.accelerators import ACCELERATORS, AcceleratorName
from launcher.options import PodOptions, S3Options
from launcher.settings import EXAMPLES, PROJECT_FILE, absolute, read_file, standing
from launcher.spec import JobSpec
from trainer.config import flag_of
from trainer.errors import InputError, on_one_line

Ask = Callable[[str, str], str]
"""Puts a question, shows the answer that is taken when nothing is typed, and returns what was typed."""

Tell = Callable[[str], None]

Values = dict[str, str | list[str]]

NONE: Final = "~"
"""The answer that leaves a setting out."""

HEADER: Final = "# Settings of every job started from this directory; `python -m launcher config` shows them all.\n"

_PLACES: Final = ("data", "output")

_STAND_INS: Final = {
    "accelerator": "cpu",
    "image": "registry.example/name:1",
    "data": "s3://bucket/data",
    "output": "s3://bucket/runs",
    "namespace": "default",
}
"""A job can only be checked whole."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is asked, in this order; what a flag says is not."""

    accelerator: AcceleratorName | None = None
    """What to train on."""

    image: str | None = None
    """Container image with the trainer."""

    data: str | None = None
    """Data set: `s3://BUCKET/PREFIX`, or a directory that every node has."""

    output: str | None = None
    """Where runs are kept: `s3://BUCKET/PREFIX`, or a directory that every node has."""

    namespace: Annotated[str | None, Parameter(name=("--namespace", "-n"))] = None
    """Namespace of the jobs."""

    s3_endpoint: str | None = None
    """URL of the S3 server; AWS unless given."""

    s3_region: str | None = None
    """Region of the buckets."""

    s3_secret: str | None = None
    """Secret of the namespace with the keys of the buckets; its name, not the keys."""

    service_account: str | None = None
    """Service account of the pods."""


def write_settings(answers: Answers, *, ask: Ask | None, tell: Tell, overwrite: bool) -> Path:
    """The project's file, written: what flags say, what is answered, and what it held besides.

    `ask` None asks nobody. A file that is there is only replaced with `overwrite`, or when the answer to that is yes.

    Raises: InputError.
    """
    path = Path(PROJECT_FILE)
    there = dict(read_file(path).values) if path.is_file() else {}
    if path.exists() and ask is None and not overwrite:
        raise InputError(
            f"cannot write `{path}`: it is there already",
            hint="launcher init -y replaces what flags say and keeps the rest, but for comments",
        )
    given = {key: _shown(key, text) for key, text in asdict(answers).items() if text is not None}
    check(given)
    chosen = given if ask is None else _asked(given, ask, tell)
    kept = {key: texts for key, texts in there.items() if key not in (asdict(answers) if ask else chosen)}
    if path.exists() and not overwrite and ask and ask(f"replace {path}? its comments are lost", "no") not in _YES:
        raise InputError(f"cannot write `{path}`: it is there already, and is to stay", hint="launcher config shows it")
    _write(path, as_yaml(chosen | _plain(kept)))
    missing = [key for key in EXAMPLES if key not in chosen and key not in kept]
    if missing:
        tell(f"to be given with each job: {', '.join(flag_of(key) for key in missing)}")
    return path


_YES: Final = frozenset({"y", "yes"})


def as_yaml(values: Mapping[str, str | list[str]]) -> str:
    """A settings file that says this."""
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    return HEADER + yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, default_flow_style=False)


def check(values: Mapping[str, str]) -> None:
    """Refuse what no job could have; what is not among the values does not matter.

    Raises: InputError.
    """
    texts = _STAND_INS | dict(values)
    accelerator = next((name for name in ACCELERATORS if name == texts["accelerator"]), None)
    if accelerator is None:
        raise InputError(
            f"cannot use `{on_one_line(texts['accelerator'])}` as an accelerator: it is none of {', '.join(ACCELERATORS)}",
            hint="--accelerator gaudi",
        )
    JobSpec(
        accelerator=accelerator,
        image=texts["image"],
        data=texts["data"],
        output=texts["output"],
        name="name",
        namespace=texts["namespace"],
        s3=S3Options(
            endpoint=texts.get("s3_endpoint"), region=texts.get("s3_region"), secret=texts.get("s3_secret")
        ),
        pod=PodOptions(service_account=texts.get("service_account")),
    )


def _asked(given: Mapping[str, str], ask: Ask, tell: Tell) -> dict[str, str]:
    """An answer to each question that no flag answers, each asked again until it could be a job's."""
    known = {key: texts[-1] for settings in reversed(standing()) for key, texts in settings.values.items()}
    values: dict[str, str] = {}
    for key in asdict(Answers()):
        answer = given.get(key) or _answer(key, known.get(key, ""), ask, tell)
        if answer:
            values[key] = answer
    return values


def _answer(key: str, default: str, ask: Ask, tell: Tell) -> str:
    """What is typed, the default for nothing, or nothing for `~`."""
    example = f" ({EXAMPLES[key]})" if key in EXAMPLES else ""
    while True:
        typed = ask(f"{key}{example}", default).strip() or default
        if typed in {"", NONE}:
            return ""
        try:
            check({key: _shown(key, typed)})
        except InputError as problem:
            tell(str(problem))
        else:
            return _shown(key, typed)


def _shown(key: str, text: str) -> str:
    """The text as the file has it: a directory whatever the current one is."""
    return absolute(text) if key in _PLACES else text


def _plain(values: Mapping[str, tuple[str, ...]]) -> Values:
    from launcher.keys import IS_LIST  # noqa: PLC0415

    return {key: list(texts) if IS_LIST[key] else texts[0] for key, texts in values.items()}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise InputError(
            f"cannot write `{path}`: {problem.strerror}", hint="run it in a directory of yours"
        ) from problem
