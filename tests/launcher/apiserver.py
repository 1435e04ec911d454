"""An API server double over real HTTP: a store behind Kubernetes' URLs, and faults that a real server can't be made to show."""

import io
import itertools
import json
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from launcher.cluster.resources import (
    BATCH_JOBS,
    CLAIMS,
    CLUSTER_RUNTIMES,
    CONFIG_MAPS,
    CSI_DRIVERS,
    CSI_NODES,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    EVENTS,
    JOB_SETS,
    LOCAL_QUEUES,
    NAMESPACES,
    NODES,
    PENDING_WORKLOADS,
    PODS,
    PRIORITY_CLASSES,
    PYTORCH_JOBS,
    QUEUE_LABEL,
    QUEUE_PRIORITIES,
    QUOTAS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    RUNTIMES,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    TRAIN_JOBS,
    VOLUMES,
    WEBHOOKS,
    WORKLOADS,
    Resource,
)

SERVED = (
    *(
        PYTORCH_JOBS,
        BATCH_JOBS,
        CONFIG_MAPS,
        PODS,
        SERVICES,
        EVENTS,
        CLAIMS,
        VOLUMES,
        NODES,
        SECRETS,
        SERVICE_ACCOUNTS,
        QUOTAS,
        DEPLOYMENTS,
    ),
    *(CSI_DRIVERS, CSI_NODES, PRIORITY_CLASSES, WEBHOOKS),
    NAMESPACES,
)

OF_TRAINER = (TRAIN_JOBS, RUNTIMES, CLUSTER_RUNTIMES, JOB_SETS, BATCH_JOBS)
"""Served after `serve_trainer`."""

OF_KUEUE = (*LOCAL_QUEUES, *WORKLOADS, *QUEUE_PRIORITIES, *PENDING_WORKLOADS)
"""Served where a test adds their version to `State.served`, as `serve_kueue` does."""

OF_DRA = (DEVICE_CLASSES, RESOURCE_SLICES, RESOURCE_CLAIMS)
"""Served likewise, as by Kubernetes 1.34 and later."""


@dataclass
class Fault:
    """What happens to the next requests that match."""

    method: str
    path: str
    """Part of the path."""

    act: Callable[["Handler"], None]
    times: int = 1
    query: str = ""
    """Part of the query."""


@dataclass
class State:
    """Objects by path, what was asked, and faults to come."""

    objects: dict[str, dict] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    """As whom each request was made."""

    agents: list[str] = field(default_factory=list)
    """By which program."""

    faults: deque[Fault] = field(default_factory=deque)
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Verb and plural."""

    versions: itertools.count = field(default_factory=lambda: itertools.count(1))
    lock: threading.Lock = field(default_factory=threading.Lock)
    served: set[str] = field(default_factory=lambda: {resource.group_version for resource in SERVED})
    held: set[str] = field(default_factory=set)
    """Plurals of the jobs that Kueue manages: those with a queue are suspended when they are created."""

    changes: list[tuple[int, str, str, dict]] = field(default_factory=list)
    """Version, type, path and object of each change."""

    def serve_trainer(self) -> None:
        """Serve the kinds of Kubeflow Trainer and JobSet."""
        self.served |= {resource.group_version for resource in OF_TRAINER}

    def serve_kueue(self, *held: Resource, version: str = "v1beta2") -> None:
        """Serve the kinds of Kueue, which manages these kinds of jobs."""
        self.served |= {each.group_version for each in OF_KUEUE if each.group_version.endswith(version)}
        self.held = {each.plural for each in held}

    def put(self, path: str, body: dict, kind: str = "MODIFIED") -> dict:
        """Store an object as a controller would."""
        metadata = body.setdefault("metadata", {})
        version = next(self.versions)
        metadata |= {"resourceVersion": str(version)}
        metadata.setdefault("uid", f"uid-{version}")
        metadata.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.objects[path] = body
        self.changes.append((version, kind, path, json.loads(json.dumps(body))))
        return body

    def remove(self, path: str) -> None:
        """As when the garbage collector has done its work, on the objects that this one owns, too."""
        body = self.objects.pop(path)
        self.changes.append((next(self.versions), "DELETED", path, body))
        for each in [each for each, other in self.objects.items() if _is_owned(other, body)]:
            self.remove(each)

    def fail(self, method: str, path: str, status: int, message: str = "", times: int = 1, **headers: str) -> None:
        """Answer with an error of the API."""

        def answer(handler: "Handler") -> None:
            handler.refuse(status, message, headers=headers)

        self.faults.append(Fault(method, path, answer, times))

    def asked(self, method: str) -> list[str]:
        """Paths that were asked for with this method."""
        return [path for each, path, _ in self.requests if each == method]


def _is_owned(body: dict, owner: dict) -> bool:
    uid = owner["metadata"].get("uid")
    return any(uid and each.get("uid") == uid for each in body["metadata"].get("ownerReferences", []))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    state: State

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def _serve(self) -> None:
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else None
        with self.state.lock:
            self.state.requests.append((self.command, url.path, query))
            self.state.authorizations.append(self.headers.get("Authorization"))
            self.state.agents.append(self.headers.get("User-Agent", ""))
            fault = next(
                (
                    f
                    for f in self.state.faults
                    if f.method == self.command and f.path in url.path and f.query in url.query
                ),
                None,
            )
            if fault:
                fault.times -= 1
                if not fault.times:
                    self.state.faults.remove(fault)
        if fault:
            fault.act(self)
        else:
            self.serve()

    def serve(self) -> None:
        """Do what is asked, and answer."""
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self._route(url.path, query, self.body)

    def _route(self, path: str, query: dict[str, str], body: dict | None) -> None:
        if path == "/version":
            self.answer({"gitVersion": "v1.34.0"})
        elif path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.state.forbidden
            self.answer(body | {"status": {"allowed": allowed}}, 201)
        elif group := next(
            (
                each
                for each in (*SERVED, *OF_TRAINER, *OF_KUEUE)
                if path in {f"/apis/{each.group_version}", f"/api/{each.group_version}"}
            ),
            None,
        ):
            if group.group_version in self.state.served:
                names = [
                    each.plural
                    for each in (*SERVED, *OF_TRAINER, *OF_KUEUE)
                    if each.group_version == group.group_version
                ]
                self.answer({"resources": [{"name": name} for name in names]})
            else:
                self.refuse(404, "page not found", plain=True)
        else:
            self._resource(path, query, body)

    def _resource(self, path: str, query: dict[str, str], body: dict | None) -> None:
        resource = next((each for each in (*SERVED, *OF_TRAINER, *OF_KUEUE, *OF_DRA) if _is_at(each, path)), None)
        if resource is None or resource.group_version not in self.state.served:
            self.refuse(404, "404 page not found", plain=True)
            return
        collection = path.endswith(f"/{resource.plural}")
        verb = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}.get(
            self.command, "list" if collection else "get"
        )
        if (verb, resource.plural) in self.state.forbidden:
            self.refuse(403, f'{resource.plural} is forbidden: User "u" cannot {verb} resource "{resource.plural}"')
        elif self.command == "POST":
            self._create(path, query, body)
        elif collection and query.get("watch"):
            self._watch(path, query)
        elif collection:
            self._list(path, query)
        elif path not in self.state.objects:
            self.refuse(404, f'{resource.plural} "{path.rpartition("/")[2]}" not found')
        elif self.command == "DELETE" and self._is_another(path, body or {}):
            self.refuse(409, "Precondition failed: UID in precondition does not match UID in object meta")
        elif self.command == "DELETE":
            with self.state.lock:
                self.state.remove(path)
            self.answer({"kind": "Status", "status": "Success"})
        elif self.command == "PATCH":
            self.answer(self.state.put(path, _merged(self.state.objects[path], body)))
        else:
            self.answer(self.state.objects[path])

    def _is_another(self, path: str, options: dict) -> bool:
        uid = (options.get("preconditions") or {}).get("uid")
        return uid is not None and uid != self.state.objects[path]["metadata"].get("uid")

    def _create(self, path: str, query: dict[str, str], body: dict) -> None:
        name = f"{path}/{body['metadata']['name']}"
        if path.rpartition("/")[2] in self.state.held and QUEUE_LABEL in (body["metadata"].get("labels") or {}):
            policy = body["spec"].setdefault("runPolicy", {}) if path.endswith(PYTORCH_JOBS.plural) else body["spec"]
            policy["suspend"] = True
        with self.state.lock:
            if name in self.state.objects:
                self.refuse(409, f'"{body["metadata"]["name"]}" already exists')
            elif query.get("dryRun"):
                self.answer(body, 201)
            else:
                body["metadata"]["managedFields"] = [{"manager": query.get("fieldManager", "unknown")}]
                self.answer(self.state.put(name, body, "ADDED"), 201)

    def _matching(self, path: str, query: dict[str, str]) -> list[dict]:
        parent, _, plural = path.rpartition("/")
        wanted = dict(pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if "=" in pair)
        required = {part for part in query.get("labelSelector", "").split(",") if part and "=" not in part}
        found = []
        for place, body in self.state.objects.items():
            folder = place.rpartition("/")[0]
            labels = body["metadata"].get("labels") or {}
            if (
                folder.endswith(f"/{plural}")
                and folder.startswith(parent)
                and wanted.items() <= labels.items()
                and required <= labels.keys()
                and _has_fields(body, query.get("fieldSelector", ""))
            ):
                found.append(body)
        return found

    def _list(self, path: str, query: dict[str, str]) -> None:
        items = self._matching(path, query)
        start, limit = int(query.get("continue", 0)), int(query.get("limit", 500))
        left = str(start + limit) if start + limit < len(items) else ""
        self.answer({"metadata": {"resourceVersion": "1", "continue": left}, "items": items[start : start + limit]})

    def _watch(self, path: str, query: dict[str, str]) -> None:
        since, end = int(query.get("resourceVersion") or 0), time.monotonic() + float(query["timeoutSeconds"])
        name = query.get("fieldSelector", "").rpartition("=")[2]
        self.begin_stream()
        while time.monotonic() < end:
            for version, kind, place, body in list(self.state.changes):
                if version > since and place == f"{path}/{name}":
                    self.chunk(json.dumps({"type": kind, "object": body}).encode() + b"\n")
                    since = version
            time.sleep(0.02)
        self.chunk(b"")

    def begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """One piece of a stream; an empty one ends it."""
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def answer(self, body: dict, status: int = 200) -> None:
        self._send(status, json.dumps(body).encode(), {})

    def refuse(self, status: int, message: str, *, plain: bool = False, headers: dict[str, str] | None = None) -> None:
        body = {"kind": "Status", "code": status, "message": message, "details": {"name": "x"}}
        content = message.encode() if plain else json.dumps(body).encode()
        self._send(status, content, {name.replace("_", "-"): value for name, value in (headers or {}).items()})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(content))} | headers
        ).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        """Break the connection."""
        self.close_connection = True
        self.connection.close()

    def do_silently(self) -> None:
        """Do what is asked, and do not answer."""
        answers, self.wfile = self.wfile, io.BytesIO()
        self.serve()
        self.wfile = answers

    def do_and_reset(self) -> None:
        """Do what is asked, and break the connection before the answer."""
        self.do_silently()
        self.reset()

    def do_and_refuse(self, status: int, message: str) -> None:
        """Do what is asked, and say that it failed."""
        self.do_silently()
        self.refuse(status, message)


def _is_at(resource: Resource, path: str) -> bool:
    """Whether the path is that of a resource's collection, of an object of it, or of something below one."""
    place = path.removeprefix("/apis" if resource.group else "/api").removeprefix(f"/{resource.group_version}/")
    parts = place.split("/")
    return not place.startswith("/") and resource.plural == (
        parts[2] if resource.namespaced and len(parts) > 2 else parts[0]
    )


def _merged(body: dict, patch: dict) -> dict:
    """A JSON merge patch."""
    merged = {key: value for key, value in body.items() if patch.get(key, ...) is not None}
    for key, value in patch.items():
        if value is not None:
            merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged


def _has_fields(body: dict, selector: str) -> bool:
    """Whether an object is what a field selector asks for, such as `metadata.name=a,status.phase!=Failed`."""
    for part in filter(None, selector.split(",")):
        path, equal, value = part.partition("!=") if "!=" in part else part.partition("=")
        found = body
        for key in path.split("."):
            found = found.get(key, "") if isinstance(found, dict) else ""
        if (found == value) == (equal == "!="):
            return False
    return True


class ApiServer:
    """The double, serving from a thread until it is stopped."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.state = State()
        handler = type("BoundHandler", (Handler,), {"state": self.state})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that goes away in mid-stream is part of the test
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host, port = self._server.server_address[:2]
        return f"{self._scheme}://{host}:{port}"

    def kubeconfig(self, path: Path, user: dict | None = None, **server: object) -> Path:
        """Write a kubeconfig that names it."""
        user = {"token": "token-of-the-test"} if user is None else user
        context = {"cluster": "c", "user": "u", "namespace": "team-a"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": self.url} | server}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "here", "context": context}, {"name": "other", "context": context}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
