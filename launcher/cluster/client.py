"""Calls to the API server: get, list, create, patch, delete, watch and logs, as plain JSON."""

import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypedDict

from launcher.cluster.access import Target
from launcher.cluster.auth import login
from launcher.cluster.connection import CONNECT_S, READ_S, Connection, Request, Room, as_object, refused
from launcher.cluster.errors import ConflictError, GoneError, NotFoundError, ServerError, UnreachableError
from launcher.cluster.resources import PODS, Object, Resource
from trainer.errors import RemoteError
from trainer.formats.documents import checked
from trainer.limits import CHANGE_BYTES, LISTED_OBJECTS, LOG_LINE_BYTES

Objects = list[Object]

PAGE: Final = 500
"""Objects in one answer to a list. Source: what kubectl asks for."""

MOST_SHORT_PAGES: Final = 1000
"""Pages beyond those that the objects fill: a server may give some with less than it was asked for."""


@dataclass(frozen=True)
class Cluster:
    """One API server, one user, and the namespace of calls that name no other."""

    connection: Connection

    @property
    def namespace(self) -> str:
        """Namespace of calls that name no other."""
        return self.connection.namespace

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.connection.server

    def sleep(self, seconds: float) -> None:
        """Wait between two looks at the server."""
        self.connection.sleep(seconds)

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> Object:
        """One object. Raises: NotFoundError, ForbiddenError and other RemoteErrors, like all methods."""
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
            return self.connection.json(Request("POST", place, f"create {resource.kind} `{name}`", query, body))
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
        return self.connection.json(
            Request("PATCH", path, f"change {resource.kind} `{name}`", {}, body, "application/merge-patch+json")
        )

    def delete(
        self, resource: Resource, name: str, *, namespace: str | None = None, propagation: str = "Foreground"
    ) -> None:
        """Ask for an object's end; it is gone once `get` does not find it. Raises: NotFoundError when it is gone already."""
        path = resource.path(namespace or self.namespace, name)
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
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
        for line in self.connection.lines(request, read_s=timeout_s + CONNECT_S, most_bytes=CHANGE_BYTES):
            if not line.endswith(b"\n"):
                raise self.connection.unreachable(
                    request.what, ConnectionError("the answer ends in the middle of an event")
                )
            try:
                event = checked(as_object(line), _Event)
            except ValueError as problem:
                raise self.connection.unreachable(
                    request.what, ConnectionError("a line of the answer is not an event")
                ) from problem
            kind, changed = event["type"], event["object"]
            if kind == "ERROR":
                code = changed.get("code")
                raise refused(request, code if isinstance(code, int) else 0, line)
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
        return self.connection.lines(request, read_s=read_timeout_s, most_bytes=LOG_LINE_BYTES)

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
        return bool(self.connection.json(Request("POST", path, "ask what you may do", {}, review))["status"]["allowed"])

    def version(self) -> str:
        """The server's version, such as `v1.34.1`."""
        return str(self.connection.json(Request("GET", "/version", "ask for the server's version"))["gitVersion"])

    def serves(self, resource: Resource) -> bool:
        """Whether the server knows this kind of object."""
        root = f"/apis/{resource.group_version}" if resource.group else f"/api/{resource.group_version}"
        try:
            known = (
                self.connection.json(Request("GET", root, f"ask for the kinds of {resource.group_version}")).get(
                    "resources"
                )
                or []
            )
        except NotFoundError:
            return False
        return any(each["name"] == resource.plural for each in known)

    def server_time(self) -> datetime:
        """The server's clock."""
        answer = self.connection.ask(Request("GET", "/version", "ask for the server's time"))
        return parsedate_to_datetime(answer.headers["Date"])

    def _pages(self, request: Request) -> Objects:
        items: Objects = []
        position, seen, room = "", set[str](), Room()
        while True:
            page = self.connection.json(replace(request, query={**request.query, "continue": position}), room)
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


def open_cluster(target: Target) -> Cluster:
    """The cluster that the flags or the kubeconfig name; inside a pod without a kubeconfig, the pod's own.

    Raises: InputError when there is none, or no such context; RemoteError when credentials can't be had.
    """
    found = login(target)
    return Cluster(Connection(found.namespace, found.server, found.context, found.http, found.authorization))


class _Event(TypedDict):
    type: str
    object: dict[str, Any]
