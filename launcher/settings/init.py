"""`launcher init`: the project's settings file, asked for and written; the asking is handed in, so all else is pure."""

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
"""What is asked, in this order; everything else stands in the file when it is given as KEY=VALUE."""

_OF_ONE_JOB: Final = frozenset({"name", "overlay"})

HEAD: Final = "# Settings of `launcher` for jobs submitted from this directory; `launcher config` shows what counts.\n"

Ask = Callable[[str, str], str]
"""From a question and the answer that Enter gives to the answer."""


def answers(ask: Ask | None, known: Mapping[str, str], given: Iterable[str]) -> dict[str, str]:
    """The settings to write: those given as `KEY=VALUE`, and the answers, where Enter takes what is known already.

    Raises: InputError for what is no setting, or could not make a job.
    """
    values: dict[str, str] = {}
    for assignment in given:
        key, equals, value = assignment.partition("=")
        if not equals or key not in IS_LIST or IS_LIST[key] or key in _OF_ONE_JOB:
            raise InputError(
                f"cannot write `{assignment}`: it is no KEY=VALUE of a setting that stays",
                hint=f"settings are {', '.join(key for key in IS_LIST if not IS_LIST[key] and key not in _OF_ONE_JOB)}; write lists by hand",
            )
        values[key] = value
    if ask:
        values |= {
            key: ask(f"{key} ({meaning})", values.get(key, known.get(key, ""))) for key, meaning in QUESTIONS.items()
        }
    return {key: value for key, value in values.items() if value}


def as_settings(values: Mapping[str, tuple[str, ...]]) -> dict[str, str | list[str]]:
    """What a settings file holds, as it stands there."""
    return {key: list(texts) if IS_LIST[key] else texts[0] for key, texts in values.items() if texts}


def as_yaml(settings: Mapping[str, str | list[str]]) -> str:
    """The file."""
    return HEAD + output.as_yaml(dict(settings))


EXAMPLES: Final = {
    "accelerator": "cpu",
    "image": "image",
    "data": "s3://bucket/data",
    "output": "s3://bucket/runs",
    "name": "example",
}
"""What takes the place of settings that are not there yet, when the others are checked."""


def check(settings: Mapping[str, str | list[str]]) -> None:
    """Refuse settings with which no job could be made. Raises: InputError."""
    single = EXAMPLES | {key: value for key, value in settings.items() if isinstance(value, str)}
    JobSpec.from_settings({key: (value,) for key, value in single.items()})


def write(path: Path, text: str, *, replace: bool) -> None:
    """Write the file, which is whole or as it was; one that is there is replaced only with leave, and a link never followed.

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
            f"cannot write `{path}`: it is there already", hint="-y changes it; what is not named stays"
        ) from problem
    except OSError as problem:
        reason = str(problem.strerror).lower()
        raise InputError(f"cannot write `{path}`: {reason}", hint="run it in a directory of yours") from problem


def _mode_of(path: Path) -> int | None:
    """The permissions of a file, None where there is none. Raises: OSError for what is no file."""
    try:
        there = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(there):
        raise OSError(errno.EINVAL, "it is a link" if stat.S_ISLNK(there) else "it is no regular file")
    return stat.S_IMODE(there)
