"""Location of a run's files, from its job in the cluster or, after the job was deleted, from `--output`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter, Token

from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import Object
from launcher.jobs.find import settings_of
from launcher.spec.options import S3Options
from launcher.spec.s3_volume import KEYS
from launcher.spec.trust import ForeignEndpoint, allowed, as_given
from trainer.errors import InputError, KnownError
from trainer.layout import RUN, check_name
from trainer.location import Location, S3Server, expanded
from trainer.storage import (
    CredentialsError,
    CredentialSourceError,
    NoProxyError,
    Storage,
    UnreachableError,
    open_storage,
)

Report = Callable[[str], None]
Settings = Mapping[str, object]
"""Settings of a job by key."""


class Typed(str):
    """A flag's value from the command line; values from the environment or a file are plain strings."""

    __slots__ = ()


def with_origin(_: type, tokens: Sequence[Token]) -> str:
    """The parsed value of a flag, with its origin."""
    return Typed(tokens[-1].value) if tokens[-1].source == "cli" else as_given(_, tokens)


def place_with_origin(_: type, tokens: Sequence[Token]) -> str:
    """The same for a bucket or directory, with the home directory in `~/x`."""
    return with_origin(_, [tokens[-1].evolve(value=expanded(tokens[-1].value))])


_EITHER: Final = Parameter(converter=with_origin, n_tokens=1, accepts_keys=False, show_default=False)


class ElsewhereError(InputError):
    """The run is in a directory that only the cluster's nodes can read."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Flags that give the location of a run."""

    output: Annotated[
        str | None, Parameter(converter=place_with_origin, n_tokens=1, accepts_keys=False, show_default=False)
    ] = None
    """Location of runs, `s3://BUCKET/PREFIX` or a directory. As a flag, no job is needed; from settings, it applies to deleted jobs."""

    endpoint: Annotated[str | None, Parameter(name="--s3-endpoint"), _EITHER] = None
    """URL of the S3 server from this machine; the default is that of the job."""

    region: Annotated[str | None, Parameter(name="--s3-region"), _EITHER] = None
    """Region of the bucket; the default is that of the job."""

    def __post_init__(self) -> None:
        if self.output is not None and not self.output.removeprefix("s3://").strip("/"):
            raise InputError(
                f"cannot look for runs in `{self.output}`: it is not a location (from `--output`)",
                hint="--output s3://BUCKET/PREFIX or DIRECTORY",
            )


@dataclass(frozen=True)
class Run:
    """A run, its location, and the S3 options to read it."""

    name: str
    url: str
    s3: S3Options

    @contextmanager
    def opened(self) -> Iterator[Storage]:
        """The run's storage, after one successful request: a later failure is not due to a wrong address.

        Raises: KnownError, as `open_storage`.
        """
        try:
            storage = open_storage(self._location())
            storage.keys(RUN)
        except (CredentialSourceError, NoProxyError):
            raise
        except UnreachableError as problem:
            problem.hint = "--s3-endpoint URL sets the address of the S3 server from this machine"
            raise
        except CredentialsError as problem:
            problem.hint = f"{problem.hint}; yours are in {' and '.join(KEYS)}, or in the profile of AWS_PROFILE"
            raise
        yield storage

    def _location(self) -> Location:
        """Raises: InputError for an endpoint that must not get this user's credentials, see `launcher.spec.trust`."""
        at = Location(self.url)
        return replace(at, server=S3Server(allowed(self.s3.endpoint), self.s3.region)) if at.is_bucket else at


def find(name: str, where: Where, get_job: Callable[[], Object], report: Report) -> Run:
    """The run of that name; `get_job` reads its job from the cluster.

    Raises: InputError for an invalid name or a location that this machine can't read; the errors of `get_job` without `--output`.
    """
    check_name(name)
    if isinstance(where.output, Typed):
        return _below(where.output, name, where, {})
    try:
        settings = settings_of(get_job())
    except KnownError as problem:
        reason = f"there is no job `{name}`" if isinstance(problem, NotFoundError) else str(problem.args[0])
        if where.output is None:
            raise _not_found(name, problem, reason) from problem
        report(f"{reason}; looking in {where.output}")
        return _below(where.output, name, where, {})
    return of_settings(name, settings, where)


def of_settings(name: str, settings: Settings, where: Where) -> Run:
    """The run of a job with these settings. Raises: ElsewhereError when only the nodes can read the output."""
    output = str(settings["output"])
    if is_seen(output):
        return _below(output, name, where, settings)
    if where.output:
        return _below(where.output, name, where, {})
    raise ElsewhereError(
        f"cannot read the run `{name}`: only the cluster's nodes can read `{output}` (from its job)",
        hint="--output DIRECTORY with the same files on this machine",
    )


def is_seen(output: str) -> bool:
    """Whether this machine can read the output."""
    return Location(output).is_bucket or Path(output).is_dir()


def _below(output: str, name: str, where: Where, settings: Settings) -> Run:
    def value_of(given: str | None, key: str) -> str | None:
        value = str(settings[key]) if key in settings and not isinstance(given, Typed) else given
        return given if value == given else value  # `given` keeps its type, which holds its origin

    endpoint = value_of(where.endpoint, "s3_endpoint")
    if endpoint != where.endpoint and endpoint is not None:
        endpoint = ForeignEndpoint.of(endpoint, f"the settings of the job {name}")
    s3 = S3Options(endpoint=endpoint, region=value_of(where.region, "s3_region"))
    return Run(name, f"{output.rstrip('/')}/{name}", s3)


def _not_found(name: str, problem: KnownError, reason: str) -> KnownError:
    text = f"cannot find the run `{name}`: {reason}, and `--output` is not given"
    return type(problem)(
        text, hint="--output s3://BUCKET/PREFIX or DIRECTORY of the runs; or -n and --context of its job"
    )
