"""Find a job by its name, of whichever kind it is."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotFoundError, NotServedError
from launcher.cluster.resources import Object
from launcher.kinds import batchjob
from trainer.errors import InputError, RemoteError


def get(cluster: Cluster, name: str, api: kinds.Choice = "auto") -> Object:
    """The job. Raises: NotFoundError, and as `find`."""
    return _found(cluster, name, api)[0]


def find(cluster: Cluster, name: str, api: kinds.Choice = "auto") -> Object | None:
    """The job, or None; of two kinds, one that the user may not read counts as having none.

    Raises: InputError when both kinds have a job of this name and `api` does not decide; NotServedError when the cluster serves no
    kind of jobs; ForbiddenError when no kind may be read.
    """
    try:
        return get(cluster, name, api)
    except NotServedError:
        raise
    except NotFoundError:
        return None


def find_source(cluster: Cluster, name: str, api: kinds.Choice = "auto") -> Object | None:
    """The job from which another is made: of the kind `api` if there is one, else of the other kind; None without one.

    Raises: as `find`.
    """
    found = find(cluster, name, api)
    return found if found is not None or api == "auto" else find(cluster, name)


def check_only_kind(cluster: Cluster, job: Object, what: str) -> None:
    """Check that no job of the other kind has the name of this one; `what` begins the text of the error.

    Raises: InputError; RemoteError when the other kind cannot be read for another reason than a missing permission.
    """
    name, kind = job["metadata"]["name"], kinds.of(job)
    for other in (each for each in kinds.TRAINING if each is not kind):
        with suppress(ForbiddenError, NotServedError):
            if find(cluster, name, other.api) is not None:
                raise InputError(
                    f"{what}: there is a {kind.resource.kind} and a {other.resource.kind} of this name, and they would share one run",
                    hint=f"launcher delete {name} --api {other.api} deletes the {other.resource.kind}; "
                    f"launcher clone {name} --api {kind.api} starts another run",
                )


def find_all(cluster: Cluster, name: str) -> list[Object]:
    """The jobs of this name, at most one of each kind. Raises: NotServedError, ForbiddenError as `find`."""
    jobs, problems = _read(cluster, name, "auto")
    jobs = jobs or _others(cluster, name, "auto")
    if not jobs and all(isinstance(each, NotServedError | ForbiddenError) for each in problems.values()):
        raise _first(list(problems.values()))
    return jobs


def again(cluster: Cluster, job: Object) -> Object:
    """The current state of a job that was found before. Raises: RemoteError."""
    return kinds.identified(kinds.of(job), cluster.get(kinds.of(job).resource, job["metadata"]["name"]))


def list_all(
    cluster: Cluster, api: kinds.Choice = "auto", *, everywhere: bool = False, labels: str = ""
) -> list[Object]:
    """All jobs of the served kinds. Raises: as `find`."""
    jobs: list[Object] = []
    problems: list[RemoteError] = []
    considered = _considered(api)
    for kind in considered:
        try:
            jobs += cluster.list(kind.resource, everywhere=everywhere, labels=labels)
        except (NotFoundError, ForbiddenError) as problem:
            problems.append(problem)
    if api in {"auto", batchjob.api}:
        jobs += _all_others(cluster, api, everywhere=everywhere, labels=labels)
    if not jobs and problems and len(problems) == len(considered):
        raise _first(problems)
    return jobs


def _found(cluster: Cluster, name: str, api: kinds.Choice) -> list[Object]:
    jobs, problems = _read(cluster, name, api)
    if not jobs and api in {"auto", batchjob.api}:
        jobs = _others(cluster, name, api)
    if len(jobs) > 1:
        raise InputError(
            f"cannot select the job `{name}`: there is a PyTorchJob and a TrainJob of this name",
            hint="--api pytorchjob or --api trainjob",
        )
    if not jobs:
        raise _none_found(cluster, name, problems)
    return jobs


def _read(cluster: Cluster, name: str, api: kinds.Choice) -> tuple[list[Object], dict[str, RemoteError]]:
    """The jobs of this name, and by kind why there is none of the others."""
    jobs: list[Object] = []
    problems: dict[str, RemoteError] = {}
    for kind in _considered(api):
        try:
            jobs.append(kinds.identified(kind, cluster.get(kind.resource, name)))
        except (NotFoundError, ForbiddenError) as problem:
            problems[kind.resource.kind] = problem
        except RemoteError:
            if not jobs:
                raise
    return jobs, problems


def _others(cluster: Cluster, name: str, api: kinds.Choice) -> list[Object]:
    """The job of this name that `launcher prepare` made. Raises: RemoteError, as `_unless_of_all`."""
    with suppress(NotFoundError), _unless_of_all(api):
        job = cluster.get(batchjob.resource, name)
        if batchjob.COMPONENT.items() <= (job["metadata"].get("labels") or {}).items():
            return [kinds.identified(batchjob, job)]
    return []


def _all_others(cluster: Cluster, api: kinds.Choice, *, everywhere: bool, labels: str) -> list[Object]:
    """All jobs that `launcher prepare` made. Raises: RemoteError, as `_unless_of_all`."""
    selector = ",".join(filter(None, (batchjob.selector, labels)))
    with suppress(NotFoundError), _unless_of_all(api):
        return cluster.list(batchjob.resource, everywhere=everywhere, labels=selector)
    return []


@contextmanager
def _unless_of_all(api: kinds.Choice) -> Iterator[None]:
    """Count Jobs that may not be read as none, unless it is they that are asked for. Raises: RemoteError for another reason."""
    try:
        yield
    except ForbiddenError:
        if api == batchjob.api:
            raise


def _considered(api: kinds.Choice) -> list[kinds.JobKind]:
    """The kinds of training jobs that `api` admits."""
    return [kind for kind in kinds.TRAINING if api in {"auto", kind.api}]


def _none_found(cluster: Cluster, name: str, problems: Mapping[str, RemoteError]) -> RemoteError:
    """The error for a job of which no kind was found; `problems` are those of each kind."""
    if not problems:
        return NotFoundError(
            f"cannot find the job `{name}`: `launcher prepare` made none of this name in namespace {cluster.namespace}",
            hint="launcher list",
        )
    absent = [
        kind
        for kind, each in problems.items()
        if isinstance(each, NotFoundError) and not isinstance(each, NotServedError)
    ]
    forbidden = [kind for kind, each in problems.items() if isinstance(each, ForbiddenError)]
    if absent and len(absent) + len(forbidden) == len(problems) > 1:
        missing = (
            f"there is {' and '.join(f'no {kind}' for kind in absent)} of this name in namespace {cluster.namespace}"
        )
        unknown = "".join(f", and you may not read {kind}s" for kind in forbidden)
        return NotFoundError(
            f"cannot find the job `{name}`: {missing}{unknown}",
            hint="launcher list" if forbidden else "launcher list -A",
        )
    return _first(list(problems.values()))


def _first(problems: list[RemoteError]) -> RemoteError:
    """The problem to report of all kinds: a missing permission, then a missing job, then a kind that is not served."""
    return min(problems, key=lambda each: (not isinstance(each, ForbiddenError), isinstance(each, NotServedError)))
