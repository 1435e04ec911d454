"""Server address and credentials; the only module that loads the official Kubernetes client.

The client is used for kubeconfig, credential plugins, TLS, proxies and the service accounts of pods. Its generated classes
are not used, because they take seconds to load and differ between releases.
"""

import base64
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from launcher.cluster import kubeconfig
from launcher.cluster.access import Target
from launcher.cluster.credential_plugin import Plugin, check_terminal, logged_errors, login_error, plugin_of
from launcher.cluster.proxy import Proxy, find_proxy, through
from trainer.errors import InputError, KnownError, RemoteError, on_one_line
from trainer.redaction import is_one_word, redacted, stripped, without_login

STREAMS: Final = 64
"""Size of the connection pool: following a log needs one connection per pod."""

OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Source: Kubernetes mounts it into pods with a service account."""

_NULL: Final = "None"
"""The client's text for a token that is null."""


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
    plugin = plugin_of(kubeconfig.user_of([chosen.merged], context))
    check_terminal(plugin, context)
    configuration = _configuration()
    with logged_errors() as errors, _known_errors(context):
        _load(chosen.merged, context, configuration)
    if errors and (plugin or not (any(configuration.api_key.values()) or configuration.cert_file)):
        raise login_error(errors, plugin, context)
    _check_certificate(configuration, context)
    return _login(configuration, target.namespace or chosen.namespace or "default", context, plugin, chosen.proxy_url)


def _load(merged: kubeconfig.Document, context: str, configuration: Any) -> None:  # noqa: ANN401 - the client ships no types
    from kubernetes.config import load_kube_config_from_dict  # noqa: PLC0415

    load_kube_config_from_dict(merged, context=context, client_configuration=configuration, persist_config=False)


@contextmanager
def _known_errors(context: str) -> Iterator[None]:
    """Errors of the client when it reads or renews credentials.

    Raises: InputError; its message quotes no entry of the kubeconfig, as entries hold keys. RemoteError when an identity
    provider does not answer.
    """
    from kubernetes.config import ConfigException  # noqa: PLC0415
    from oauthlib.oauth2 import OAuth2Error  # noqa: PLC0415 - the client loads it
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - as above

    user = f"the context `{on_one_line(context)}`" if context else "the pod's service account"
    hint = f"does `kubectl{f' --context {context}' if context else ''} get pods` work?"
    try:
        yield
    except KnownError:
        raise
    except (HTTPError, OAuth2Error) as problem:
        reason = f"its identity provider gives no token: {type(problem).__name__}"
        raise RemoteError(f"cannot log in with {user}: {reason}", hint=hint) from None
    except (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise InputError(f"cannot use {user}: {_why_unusable(problem)}", hint=hint) from None


def _why_unusable(problem: Exception) -> str:
    """The reason without entries of the kubeconfig and arguments of programs, which may hold secrets."""
    from kubernetes.config import ConfigException  # noqa: PLC0415

    if isinstance(problem, ConfigException):
        return on_one_line(redacted(str(problem)).partition("{")[0].partition("\n")[0].strip())
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"`{on_one_line(str(problem.filename))}`: {str(problem.strerror).lower()}"
    if isinstance(problem, UnicodeEncodeError):
        return "its user or password contains a character that no HTTP header can carry"
    return "an entry is invalid"


def _check_certificate(configuration: Any, context: str) -> None:  # noqa: ANN401 - the client ships no types
    """Raises: InputError for a client certificate or key that is not PEM, or does not fit the other; or has a passphrase."""
    if not configuration.cert_file or not str(configuration.host).startswith("https"):
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            configuration.cert_file, configuration.key_file, password=lambda: b""
        )
    except (OSError, ValueError) as problem:
        raise InputError(
            f"cannot use the context `{on_one_line(context)}`: its client certificate and key are not a pair in PEM without a passphrase",
            hint=f"log in again; does `kubectl --context {context} get pods` work?",
        ) from problem


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


def _login(
    configuration: Any,  # noqa: ANN401 - the client ships no types
    namespace: str,
    context: str,
    plugin: Plugin | None = None,
    proxy_url: str = "",
) -> Login:
    import urllib3  # noqa: PLC0415 - as above
    from kubernetes.client.rest import RESTClientObject  # noqa: PLC0415

    configuration.connection_pool_maxsize = STREAMS
    if not configuration.verify_ssl:  # the kubeconfig disables it; a warning for each request would only be noise
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def authorization() -> str | None:
        with logged_errors() as errors, _known_errors(context):
            settings = configuration.auth_settings().get("BearerToken")  # renews an expired token
        if errors:
            raise login_error(errors, plugin, context)
        return _header(str(settings["value"]), context, plugin) if settings else None

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


def _header(value: str, context: str, plugin: Plugin | None) -> str:
    """The Authorization header, registered for redaction; white space around the secret, as files have, is removed.

    Raises: InputError for a blank secret, or one that is not valid in a header.
    """
    scheme, _, secret = value.partition(" ")
    secret = stripped(secret)
    if scheme == "Basic":
        secret = _password_stripped(secret)
    problem = None if secret and secret != _NULL else "is blank"
    if not is_one_word(secret):
        problem = "contains a line break, a space or a non-ASCII character"
    if problem:
        raise InputError(
            f"cannot log in with the context `{on_one_line(context)}`: its token {problem}{f' (from {plugin.name})' if plugin else ''}",
            hint="log in again" if plugin else "copy the token again: `kubectl config view` shows its entry",
        )
    return f"{scheme} {secret}"


def _password_stripped(encoded: str) -> str:
    """Credentials of a Basic header without white space around user and password."""
    user, _, password = base64.b64decode(encoded).decode("latin-1").partition(":")
    login = f"{user.strip()}:{stripped(password)}"
    return stripped(base64.b64encode(login.encode("latin-1")).decode())
