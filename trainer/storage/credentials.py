"""botocore's credentials, stripped of surrounding white space and registered with `trainer.redaction`.

botocore reads variables, files, profiles and services itself and sends the values unchanged. A token that ends with a
line break would then appear in an error message.
"""

import getpass
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from trainer.errors import InputError, on_one_line
from trainer.limits import CERTIFICATE_BYTES, CREDENTIAL_BYTES, in_words, read_at_most
from trainer.redaction import is_one_word, learn, stripped
from trainer.storage.credential_sources import ROLE_BY_TOKEN, Source, source_errors, source_of
from trainer.storage.files import open_regular

TOKEN_FILE: Final = "AWS_WEB_IDENTITY_TOKEN_FILE"  # noqa: S105 - a variable's name

CONTAINER_TOKEN_FILE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - as above

CREDENTIAL_FILES: Final = {
    "AWS_CONFIG_FILE": CREDENTIAL_BYTES,
    "AWS_SHARED_CREDENTIALS_FILE": CREDENTIAL_BYTES,
    TOKEN_FILE: CREDENTIAL_BYTES,
    CONTAINER_TOKEN_FILE: CREDENTIAL_BYTES,
    "AWS_CA_BUNDLE": CERTIFICATE_BYTES,
}
"""Variables with the names of files that botocore reads, and the size limit of each file."""

KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")

TERMINAL: Final = "/dev/tty"

VARIABLES: Final = (
    *KEYS,
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
"""Variables from which botocore takes credentials, white space included."""

_PARTS: Final = {"access_key": "access key", "secret_key": "secret key", "token": "session token"}


def check_files() -> None:
    """Raises: InputError for a pipe, a device or an oversized file, which botocore would read without end or into memory."""
    for name, most_bytes in CREDENTIAL_FILES.items():
        path = os.environ.get(name, "")
        try:
            status = Path(path).expanduser().stat()
        except (OSError, ValueError, RuntimeError):  # botocore reports it, or does not need the file
            continue
        is_null = path == os.devnull
        if stat.S_ISDIR(status.st_mode) or is_null:  # a directory of certificates, or an empty configuration
            continue
        problem = None if stat.S_ISREG(status.st_mode) else "it is not a regular file"
        if status.st_size > most_bytes:
            problem = f"it has more than {in_words(most_bytes)}"
        if problem:
            raise InputError(f"cannot use S3: {problem}, got `{on_one_line(path)}` (from {name})")


def prepare_credentials(session: Any) -> None:  # noqa: ANN401 - botocore has no types
    """Load the session's credentials, if there are any. Each use strips and checks them, and registers them for redaction.

    Raises: CredentialSourceError for a source that fails, and for a blank key or one that no HTTP header can carry;
    botocore's errors.
    """
    from botocore.credentials import DeferredRefreshableCredentials  # noqa: PLC0415 - importing takes 0.25 s

    _strip_variables()
    for name in (TOKEN_FILE, CONTAINER_TOKEN_FILE):
        with suppress(OSError, ValueError):
            learn(_text_of(os.environ.get(name, "")))
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD == ROLE_BY_TOKEN and hasattr(provider, "_token_loader_cls"):
            provider._token_loader_cls = _TokenFile  # noqa: SLF001 - the session makes the provider itself
        if hasattr(provider, "_prompter"):
            provider._prompter = _mfa_code  # noqa: SLF001 - as above
        provider.load = _named(provider.load, source_of(session, provider.METHOD))
    credentials = session.get_credentials()
    if credentials is None:
        return
    credentials.get_frozen_credentials = _checked(
        credentials.get_frozen_credentials, source_of(session, credentials.method)
    )
    if not isinstance(credentials, DeferredRefreshableCredentials):  # those are fetched by the first request
        credentials.get_frozen_credentials()


def _strip_variables() -> None:
    """Remove white space around credentials in variables. Raises: CredentialSourceError for a key of white space only."""
    for name in VARIABLES:
        value = os.environ.get(name, "")
        if value != value.strip():
            if not value.strip() and name in KEYS:
                raise Source("env", "").refusal(f"{name} is blank")
            os.environ[name] = stripped(value)


def _mfa_code(prompt: str) -> str:
    """A code typed by the user. Raises: EOFError without a terminal, on which `getpass` would print warnings."""
    try:
        os.close(os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise EOFError from None
    return getpass.getpass(prompt)


def _named(load: Callable[[], Any], source: Source) -> Callable[[], Any]:
    def load_named() -> Any:  # noqa: ANN401 - as above
        with source_errors(source):
            return load()

    return load_named


def _checked(get: Callable[[], Any], source: Source) -> Callable[[], Any]:
    """The function that returns the credentials for a request, which also renews them; its result stripped and checked."""

    def get_checked() -> Any:  # noqa: ANN401 - as above
        with source_errors(source):
            frozen = get()
        return frozen._replace(**{part: _part(getattr(frozen, part), part, source) for part in _PARTS})

    return get_checked


def _part(value: object, part: str, source: Source) -> str | None:
    """A stripped key or token; None without a token. Raises: CredentialSourceError."""
    text = value.strip() if isinstance(value, str) else ""
    if not text and part == "token" and (value is None or isinstance(value, str)):
        return None
    problem = None if text else "is blank" if value is None or isinstance(value, str) else "is not text"
    if not is_one_word(text):
        problem = "contains a line break, a space or a non-ASCII character"
    if problem:
        raise source.refusal(f"the {_PARTS[part]} {problem}")
    if part != "access_key":  # it is a name
        learn(text)
    return text


class _TokenFile:
    """Reader of a token file with the interface that botocore expects."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> str:
        return stripped(_text_of(self._path))


def _text_of(path: str) -> str:
    """Raises: OSError, ValueError."""
    with open_regular(Path(path)) as file:
        return read_at_most(file, CREDENTIAL_BYTES).decode()
