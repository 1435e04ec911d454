"""Where the API server is, and who the user is there; the one module that loads the official Kubernetes client.

The client brings what is hard to get right: kubeconfig, credential plugins, TLS, proxies, accounts of pods. Its generated
classes are left out, because they take seconds to load and differ between its releases.
"""

import base64
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from launcher.cluster import kubeconfig
from launcher.cluster.access import Target
from trainer.errors import InputError, RemoteError, on_one_line
from trainer.redaction import is_one_word, learn_address, redacted, stripped, without_login

STREAMS: Final = 64
"""Connections that are kept open: following a log takes one a pod."""

OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Source: Kubernetes puts it into pods that have an account."""

SHOWN: Final = 300
"""Characters of what a credential plugin says."""


@dataclass(frozen=True)
class Login:
    """A server, a user, and the namespace that commands mean unless they say another."""

    namespace: str
    server: str

    context: str
    """Of the kubeconfig, empty inside a pod."""

    http: Any = field(repr=False)
    """urllib3's pool, with the client's TLS settings."""

    authorization: Callable[[], str | None] = field(repr=False)
    """The header of that name, renewed when it has expired; never shown. Raises: RemoteError when it can't be renewed."""


def login(target: Target) -> Login:
    """As the flags or the kubeconfig say; inside a pod that has none, as the pod's own account.

    Raises: InputError when there is no cluster, or no such context; RemoteError when credentials can't be had.
    """
    there = [path for path in kubeconfig.files(target.kubeconfig) if path.exists()]
    if there:
        return _by_kubeconfig(target, os.pathsep.join(map(str, there)))
    if OWN_NAMESPACE.exists() and not kubeconfig.are_named(target.kubeconfig):
        return _inside_pod(target)
    looked = ", ".join(f"`{path}`" for path in kubeconfig.files(target.kubeconfig))
    raise InputError(
        f"cannot find a cluster: there is no kubeconfig at {looked}", hint="--kubeconfig FILE, or KUBECONFIG=FILE"
    )


def _by_kubeconfig(target: Target, files: str) -> Login:
    context, namespace = kubeconfig.chosen(target.kubeconfig, target.context)
    configuration = _configuration()
    with _overhearing() as said:
        _load(files, context, configuration)
    if said and not (any(configuration.api_key.values()) or configuration.cert_file):
        raise _no_credentials(said, context)
    return _login(configuration, target.namespace or namespace or "default", context)


def _load(files: str, context: str, configuration: Any) -> None:  # noqa: ANN401 - the client ships no types
    """Raises: InputError; its message quotes no entry of the kubeconfig, for there are keys in them."""
    from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

    try:
        load_kube_config(config_file=files, context=context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        said = redacted(str(problem)).partition("{")[0].strip()
        reason = said if isinstance(problem, ConfigException) else "an entry is wrong"
        raise InputError(
            f"cannot use the context `{on_one_line(context)}`: {on_one_line(reason)}",
            hint=f"does `kubectl --context {context} get pods` work?",
        ) from None


def _inside_pod(target: Target) -> Login:
    from kubernetes.config import ConfigException, load_incluster_config  # noqa: PLC0415

    configuration = _configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as problem:
        raise InputError(
            f"cannot use the pod's own account: {on_one_line(str(problem))}",
            hint="--kubeconfig FILE, or KUBECONFIG=FILE",
        ) from problem
    return _login(configuration, target.namespace or OWN_NAMESPACE.read_text(encoding="utf-8").strip(), "")


def _configuration() -> Any:  # noqa: ANN401 - the client ships no types
    from kubernetes.client import Configuration  # noqa: PLC0415 - half a second, for commands that talk to a cluster

    return Configuration()


def _login(configuration: Any, namespace: str, context: str) -> Login:  # noqa: ANN401 - the client ships no types
    import urllib3  # noqa: PLC0415 - as above
    from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415

    configuration.connection_pool_maxsize = STREAMS
    if not configuration.verify_ssl:  # the kubeconfig says so; one warning a request helps nobody
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def authorization() -> str | None:
        with _overhearing() as said:
            settings = configuration.auth_settings().get("BearerToken")  # here the client renews what has expired
        if said:
            raise _no_credentials(said, context)
        return _header(str(settings["value"]), context) if settings else None

    _check_server(configuration, context)
    http = RESTClientObject(configuration).pool_manager
    return Login(namespace, configuration.host.rstrip("/"), context, http, authorization)


def _check_server(configuration: Any, context: str) -> None:  # noqa: ANN401 - the client ships no types
    """Raises: InputError for a server with a login in it, which nothing would use and every message would tell."""
    if "@" in configuration.host:
        raise InputError(
            f"cannot use the context `{on_one_line(context)}`: its server `{without_login(on_one_line(configuration.host))}` holds a login",
            hint="credentials go to the kubeconfig's `users`; `server` is https://HOST:PORT",
        )
    learn_address(str(configuration.proxy or ""))


def _header(value: str, context: str) -> str:
    """The header of a user: its token or password without the white space at its ends that files have, and learnt.

    Raises: InputError for what can stand in no header.
    """
    scheme, _, secret = value.partition(" ")
    secret = stripped(secret)
    if scheme == "Basic":
        secret = _password_stripped(secret)
    if not is_one_word(secret):
        raise InputError(
            f"cannot log in with the context `{on_one_line(context)}`: its token holds a line break, a space or a letter beyond ASCII",
            hint="copy the token again: `kubectl config view` shows in which entry it is",
        )
    return f"{scheme} {secret}"


def _password_stripped(encoded: str) -> str:
    """User and password of a Basic header, each without white space at its ends."""
    user, _, password = base64.b64decode(encoded).decode("latin-1").partition(":")
    login = f"{user.strip()}:{stripped(password)}"
    return stripped(base64.b64encode(login.encode("latin-1")).decode())


def _no_credentials(said: list[str], context: str) -> RemoteError:
    # On a terminal the plugin has written to it itself, and the client stumbles over that it has nothing to quote.
    reason = next((text for text in said if not text.startswith("'NoneType'")), "its credential plugin failed")
    return RemoteError(
        f"cannot log in with the context `{on_one_line(context)}`: {on_one_line(redacted(reason))[:SHOWN]}",
        hint=f"log in again; does `kubectl --context {context} get pods` work?",
    )


@contextmanager
def _overhearing() -> Iterator[list[str]]:
    """What the client logs meanwhile: it does not raise the failures of credential plugins."""
    listener = _Listener()
    root = logging.getLogger()
    root.addHandler(listener)
    try:
        yield listener.said
    finally:
        root.removeHandler(listener)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "kubernetes" in record.pathname:
            self.said.append(record.getMessage())
