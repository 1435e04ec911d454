"""Talks to the API server, alone in this program: plain JSON over the official client's connection; its errors become ours."""

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypedDict
from urllib.parse import urlencode

from launcher.cluster.access import Target
from launcher.cluster.auth import Login, login
from launcher.cluster.resources import JOBS, PODS, Object, Resource
from trainer import __version__
from trainer.errors import RemoteError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import API_BYTES, API_NODES, CHANGE_BYTES, LISTED_OBJECTS, LOG_LINE_BYTES, in_words, parsed_json
from trainer.redaction import redacted

Objects = list[Object]

CONNECT_S: Final = 10.0
READ_S: Final = 30.0
"""Each request has a time limit; a server that says nothing for so long is taken for gone."""

ATTEMPTS: Final = 4
"""How often a read is tried that met a busy server or a broken connection."""

LONGEST_WAIT_S: Final = 20.0
"""A server may ask for more (Retry-After); then its refusal is passed on."""

PAGE: Final = 500
"""Objects in one answer to a list. Source: what kubectl asks for."""

MOST_SHORT_PAGES: Final = 1000
"""Pages beyond those that the objects fill: a server may give some with less than it was asked for."""

PIECE_BYTES: Final = 1 << 16
"""How much of an answer is read at a time."""

REFUSAL_BYTES: Final = 1 << 20
"""Of a refusal, what is read: a Status names one object."""

MOST_SAID_BYTES: Final = 16384
"""Of an answer that is no Status, what is looked at; 200 characters of it are shown."""

CUT: Final = b" [the rest of the line is left out: it is too long]"
"""What stands at the end of a line that was cut."""

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


@dataclass(frozen=True)
class Request:
    """What is asked, and what for: `what` completes the sentence `cannot …`."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"

    def may_repeat(self, status: int) -> bool:
        """Whether to ask again after this answer: nothing was done, or doing it twice is as good as once."""
        return status == 429 or (status in BUSY and self.method in {"GET", "DELETE"})


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Room:
    """How much a server may still answer to one question, in however many pages."""

    left_bytes: int = field(default_factory=lambda: API_BYTES)


@dataclass(frozen=True)
class Cluster(Login):
    """A connection to one API server, as one user."""

    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """One object. Raises: NotFoundError, ForbiddenError and other RemoteErrors, like all methods."""
        return self._json(
            Request("GET", resource.path(namespace or self.namespace, name), f"get {resource.kind} `{name}`")
        )

    def list(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
    ) -> Objects:
        """All objects that match the selectors, read page by page."""
        path = resource.path(None if everywhere else namespace or self.namespace)
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        request = Request("GET", path, f"list {resource.plural}", query)
        try:
            items = self._pages(request)
        except GoneError:  # the server has forgotten the list that the next page belongs to
            items = self._pages(replace(request, query=query | {"limit": ""}))
        kind = {"apiVersion": resource.group_version, "kind": resource.kind}
        return [kind | item for item in items]

    def create(
        self, resource: Resource, body: Object, *, namespace: str | None = None, dry_run: bool = False
    ) -> Object:
        """Create an object, or leave nothing; fields that the server does not know are refused.

        A dry run only asks whether it could be. When the answer is lost, what was made is found by the name under which
        it was made, and returned, or else taken back.
        """
        manager = f"chexnet-launcher-{secrets.token_hex(4)}"
        query = {"fieldValidation": "Strict", "fieldManager": manager, "dryRun": "All" if dry_run else ""}
        name = body["metadata"]["name"]
        place = resource.path(namespace or self.namespace)
        try:
            return self._json(Request("POST", place, f"create {resource.kind} `{name}`", query, body))
        except ConflictError:
            there = None if dry_run else self._made(resource, name, namespace, manager)
            if there is None:
                raise
            return there
        except (ServerError, UnreachableError, KeyboardInterrupt):
            if not dry_run and self._made(resource, name, namespace, manager):
                with suppress(RemoteError):
                    self.delete(resource, name, namespace=namespace, propagation="Background")
            raise

    def patch(self, resource: Resource, name: str, body: Object, *, namespace: str | None = None) -> Object:
        """Merge `body` into an object."""
        path = resource.path(namespace or self.namespace, name)
        return self._json(
            Request("PATCH", path, f"change {resource.kind} `{name}`", {}, body, "application/merge-patch+json")
        )

    def delete(
        self, resource: Resource, name: str, *, namespace: str | None = None, propagation: str = "Foreground"
    ) -> None:
        """Ask for an object's end; it is gone once `get` does not find it. Raises: NotFoundError when it is gone already."""
        path = resource.path(namespace or self.namespace, name)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        self._json(Request("DELETE", path, f"delete {resource.kind} `{name}`", {}, body))

    def watch(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        since: str = "",
        timeout_s: float = READ_S,
    ) -> Iterator[tuple[str, Object]]:
        """Changes as they come, for at most `timeout_s`: ADDED, MODIFIED or DELETED, and the object.

        It may end early, and it may be silent while things happen: who waits must list now and then.
        Raises: GoneError when `since` is too old; UnreachableError when the connection breaks.
        """
        query = {
            "watch": "true",
            "labelSelector": labels,
            "fieldSelector": fields,
            "resourceVersion": since,
            "timeoutSeconds": str(max(1, int(timeout_s))),
        }
        path = resource.path(namespace or self.namespace)
        request = Request("GET", path, f"watch {resource.plural}", query)
        for line in self._lines(request, read_s=timeout_s + CONNECT_S, most_bytes=CHANGE_BYTES):
            if not line.endswith(b"\n"):
                raise self._unreachable(request.what, ConnectionError("the answer ends in the middle of an event"))
            try:
                event = checked(_object(line), _Event)
            except ValueError as problem:
                raise self._unreachable(
                    request.what, ConnectionError("a line of the answer is not an event")
                ) from problem
            kind, changed = event["type"], event["object"]
            if kind == "ERROR":
                code = changed.get("code")
                raise _refusal(request, code if isinstance(code, int) else 0, line)
            if kind != "BOOKMARK":
                yield kind, changed

    def log(
        self,
        pod: str,
        *,
        container: str = "pytorch",
        namespace: str | None = None,
        follow: bool = False,
        previous: bool = False,
        since_time: str | None = None,
        since_s: int | None = None,
        tail: int | None = None,
        read_timeout_s: float = READ_S,
    ) -> Iterator[bytes]:
        """Lines of a container's log, each after its time and a space, with their ends; one without an end was cut off.

        Raises: UnreachableError when the stream breaks or is silent for `read_timeout_s`; an orderly end says nothing about
        the container.
        """
        query = {
            "container": container,
            "timestamps": "true",
            "follow": "true" if follow else "",
            "previous": "true" if previous else "",
            "sinceTime": since_time or "",
            "sinceSeconds": "" if since_s is None else str(since_s),
            "tailLines": "" if tail is None else str(tail),
        }
        path = f"{PODS.path(namespace or self.namespace, pod)}/log"
        request = Request("GET", path, f"read the log of pod `{pod}`", query)
        return self._lines(request, read_s=read_timeout_s, most_bytes=LOG_LINE_BYTES)

    def may(
        self, verb: str, resource: Resource, *, namespace: str | None = None, subresource: str = "", name: str = ""
    ) -> bool:
        """Whether this user has the right."""
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            "subresource": subresource,
            "name": name,
            "namespace": (namespace or self.namespace) if resource.namespaced else "",
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._json(Request("POST", path, "ask what you may do", {}, review))["status"]["allowed"])

    def version(self) -> str:
        """The server's version, such as `v1.34.1`."""
        return str(self._json(Request("GET", "/version", "ask for the server's version"))["gitVersion"])

    def serves(self, resource: Resource) -> bool:
        """Whether the server knows this kind of object."""
        root = f"/apis/{resource.group_version}" if resource.group else f"/api/{resource.group_version}"
        try:
            known = (
                self._json(Request("GET", root, f"ask for the kinds of {resource.group_version}")).get("resources")
                or []
            )
        except NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in known)

    def server_time(self) -> datetime:
        """The server's clock."""
        answer = self._ask(Request("GET", "/version", "ask for the server's time"))
        return parsedate_to_datetime(answer.headers["Date"])

    def _pages(self, request: Request) -> Objects:
        items: Objects = []
        position, seen, room = "", set[str](), _Room()
        while True:
            page = self._json(replace(request, query={**request.query, "continue": position}), room)
            items += page.get("items") or []
            position = str((page.get("metadata") or {}).get("continue") or "")
            if not position:
                return items
            if position in seen or len(seen) - len(items) // PAGE > MOST_SHORT_PAGES or len(items) > LISTED_OBJECTS:
                raise RemoteError(
                    f"cannot {request.what}: the listing of `{self.server}` does not end: {len(items):,} in {len(seen) + 1:,} pages",
                    hint="check the server of the kubeconfig, and proxies on the way",
                )
            seen.add(position)

    def _made(self, resource: Resource, name: str, namespace: str | None, manager: str) -> Object | None:
        """The object, when this manager made it; what can't be looked at must not hide why one looks."""
        with suppress(RemoteError):
            there = self.get(resource, name, namespace=namespace)
            if manager in {entry.get("manager") for entry in there["metadata"].get("managedFields") or ()}:
                return there
        return None

    def _json(self, request: Request, room: "_Room | None" = None) -> Object:
        room = room or _Room()
        answer = self._ask(request, room.left_bytes)
        room.left_bytes -= len(answer.body)
        try:
            return _object(answer.body)
        except ValueError as problem:
            raise RemoteError(
                f"cannot {request.what}: `{self.server}` did not answer as a Kubernetes API server does",
                hint="check the server of the kubeconfig, and proxies on the way",
            ) from problem

    def _ask(self, request: Request, most_bytes: int = API_BYTES) -> Answer:
        """The answer, when it is a good one; asks again where that is safe. Raises: RemoteError for a longer one, too."""
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = 0.25 * 2.0**attempt
            try:
                answer = self._once(request, most_bytes)
            except UnreachableError as problem:
                if attempt == ATTEMPTS or not _may_pass(problem):
                    raise
            else:
                if answer.status < 300 or (request.method == "DELETE" and answer.status == 404 and attempt > 1):
                    return answer  # who deletes again may find that the first time was enough
                asked_s = _retry_after(answer)
                if attempt == ATTEMPTS or asked_s > LONGEST_WAIT_S or not request.may_repeat(answer.status):
                    raise _refusal(request, answer.status, answer.body)
                wait_s = max(wait_s, asked_s)
            self.sleep(wait_s)
        raise AssertionError

    def _once(self, request: Request, most_bytes: int) -> Answer:
        with self._response(request, READ_S) as response:
            content = _content(response, most_bytes if response.status < 300 else REFUSAL_BYTES)
            if len(content) > most_bytes:
                raise RemoteError(
                    f"cannot {request.what}: `{self.server}` answers with more than {in_words(most_bytes)}",
                    hint="check the server of the kubeconfig, and proxies on the way",
                )
            return Answer(response.status, response.headers, content)

    def _lines(self, request: Request, *, read_s: float, most_bytes: int) -> Iterator[bytes]:
        """Lines of an answer as they arrive, with their ends; one that is too long is cut."""
        with self._response(request, read_s) as response:
            if response.status >= 300:
                raise _refusal(request, response.status, _content(response, REFUSAL_BYTES))
            yield from split_lines(_arriving(response), most_bytes)

    @contextmanager
    def _response(self, request: Request, read_s: float) -> Iterator[Any]:
        """The answer, of which nothing but its head has been read; what is not read in the block is given up."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - only commands that talk to a cluster load it

        headers, body = self._headers(), None
        if request.body is not None:
            headers, body = headers | {"Content-Type": request.content_type}, json.dumps(request.body).encode()
        try:
            response = self.http.request(
                request.method,
                self._url(request),
                body=body,
                headers=headers,
                timeout=_timeout(read_s),
                retries=False,
                preload_content=False,
            )
            try:
                yield response
            finally:
                response.close()
        except HTTPError as problem:
            raise self._unreachable(request.what, problem) from problem

    def _url(self, request: Request) -> str:
        given = urlencode({key: value for key, value in request.query.items() if value})
        return f"{self.server}{request.path}" + (f"?{given}" if given else "")

    def _headers(self) -> dict[str, str]:
        authorization = self.authorization()
        ours = {"Accept": "application/json", "User-Agent": f"chexnet-launcher/{__version__}"}
        return ours | ({"authorization": authorization} if authorization else {})

    def _unreachable(self, what: str, problem: Exception) -> UnreachableError:
        """The reason is the innermost one: the outer ones speak of pools and retries."""
        while isinstance(problem.__cause__ or problem.__context__, Exception):
            problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]  # checked in the line above
        reason = on_one_line(getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
        return UnreachableError(
            f"cannot {what}: no answer from `{self.server}`: {reason[:1].lower()}{reason[1:].rstrip('.')}",
            hint=f"kubectl --context {self.context} get --raw /readyz" if self.context else "kubectl get --raw /readyz",
        )


def open_cluster(target: Target) -> Cluster:
    """The cluster that the flags or the kubeconfig name; inside a pod without a kubeconfig, the pod's own.

    Raises: InputError when there is none, or no such context; RemoteError when credentials can't be had.
    """
    found = login(target)
    return Cluster(found.namespace, found.server, found.context, found.http, found.authorization)


def split_lines(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The lines of what comes in pieces, with their ends, the last one perhaps without.

    Of a longer line than allowed only the beginning is kept, always the same: who reads it again knows it again.
    """
    line = bytearray()
    for piece in pieces:
        *ends, rest = piece.split(b"\n")
        for end in ends:
            line += end[: most_bytes + 1 - len(line)]
            yield _cut(line, most_bytes) + b"\n"
            line.clear()
        line += rest[: most_bytes + 1 - len(line)]
    if line:
        yield _cut(line, most_bytes)


def _cut(line: bytearray, most_bytes: int) -> bytes:
    return bytes(line) if len(line) <= most_bytes else bytes(line[:most_bytes]) + CUT


def _content(response: Any, most_bytes: int) -> bytes:  # noqa: ANN401 - urllib3 is loaded late
    """The answer's body; of a longer one a little more than allowed."""
    content = bytearray()
    for piece in response.stream(PIECE_BYTES):
        content += piece
        if len(content) > most_bytes:
            break
    return bytes(content)


def _arriving(response: Any) -> Iterator[bytes]:  # noqa: ANN401 - as above
    """The answer's body as it comes: a line is not kept back until others have followed it."""
    if response.chunked:
        yield from response.stream(PIECE_BYTES)
        return
    while piece := response.read1(PIECE_BYTES):
        yield piece


class _Event(TypedDict):
    type: str
    object: dict[str, Any]


def _object(body: bytes) -> Object:
    """What every answer of the API is. Raises: ValueError for anything else."""
    return checked(parsed_json(body, most_bytes=API_BYTES, most_nodes=API_NODES), dict[str, Any])


def _may_pass(problem: UnreachableError) -> bool:
    """Whether another try may do better: not with who was silent for the whole time limit, nor with TLS that does not fit."""
    from urllib3 import exceptions  # noqa: PLC0415 - loaded by now

    cause = problem.__cause__
    is_timeout = isinstance(cause, exceptions.TimeoutError) and not isinstance(cause, exceptions.NewConnectionError)
    return not is_timeout and not isinstance(cause, exceptions.SSLError)


def _refusal(request: Request, status: int, body: bytes) -> RemoteError:
    """What the server's answer means, in its own words."""
    try:
        document = _object(body)
        document = document.get("object", document)
        said = str(document.get("message", "")).strip()
        group_is_absent = "details" not in document
    except (ValueError, AttributeError):
        said, group_is_absent = redacted(body[:MOST_SAID_BYTES].decode(errors="replace"))[:200].strip(), True
    if status == 404 and group_is_absent:
        return _not_served(request)
    kind = ServerError if status in BUSY or status >= 500 else _KINDS.get(status, RemoteError)
    reason = on_one_line(said) or f"the server answered with {status}"
    return kind(f"cannot {request.what}: {reason}", hint=_hint(request, status, said))


def _not_served(request: Request) -> NotFoundError:
    kinds = "/".join(request.path.removeprefix("/apis/").split("/")[:2])
    hint = "the training operator is not installed: k8s/operator says how" if kinds == JOBS.group_version else None
    return NotFoundError(f"cannot {request.what}: the cluster does not serve `{kinds}`", hint=hint)


_KINDS: Final[Mapping[int, type[RemoteError]]] = {
    400: InvalidError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
}


def _hint(request: Request, status: int, said: str) -> str | None:
    """What to do next, as far as the answer tells."""
    of_jobs = JOBS.group_version in request.path
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


def _timeout(read_s: float) -> Any:  # noqa: ANN401 - urllib3 is loaded late
    from urllib3 import Timeout  # noqa: PLC0415 - as above

    return Timeout(connect=CONNECT_S, read=read_s)


def _retry_after(answer: Answer) -> float:
    """Seconds that the server asks to wait, 0 when it does not say."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
