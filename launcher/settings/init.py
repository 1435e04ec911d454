"""Settings file of a project, for `launcher init`: collect the answers, validate and write them."""

import errno
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from launcher import output
from launcher.spec.fields import IS_LIST
from launcher.spec.job import JobSpec
from trainer.errors import InputError
from trainer.storage.files import remove_abandoned, replacing, write_flushed

QUESTIONS: Final[Mapping[str, str]] = {
    "accelerator": "gaudi, cuda or cpu",
    "image": "the trainer's image, REGISTRY/NAME:TAG",
    "data": "data set, s3://BUCKET/PREFIX or a directory of every node",
    "output": "where runs go, s3://BUCKET/PREFIX or a directory of every node",
    "namespace": "namespace of the jobs",
    "s3_endpoint": "URL of the S3 server, empty for AWS",
    "s3_region": "region of the buckets",
    "s3_secret": "Secret with the bucket's keys, empty for the service account's role",
    "service_account": "service account of the pods",
}
"""Prompts in this order; other settings are written if they are given as KEY=VALUE."""

_OF_ONE_JOB: Final = frozenset({"name", "overlay"})

HEAD: Final = "# Settings of `launcher` for jobs submitted from this directory; `launcher config` prints the effective settings.\n"

Ask = Callable[[str, str], str]
"""Returns the answer to a question; the second argument is the default."""


def answers(ask: Ask | None, known: Mapping[str, str], given: Iterable[str]) -> dict[str, str]:
    """The settings to write: those given as `KEY=VALUE`, and the answers; known values are the defaults.

    Raises: InputError for an invalid assignment or an unknown setting.
    """
    values: dict[str, str] = {}
    for assignment in given:
        key, equals, value = assignment.partition("=")
        if not equals or key not in IS_LIST or IS_LIST[key] or key in _OF_ONE_JOB:
            raise InputError(
                f"cannot write `{assignment}`: it must be KEY=VALUE with a setting for all jobs",
                hint=f"settings are {', '.join(key for key in IS_LIST if not IS_LIST[key] and key not in _OF_ONE_JOB)}; edit the file for lists",
            )
        values[key] = value
    if ask:
        values |= {
            key: ask(f"{key} ({meaning})", values.get(key, known.get(key, ""))) for key, meaning in QUESTIONS.items()
        }
    return {key: value for key, value in values.items() if value}


def as_settings(values: Mapping[str, tuple[str, ...]]) -> dict[str, str | list[str]]:
    """Settings in the form of a settings file."""
    return {key: list(texts) if IS_LIST[key] else texts[0] for key, texts in values.items() if texts}


def as_yaml(settings: Mapping[str, str | list[str]]) -> str:
    """Text of the file."""
    return HEAD + output.as_yaml(dict(settings))


EXAMPLES: Final = {
    "accelerator": "cpu",
    "image": "image",
    "data": "s3://bucket/data",
    "output": "s3://bucket/runs",
    "name": "example",
}
"""Placeholders for missing settings when the others are validated."""


def check(settings: Mapping[str, str | list[str]]) -> None:
    """Check that a job can be created with the settings. Raises: InputError."""
    single = EXAMPLES | {key: value for key, value in settings.items() if isinstance(value, str)}
    JobSpec.from_settings({key: (value,) for key, value in single.items()})


def write(path: Path, text: str, *, replace: bool) -> None:
    """Write the file atomically; an existing one is only replaced with `replace`, and links are not followed.

    Raises: InputError.
    """
    remove_abandoned(path.parent, [path.name])
    try:
        mode = _mode_of(path)
        if mode is not None and replace:
            with replacing(path) as partial:
                write_flushed(partial, [text.encode()])
                partial.chmod(mode)
        else:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError as problem:
        raise InputError(
            f"cannot write `{path}`: it already exists",
            hint="use -y to change it; settings that are not given are kept",
        ) from problem
    except OSError as problem:
        reason = str(problem.strerror).lower()
        raise InputError(f"cannot write `{path}`: {reason}", hint="use a directory with write permission") from problem


def _mode_of(path: Path) -> int | None:
    """Permissions of a file; None without one. Raises: OSError for something other than a regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a link" if stat.S_ISLNK(mode) else "it is not a regular file")
    return stat.S_IMODE(mode)
