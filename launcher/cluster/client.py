"""Calls to the API server: get, list, create, patch, delete, watch and logs, as plain JSON."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypedDict, TypeVar

from launcher.cluster.access import Target
from launcher.cluster.auth import login
from launcher.cluster.connection import CONNECT_S, READ_S, ByteBudget, Connection, Request, as_object, error_of_response
from launcher.cluster.errors import (
    ConflictError,
    GoneError,
    NotFoundError,
    NotServedError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import PODS, Object, Resource
from trainer.errors import RemoteError
from trainer.formats.documents import checked
from trainer.limits import CHANGE_BYTES, LISTED_OBJECTS, LOG_LINE_BYTES

Objects = list[Object]

T = TypeVar("T")

PAGE: Final = 500
"""Objects in one page of a list. Source: the default chunk size of kubectl."""

MOST_SHORT_PAGES: Final = 1000
"""Limit of pages beyond the necessary number: a server may return pages with fewer objects than requested."""


@dataclass(frozen=True)
class Cluster:
    """Client of one API server for one user, with a default namespace."""

    connection: Connection

    @property
    def namespace(self) -> str:
        """Default namespace."""
        return self.connection.namespace

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.connection.server

    def sleep(self, seconds: float) -> None:
        """Wait between two requests of a poll."""
        self.connection.sleep(seconds)

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """Read one object. Raises: NotFoundError, ForbiddenError and other RemoteErrors, like all methods."""
        return self.connection.json(
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
        """List all objects that match the selectors, page by page."""
        path = resource.path(None if everywhere else namespace or self.namespace)
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        request = Request("GET", path, f"list {resource.plural}", query)
        try:
            items = self._pages(request)
        except GoneError:  # the continue token has expired: read all objects in one page
            items = self._pages(replace(request, query=query | {"limit": ""}))
        kind = {"apiVersion": resource.group_version, "kind": resource.kind}
        return [kind | item for item in items]

    def create(
        self, resource: Resource, body: Object, *, namespace: str | None = None, dry_run: bool = False
    ) -> Object:
        """Create an object, or leave none behind; unknown fields are rejected.

        A dry run only validates it. Each call uses its own field manager, so that after a lost response an object created by this
        call can be identified; it is returned after a conflict, and deleted after another failure.
        """
        manager = f"chexnet-launcher-{secrets.token_hex(4)}"
        query = {"fieldValidation": "Strict", "fieldManager": manager, "dryRun": "All" if dry_run else ""}
        name = body["metadata"]["name"]
        place = resource.path(namespace or self.namespace)
        try:
            return self.connection.json(Request("POST", place, f"create {resource.kind} `{name}`", query, body))
        except ConflictError:
            created = None if dry_run else self._created_by(resource, name, namespace, manager)
            if created is None:
                raise
            return created
        except (ServerError, UnreachableError, KeyboardInterrupt):
            if not dry_run and self._created_by(resource, name, namespace, manager):
                with suppress(RemoteError):
                    self.delete(resource, name, namespace=namespace, propagation="Background")
            raise

    def patch(self, resource: Resource, name: str, body: Object, *, namespace: str | None = None) -> Object:
        """Merge-patch an object with `body`."""
        path = resource.path(namespace or self.namespace, name)
        return self.connection.json(
            Request("PATCH", path, f"change {resource.kind} `{name}`", {}, body, "application/merge-patch+json")
        )

    def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str | None = None,
        propagation: str = "Foreground",
        uid: str | None = None,
    ) -> None:
        """Request deletion, with `uid` of that very object; it is gone when `get` no longer finds it.

        Raises: NotFoundError when it does not exist; ConflictError when the name belongs to an object with another `uid`.
        """
        path = resource.path(namespace or self.namespace, name)
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        self.connection.json(Request("DELETE", path, f"delete {resource.kind} `{name}`", {}, body))

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
        """Watch changes for at most `timeout_s`: ADDED, MODIFIED or DELETED, and the object.

        A watch may end early or miss changes silently, so callers must also list from time to time.
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
        for line in self.connection.lines(request, read_s=timeout_s + CONNECT_S, most_bytes=CHANGE_BYTES):
            if not line.endswith(b"\n"):
                raise self.connection.unreachable(request.what, ConnectionError("the response ends within an event"))
            try:
                event = checked(as_object(line), _Event)
            except ValueError as problem:
                raise self.connection.unreachable(
                    request.what, ConnectionError("a line of the response is not an event")
                ) from problem
            kind, changed = event["type"], event["object"]
            if kind == "ERROR":
                code = changed.get("code")
                raise error_of_response(request, code if isinstance(code, int) else 0, line)
            if kind != "BOOKMARK":
                yield kind, changed

    def log(
        self,
        pod: str,
        *,
        container: str,
        namespace: str | None = None,
        follow: bool = False,
        previous: bool = False,
        since_time: str | None = None,
        since_s: int | None = None,
        tail: int | None = None,
        read_timeout_s: float = READ_S,
    ) -> Iterator[bytes]:
        """Lines of a container's log with timestamps and newlines; a line without a newline was cut off.

        Raises: UnreachableError when the stream breaks or is silent for `read_timeout_s`. A normal end of the stream does not mean
        that the container has ended.
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
        return self.connection.lines(request, read_s=read_timeout_s, most_bytes=LOG_LINE_BYTES)

    def may(
        self, verb: str, resource: Resource, *, namespace: str | None = None, subresource: str = "", name: str = ""
    ) -> bool:
        """Whether this user has the permission."""
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
        return bool(
            self.connection.json(Request("POST", path, "check your permissions", {}, review))["status"]["allowed"]
        )

    def version(self) -> str:
        """Version of the server, such as `v1.34.1`."""
        return str(self.connection.json(Request("GET", "/version", "read the server's version"))["gitVersion"])

    def serves(self, resource: Resource) -> bool:
        """Whether the server serves this kind of object."""
        root = f"/apis/{resource.group_version}" if resource.group else f"/api/{resource.group_version}"
        try:
            known = (
                self.connection.json(Request("GET", root, f"list the kinds of {resource.group_version}")).get(
                    "resources"
                )
                or []
            )
        except NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in known)

    def first_served(self, versions: Sequence[Resource], read: Callable[[Resource], T]) -> T:
        """Result of `read` for the first version of a resource that the server serves.

        Raises: NotServedError when it serves none.
        """
        for version in versions[:-1]:
            with suppress(NotServedError):
                return read(version)
        return read(versions[-1])

    def server_time(self) -> datetime:
        """Time of the server's clock."""
        answer = self.connection.ask(Request("GET", "/version", "read the server's time"))
        return parsedate_to_datetime(answer.headers["Date"])

    def _pages(self, request: Request) -> Objects:
        items: Objects = []
        position, seen, budget = "", set[str](), ByteBudget()
        while True:
            page = self.connection.json(replace(request, query={**request.query, "continue": position}), budget)
            items += page.get("items") or []
            position = str((page.get("metadata") or {}).get("continue") or "")
            if not position:
                return items
            if position in seen or len(seen) - len(items) // PAGE > MOST_SHORT_PAGES or len(items) > LISTED_OBJECTS:
                raise RemoteError(
                    f"cannot {request.what}: the list of `{self.server}` does not end: {len(items):,} in {len(seen) + 1:,} pages",
                    hint="check the server of the kubeconfig, and proxies on the path",
                )
            seen.add(position)

    def _created_by(self, resource: Resource, name: str, namespace: str | None, manager: str) -> Object | None:
        """The object if this manager created it; an error here must not replace the error of the caller."""
        with suppress(RemoteError):
            existing = self.get(resource, name, namespace=namespace)
            if manager in {entry.get("manager") for entry in existing["metadata"].get("managedFields") or ()}:
                return existing
        return None


def open_cluster(target: Target) -> Cluster:
    """The cluster of the flags or the kubeconfig; inside a pod without a kubeconfig, the pod's own cluster.

    Raises: InputError when there is none or no such context, or for an invalid proxy; RemoteError when credentials can't be obtained.
    """
    user = login(target)
    return Cluster(Connection(user.namespace, user.server, user.context, user.http, user.authorization, user.proxy))


class _Event(TypedDict):
    type: str
    object: dict[str, Any]
