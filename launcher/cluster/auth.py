"""Server address and credentials; the only module that loads the official Kubernetes client.

The client is used for kubeconfig, credential plugins, TLS, proxies and the service accounts of pods. Its generated classes
are not used, because they take seconds to load and differ between releases.
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
from launcher.cluster.proxy import Proxy, find_proxy, through
from trainer.errors import InputError, RemoteError, on_one_line
from trainer.redaction import is_one_word, redacted, stripped, without_login

STREAMS: Final = 64
"""Size of the connection pool: following a log needs one connection per pod."""

OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Source: Kubernetes mounts it into pods with a service account."""

SHOWN: Final = 300
"""Characters of a credential plugin's message that are shown."""


@dataclass(frozen=True)
class Login:
    """A server, the credentials of a user, and the default namespace."""

    namespace: str
    server: str

    context: str
    """Context of the kubeconfig, empty inside a pod."""

    http: Any = field(repr=False)
    """urllib3's pool, with the client's TLS settings."""

    authorization: Callable[[], str | None] = field(repr=False)
    """Returns the Authorization header, renewed after expiry; never shown. Raises: RemoteError when it can't be renewed."""

    proxy: Proxy | None = None
    """The proxy between this machine and the server."""


def login(target: Target) -> Login:
    """Log in with the flags or the kubeconfig; inside a pod without a kubeconfig, with its service account.

    Raises: InputError when there is no cluster or no such context; RemoteError when credentials can't be obtained.
    """
    if any(path.exists() for path in kubeconfig.files(target.kubeconfig)):
        return _from_kubeconfig(target)
    if OWN_NAMESPACE.exists() and not kubeconfig.are_named(target.kubeconfig):
        return _inside_pod(target)
    searched = ", ".join(f"`{path}`" for path in kubeconfig.files(target.kubeconfig)) or "KUBECONFIG"
    raise InputError(
        f"cannot find a cluster: there is no kubeconfig at {searched}", hint="--kubeconfig FILE, or KUBECONFIG=FILE"
    )


def _from_kubeconfig(target: Target) -> Login:
    chosen = kubeconfig.chosen(target.kubeconfig, target.context)
    context = chosen.context
    configuration = _configuration()
    with _logged_errors() as errors:
        _load(chosen.merged, context, configuration)
    if errors and not (any(configuration.api_key.values()) or configuration.cert_file):
        raise _no_credentials(errors, context)
    return _login(configuration, target.namespace or chosen.namespace or "default", context, chosen.proxy_url)


def _load(merged: kubeconfig.Document, context: str, configuration: Any) -> None:  # noqa: ANN401 - the client ships no types
    """Raises: InputError; its message quotes no entry of the kubeconfig, as entries hold keys."""
    from kubernetes.config import ConfigException, load_kube_config_from_dict  # noqa: PLC0415

    try:
        load_kube_config_from_dict(merged, context=context, client_configuration=configuration, persist_config=False)
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        text = redacted(str(problem)).partition("{")[0].strip()
        reason = text if isinstance(problem, ConfigException) else "an entry is invalid"
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
            f"cannot use the pod's service account: {on_one_line(str(problem))}",
            hint="--kubeconfig FILE, or KUBECONFIG=FILE",
        ) from problem
    return _login(configuration, target.namespace or OWN_NAMESPACE.read_text(encoding="utf-8").strip(), "")


def _configuration() -> Any:  # noqa: ANN401 - the client ships no types
    from kubernetes.client import Configuration  # noqa: PLC0415 - takes half a second to load

    return Configuration()


def _login(configuration: Any, namespace: str, context: str, proxy_url: str = "") -> Login:  # noqa: ANN401 - the client ships no types
    import urllib3  # noqa: PLC0415 - as above
    from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415

    configuration.connection_pool_maxsize = STREAMS
    if not configuration.verify_ssl:  # the kubeconfig disables it; a warning for each request would only be noise
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def authorization() -> str | None:
        with _logged_errors() as errors:
            settings = configuration.auth_settings().get("BearerToken")  # renews an expired token
        if errors:
            raise _no_credentials(errors, context)
        return _header(str(settings["value"]), context) if settings else None

    _check_server(configuration, context)
    server = configuration.host.rstrip("/")
    proxy = find_proxy(server, proxy_url, os.environ)
    configuration.proxy = None  # the client reads the variables otherwise than kubectl does
    direct = RESTClientObject(configuration).pool_manager
    return Login(namespace, server, context, through(proxy, direct) if proxy else direct, authorization, proxy)


def _check_server(configuration: Any, context: str) -> None:  # noqa: ANN401 - the client ships no types
    """Raises: InputError for a server URL with a login: it would not be used, but would appear in messages."""
    if "@" in configuration.host:
        raise InputError(
            f"cannot use the context `{on_one_line(context)}`: its server `{without_login(on_one_line(configuration.host))}` contains a login",
            hint="put credentials into the kubeconfig's `users`; `server` is https://HOST:PORT",
        )


def _header(value: str, context: str) -> str:
    """The Authorization header, registered for redaction; white space around the secret, as files have, is removed.

    Raises: InputError for a secret that is not valid in a header.
    """
    scheme, _, secret = value.partition(" ")
    secret = stripped(secret)
    if scheme == "Basic":
        secret = _password_stripped(secret)
    if not is_one_word(secret):
        raise InputError(
            f"cannot log in with the context `{on_one_line(context)}`: its token contains a line break, a space or a non-ASCII character",
            hint="copy the token again: `kubectl config view` shows its entry",
        )
    return f"{scheme} {secret}"


def _password_stripped(encoded: str) -> str:
    """Credentials of a Basic header without white space around user and password."""
    user, _, password = base64.b64decode(encoded).decode("latin-1").partition(":")
    login = f"{user.strip()}:{stripped(password)}"
    return stripped(base64.b64encode(login.encode("latin-1")).decode())


def _no_credentials(errors: list[str], context: str) -> RemoteError:
    # On a terminal, the plugin writes its message there itself; the client then fails on the missing text with 'NoneType'.
    reason = next((text for text in errors if not text.startswith("'NoneType'")), "its credential plugin failed")
    return RemoteError(
        f"cannot log in with the context `{on_one_line(context)}`: {on_one_line(redacted(reason))[:SHOWN]}",
        hint=f"log in again; does `kubectl --context {context} get pods` work?",
    )


@contextmanager
def _logged_errors() -> Iterator[list[str]]:
    """Errors that the client logs in this block: it does not raise the failures of credential plugins."""
    handler = _ErrorCollector()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.errors
    finally:
        root.removeHandler(handler)


class _ErrorCollector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "kubernetes" in record.pathname:
            self.errors.append(record.getMessage())
