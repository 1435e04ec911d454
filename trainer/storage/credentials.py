"""botocore's credentials, stripped of surrounding white space and registered with `trainer.redaction`.

botocore reads variables, files, profiles and services itself and sends the values unchanged. A token that ends with a
line break would then appear in an error message.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from trainer.errors import InputError, on_one_line
from trainer.limits import CERTIFICATE_BYTES, CREDENTIAL_BYTES, in_words, read_at_most
from trainer.redaction import HIDDEN, is_one_word, learn, stripped, without_login
from trainer.storage.files import open_regular
from trainer.storage.interface import CredentialsError

ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

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

VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
"""Variables from which botocore takes credentials, white space included."""

_ROLE_BY_TOKEN: Final = "assume-role-with-web-identity"  # noqa: S105 - botocore's name of a method

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


def check_endpoint(*urls: str) -> None:
    """Raises: InputError for an endpoint that contains a login, as every error message about the endpoint would show it."""
    for url in urls:
        if "@" in url and "://" in url:
            host = without_login(url).partition(f"{HIDDEN}@")[2].partition("/")[0]
            raise InputError(
                f"cannot use S3: the endpoint at `{host}` contains a login (from AWS_ENDPOINT_URL)",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead",
            )


def prepared(session: Any) -> Any:  # noqa: ANN401 - botocore has no types
    """The session's credentials, stripped; None without any. Tokens that a service issues later are stripped when read.

    Raises: CredentialsError for a key or token with a line break, a space or a non-ASCII character; botocore's errors.
    """
    for name in VARIABLES:
        if name in os.environ and os.environ[name] != os.environ[name].strip():
            os.environ[name] = stripped(os.environ[name])
    _strip_token_files(session)
    for name in (TOKEN_FILE, CONTAINER_TOKEN_FILE):
        with suppress(OSError, ValueError):
            learn(_text_of(os.environ.get(name, "")))
    credentials = session.get_credentials()
    # Credentials of a role or a service are fetched on use and renewed; they have no white space to strip.
    if type(credentials).__name__ == "Credentials":
        _strip(credentials)
    return credentials


def redact_sent_credentials(client: Any, credentials: Any) -> None:  # noqa: ANN401 - as above
    """Register the key and token of every request of this client for redaction, also after they are renewed."""

    def learn_current(**_: object) -> None:
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            learn(frozen.secret_key, frozen.token)

    client.meta.events.register("before-send.s3", learn_current)


def _strip(credentials: Any) -> None:  # noqa: ANN401 - as above
    for part, words in _PARTS.items():
        value = getattr(credentials, part)
        if not value:
            continue
        value = value.strip() if part == "access_key" else stripped(value)
        if not is_one_word(value):
            raise CredentialsError(
                f"cannot use S3: the {words} contains a line break, a space or a non-ASCII character (from {_origin(credentials)})",
                hint="copy it again: it has only ASCII characters and no spaces",
            )
        setattr(credentials, part, value)


def _origin(credentials: Any) -> str:  # noqa: ANN401 - as above
    """Source of the credentials: the environment, or botocore's name of it."""
    return (
        "AWS_ACCESS_KEY_ID or a similar variable"
        if credentials.method == "env"
        else f"botocore's `{credentials.method}`"
    )


def _strip_token_files(session: Any) -> None:  # noqa: ANN401 - as above
    """Make botocore strip the token files of service accounts."""
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD == _ROLE_BY_TOKEN and hasattr(provider, "_token_loader_cls"):
            provider._token_loader_cls = _TokenFile  # noqa: SLF001 - the session makes the provider itself


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
