"""What the API server refused, as errors of this program: in the server's own words, with what to do next."""

from collections.abc import Mapping
from typing import Any, Final

from launcher.cluster.resources import JOBS
from trainer.errors import RemoteError, on_one_line

BUSY: Final = frozenset({429, 500, 502, 503, 504})


class NotFoundError(RemoteError):
    """There is no such object, or no such kind of object."""


class ForbiddenError(RemoteError):
    """The user may not do this."""


class ConflictError(RemoteError):
    """The object is there already, or has changed meanwhile."""


class InvalidError(RemoteError):
    """The server, or a webhook that it asks, refuses the object."""


class GoneError(RemoteError):
    """The server does not keep what has changed since; list again."""


class ServerError(RemoteError):
    """The server, or one that it asks, is busy or has failed: what was asked may have been done or not."""


class UnreachableError(RemoteError):
    """There was no answer: what was asked may have been done or not."""


def refusal(path: str, what: str, status: int, document: Mapping[str, Any] | None, text: str = "") -> RemoteError:
    """The error for an answer other than success; `what` completes the sentence `cannot …`.

    `document` is the answer's Status; where it is none, `text` is the beginning of the answer.
    """
    said = text if document is None else str(document.get("message", "")).strip()
    if status == 404 and (document is None or "details" not in document):
        return _not_served(path, what)
    kind = ServerError if status in BUSY or status >= 500 else _KINDS.get(status, RemoteError)
    reason = on_one_line(said) or f"the server answered with {status}"
    return kind(f"cannot {what}: {reason}", hint=_hint(path, status, said))


def _not_served(path: str, what: str) -> NotFoundError:
    kinds = "/".join(path.removeprefix("/apis/").split("/")[:2])
    hint = "the training operator is not installed: k8s/operator says how" if kinds == JOBS.group_version else None
    return NotFoundError(f"cannot {what}: the cluster does not serve `{kinds}`", hint=hint)


_KINDS: Final[Mapping[int, type[RemoteError]]] = {
    400: InvalidError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def _hint(path: str, status: int, said: str) -> str | None:
    """What to do next, as far as the answer tells."""
    of_jobs = JOBS.group_version in path
    hints = {
        "is the training operator running? kubectl get deployments -A | grep training-operator": "calling webhook"
        in said
        and of_jobs,
        "is that webhook's server running?": "calling webhook" in said,
        "your credentials are not accepted: log in again, or name another --context": status == 401,
        "kubectl describe resourcequota shows what is used, launcher list what could end": "exceeded quota" in said,
        "an administrator can grant this: the roles in k8s/base have it": status == 403 and " cannot " in said,
        "-n NAMESPACE names another one; kubectl get namespaces": status == 404 and said.startswith("namespaces "),
        "launcher list -A": status == 404 and of_jobs,
        "the server is busy, or something behind it is away: try again later": status == 429 or status >= 500,
    }
    return next((hint for hint, holds in hints.items() if holds), None)
