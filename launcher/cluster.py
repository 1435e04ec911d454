"""Talks to the API server, alone in this program: plain JSON over the official client's connection; its errors become ours.

The client brings what is hard to get right (kubeconfig, credential plugins, TLS, in-cluster accounts); its generated
classes are left out, because they take seconds to load and differ between its releases.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode

from launcher.resources import PODS, Object, Resource
from launcher.target import Target
from trainer.errors import InputError, RemoteError, on_one_line

Objects = list[Object]

CONNECT_S: Final = 10.0
READ_S: Final = 30.0
"""Each request has a time limit; a server that says nothing for so long is taken for gone."""

STREAMS: Final = 64
"""Connections that are kept open: following a log takes one a pod."""

ATTEMPTS: Final = 4
"""How often a read is tried that met a busy server or a broken connection."""

LONGEST_WAIT_S: Final = 20.0
"""A server may ask for more (Retry-After); then its refusal is passed on."""

PAGE: Final = 500
"""Objects in one answer to a list. Source: what kubectl asks for."""

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


class UnreachableError(RemoteError):
    """There was no answer."""


@dataclass(frozen=True)
class Request:
    """What is asked, and what for: `what` completes the sentence `cannot …`."""

    method: str
    path: str
    what: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    content_type: str = "application/json"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Cluster:
    """A connection to one API server, as one user, with the namespace that commands mean unless they say another."""

    namespace: str
    server: str
    context: str

    http: Any = field(repr=False)
    """urllib3's pool, with the client's TLS settings."""

    authorization: Callable[[], str | None] = field(repr=False)
    """The header of that name, renewed when it has expired; never shown."""

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
        return self.list_at(resource, namespace=namespace, everywhere=everywhere, labels=labels, fields=fields)[0]

    def list_at(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        everywhere: bool = False,
        labels: str = "",
        fields: str = "",
    ) -> tuple[Objects, str]:
        """All objects that match, and the version of the collection, from which a watch can go on."""
        path = resource.path(None if everywhere else namespace or self.namespace)
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        items: Objects = []
        position = ""
        while True:
            page = self._json(Request("GET", path, f"list {resource.plural}", query | {"continue": position}))
            items += page.get("items") or []
            position = page["metadata"].get("continue", "")
            if not position:
                kind = {"apiVersion": resource.group_version, "kind": resource.kind}
                return [kind | item for item in items], page["metadata"].get("resourceVersion", "")

    def create(
        self, resource: Resource, body: Object, *, namespace: str | None = None, dry_run: bool = False
    ) -> Object:
        """Create an object; fields that the server does not know are refused. A dry run only asks whether it could be."""
        query = {"fieldValidation": "Strict", "dryRun": "All" if dry_run else ""}
        what = f"create {resource.kind} `{body['metadata']['name']}`"
        return self._json(Request("POST", resource.path(namespace or self.namespace), what, query, body))

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
        what = f"watch {resource.plural}"
        for line in self._lines(path, what, query, read_s=timeout_s + CONNECT_S):
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise self._refusal(int(event["object"].get("code", 0)), line, what)
            if event["type"] != "BOOKMARK":
                yield event["type"], event["object"]

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
        return self._lines(path, f"read the log of pod `{pod}`", query, read_s=read_timeout_s)

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

    def _json(self, request: Request) -> Object:
        answer = self._ask(request)
        try:
            content = json.loads(answer.body)
        except ValueError as problem:
            raise RemoteError(
                f"cannot {request.what}: `{self.server}` did not answer as a Kubernetes API server does",
                hint="check the server of the kubeconfig, and proxies on the way",
            ) from problem
        return content  # type: ignore[no-any-return]  # every answer of the API is an object

    def _ask(self, request: Request) -> Answer:
        """The answer, when it is a good one; asks again where that is safe."""
        reads = request.method == "GET"
        for attempt in range(1, ATTEMPTS + 1):
            wait_s = 0.25 * 2.0**attempt
            try:
                answer = self._once(request)
            except UnreachableError:
                if attempt == ATTEMPTS or not reads:
                    raise
            else:
                if answer.status < 300:
                    return answer
                asked_s = _retry_after(answer)
                again = answer.status == 429 or (reads and answer.status in BUSY)
                if not again or attempt == ATTEMPTS or asked_s > LONGEST_WAIT_S:
                    raise self._refusal(answer.status, answer.body, request.what)
                wait_s = max(wait_s, asked_s)
            self.sleep(wait_s)
        raise AssertionError

    def _once(self, request: Request) -> Answer:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - only commands that talk to a cluster load it

        headers, body = self._headers(), None
        if request.body is not None:
            headers, body = headers | {"Content-Type": request.content_type}, json.dumps(request.body).encode()
        try:
            response = self.http.request(
                request.method,
                self._url(request.path, request.query),
                body=body,
                headers=headers,
                timeout=_timeout(READ_S),
                retries=False,
            )
        except HTTPError as problem:
            raise self._unreachable(request.what, problem) from problem
        return Answer(response.status, response.headers, response.data)

    def _lines(self, path: str, what: str, query: Mapping[str, str], *, read_s: float) -> Iterator[bytes]:
        """Lines of an answer as they arrive, with their ends."""
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - only commands that talk to a cluster load it

        try:
            response = self.http.request(
                "GET",
                self._url(path, query),
                headers=self._headers(),
                timeout=_timeout(read_s),
                retries=False,
                preload_content=False,
            )
            try:
                if response.status >= 300:
                    raise self._refusal(response.status, response.read(), what)
                rest = b""
                for chunk in response.stream(amt=None):
                    *lines, rest = (rest + chunk).split(b"\n")
                    yield from (line + b"\n" for line in lines)
                if rest:
                    yield rest
            finally:
                response.close()
        except HTTPError as problem:
            raise self._unreachable(what, problem) from problem

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        given = urlencode({key: value for key, value in query.items() if value})
        return f"{self.server}{path}" + (f"?{given}" if given else "")

    def _headers(self) -> dict[str, str]:
        authorization = self.authorization()
        return {"Accept": "application/json"} | ({"authorization": authorization} if authorization else {})

    def _unreachable(self, what: str, problem: Exception) -> UnreachableError:
        """The reason is the innermost one: the outer ones speak of pools and retries."""
        while isinstance(problem.__cause__ or problem.__context__, Exception):
            problem = problem.__cause__ or problem.__context__  # type: ignore[assignment]  # checked in the line above
        reason = on_one_line(getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
        return UnreachableError(
            f"cannot {what}: no answer from `{self.server}`: {reason[:1].lower()}{reason[1:].rstrip('.')}",
            hint=f"kubectl --context {self.context} get --raw /readyz" if self.context else "kubectl get --raw /readyz",
        )

    def _refusal(self, status: int, body: bytes, what: str) -> RemoteError:
        """What the server's answer means, in its own words."""
        try:
            document = json.loads(body)
            document = document.get("object", document)
            said = str(document.get("message", ""))
            group_is_absent = "details" not in document
        except (ValueError, AttributeError):
            said, group_is_absent = body[:200].decode(errors="replace"), True
        text = f"cannot {what}: {on_one_line(said.strip()) or f'the server answered with {status}'}"
        if status == 404 and group_is_absent:
            return NotFoundError(
                f"cannot {what}: `{self.server}` does not serve this kind of object",
                hint="the training operator is not installed: k8s/operator says how",
            )
        if "failed calling webhook" in said:
            return RemoteError(
                f"{text} (the training operator's webhook does not answer)",
                hint="is the training operator running? kubectl get deployments -A | grep training-operator",
            )
        kind, hint = _KINDS.get(status, (RemoteError, None))
        return kind(text, hint=hint)


_KINDS: Final[Mapping[int, tuple[type[RemoteError], str | None]]] = {
    400: (InvalidError, None),
    401: (RemoteError, "your credentials are not accepted: log in again, or name another --context"),
    403: (ForbiddenError, "an administrator can grant this: k8s/base has the roles"),
    404: (NotFoundError, "launcher list -A"),
    409: (ConflictError, None),
    410: (GoneError, None),
    422: (InvalidError, None),
    429: (RemoteError, "the server is busy: try again later"),
}


def open_cluster(target: Target) -> Cluster:
    """The cluster that the flags or the kubeconfig name; inside a pod without a kubeconfig, the pod's own.

    Raises: InputError when there is none, or no such context; RemoteError when credentials can't be had.
    """
    import kubernetes.client  # noqa: PLC0415 - half a second, for commands that talk to a cluster
    from kubernetes.config import ConfigException, list_kube_config_contexts  # noqa: PLC0415

    configuration = kubernetes.client.Configuration()
    try:
        contexts, active = list_kube_config_contexts(config_file=target.kubeconfig)
    except ConfigException as problem:
        return _inside_pod(target, configuration, problem)
    known = {each["name"]: each for each in contexts}
    chosen = target.context or active["name"]
    if chosen not in known:
        raise InputError(
            f"cannot use the context `{on_one_line(chosen)}`: the kubeconfig has no such context (from `--context`)",
            hint=f"it has {', '.join(sorted(known))}",
        )
    _load(target, chosen, configuration)
    namespace = target.namespace or known[chosen]["context"].get("namespace") or "default"
    return _connected(configuration, namespace=namespace, context=chosen)


def _load(target: Target, context: str, configuration: Any) -> None:  # noqa: ANN401 - the client ships no types
    from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

    try:
        load_kube_config(
            config_file=target.kubeconfig, context=context, client_configuration=configuration, persist_config=False
        )
    except ConfigException as problem:
        raise RemoteError(
            f"cannot use the context `{context}`: {on_one_line(str(problem))}",
            hint=f"does `kubectl --context {context} get pods` work?",
        ) from problem


def _inside_pod(target: Target, configuration: Any, problem: Exception) -> Cluster:  # noqa: ANN401 - the client ships no types
    from pathlib import Path  # noqa: PLC0415 - rare

    from kubernetes.config import ConfigException, load_incluster_config  # noqa: PLC0415

    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException:
        raise InputError(
            f"cannot find a cluster: {on_one_line(str(problem))}", hint="--kubeconfig FILE, or KUBECONFIG=FILE"
        ) from problem
    own = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return _connected(configuration, namespace=target.namespace or own.read_text(encoding="utf-8"), context="")


def _connected(configuration: Any, *, namespace: str, context: str) -> Cluster:  # noqa: ANN401 - the client ships no types
    from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415

    configuration.connection_pool_maxsize = STREAMS

    return Cluster(
        namespace,
        configuration.host.rstrip("/"),
        context,
        RESTClientObject(configuration).pool_manager,
        # The client renews tokens in this call, and calls the key by either name.
        lambda: configuration.get_api_key_with_prefix("BearerToken", alias="authorization"),
    )


def _timeout(read_s: float) -> Any:  # noqa: ANN401 - urllib3 is loaded late
    from urllib3 import Timeout  # noqa: PLC0415 - as above

    return Timeout(connect=CONNECT_S, read=read_s)


def _retry_after(answer: Answer) -> float:
    """Seconds that the server asks to wait, 0 when it does not say."""
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0
