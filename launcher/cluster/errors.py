"""Errors of the API server, with its message and a hint."""

import re
from collections.abc import Mapping
from typing import Any, Final

from launcher.cluster.operator import CONTROLLERS, Controller
from trainer.errors import RemoteError, on_one_line

BUSY: Final = frozenset({429, 500, 502, 503, 504})


class LoginError(RemoteError):
    """The kubeconfig, or the program that it names, gives no usable credentials: bad input, which no server has seen."""

    exit_code = 2


class NotFoundError(RemoteError):
    """The object, or its kind, does not exist."""


class NotServedError(NotFoundError):
    """The cluster does not serve this kind of object."""


class ForbiddenError(RemoteError):
    """The user lacks the permission, or admission refused the object."""


class ConflictError(RemoteError):
    """The object already exists, or has changed meanwhile."""


class InvalidError(RemoteError):
    """The server or a webhook refuses the object as invalid."""


class GoneError(RemoteError):
    """The resource version or continue token has expired; list again."""


class ServerError(RemoteError):
    """The server, or a server behind it, is busy or has failed; the request may have taken effect."""


class UnreachableError(RemoteError):
    """There was no response; the request may have taken effect."""


def error_of_status(
    path: str, what: str, status: int, document: Mapping[str, Any] | None, text: str = ""
) -> RemoteError:
    """The error for a response other than success; `what` completes the sentence `cannot …`.

    `document` is the Status in the response; without one, `text` is the beginning of the response.
    """
    message = text if document is None else str(document.get("message", "")).strip()
    if status == 404 and (document is None or "details" not in document):
        return _not_served(path, what)
    kind = ServerError if status in BUSY or status >= 500 else _KINDS.get(status, RemoteError)
    reason = on_one_line(message) or f"the server answered with {status}"
    return kind(f"cannot {what}: {reason}", hint=_hint(path, status, message))


def _not_served(path: str, what: str) -> NotServedError:
    kinds = "/".join(path.removeprefix("/apis/").split("/")[:2])
    hint = next((each.install for each in CONTROLLERS if each.jobs.group_version == kinds), None)
    return NotServedError(f"cannot {what}: the cluster does not serve `{kinds}`", hint=hint)


_KINDS: Final[Mapping[int, type[RemoteError]]] = {
    400: InvalidError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


_SERVICE: Final = re.compile(r"https://([a-z0-9][-a-z0-9]*)\.([a-z0-9][-a-z0-9]*)\.svc[:/]")
"""Address of a webhook's Service in the server's message."""


def _webhook_hint(message: str, controller: Controller | None) -> str:
    """How to look after the webhook that did not respond: the controller's, Kueue's or another program's."""
    service = _SERVICE.search(message)
    if service is None:
        if controller is None:
            return "check that the webhook's server is running"
        return f"check that the {controller.title} is running: kubectl get deployments -A | grep {controller.name}"
    name, namespace = service[1], service[2]
    server = next((each.title for each in CONTROLLERS if each.name in name), "webhook's server")
    return f"check that the {server} is running: kubectl -n {namespace} get pods,endpointslices; its Service is {name}"


def _hint(path: str, status: int, message: str) -> str | None:
    controller = next((each for each in CONTROLLERS if each.jobs.group_version in path), None)
    hints = {
        _webhook_hint(message, controller): "calling webhook" in message,
        "your credentials are not accepted: log in again, or use another --context": status == 401,
        "kubectl describe resourcequota shows the usage; launcher list shows jobs to delete": "exceeded quota"
        in message,
        "ask an administrator for the permission: the roles in k8s/base have it": status == 403
        and " cannot " in message,
        "use another -n NAMESPACE; kubectl get namespaces": status == 404 and message.startswith("namespaces "),
        "launcher list -A": status == 404 and controller is not None,
        "the server, or one behind it, is busy or unavailable: try again later": status == 429 or status >= 500,
    }
    return next((hint for hint, holds in hints.items() if holds), None)
