"""botocore's credentials, stripped of white space at their ends and known to `trainer.redaction`.

botocore reads variables, files, profiles and services itself and sends the values unchanged: a token that ends with a line break
would then be quoted in an error.
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
"""Variables that name files which botocore reads, and how long these may be."""

VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
)
"""Variables from which botocore takes credentials, white space included."""

_ROLE_BY_TOKEN: Final = "assume-role-with-web-identity"  # noqa: S105 - botocore's name of a way

_PARTS: Final = {"access_key": "access key", "secret_key": "secret key", "token": "session token"}


def check_files() -> None:
    """Raises: InputError for what botocore would read for ever, or into all memory: a pipe, a device, a file of gigabytes."""
    for name, most_bytes in CREDENTIAL_FILES.items():
        path = os.environ.get(name, "")
        try:
            found = Path(path).expanduser().stat()
        except (OSError, ValueError, RuntimeError):  # botocore tells of it, or needs none
            continue
        is_nothing = path == os.devnull
        if stat.S_ISDIR(found.st_mode) or is_nothing:  # a directory of certificates; no configuration
            continue
        problem = None if stat.S_ISREG(found.st_mode) else "it is no regular file"
        if found.st_size > most_bytes:
            problem = f"it has more than {in_words(most_bytes)}"
        if problem:
            raise InputError(f"cannot use S3: {problem}, got `{on_one_line(path)}` (from {name})")


def check_endpoint(*urls: str) -> None:
    """Raises: InputError for an endpoint with a login: every message about the endpoint would show it."""
    for url in urls:
        if "@" in url and "://" in url:
            host = without_login(url).partition(f"{HIDDEN}@")[2].partition("/")[0]
            raise InputError(
                f"cannot use S3: the endpoint at `{host}` holds a login (from AWS_ENDPOINT_URL)",
                hint="credentials go to AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            )


def prepared(session: Any) -> Any:  # noqa: ANN401 - botocore has no types
    """The session's credentials, stripped; None without any. Those that a service gives later are stripped when they come.

    Raises: CredentialsError for a key or token with a line break, a space or a letter beyond ASCII in it; what botocore raises.
    """
    for name in VARIABLES:
        if name in os.environ and os.environ[name] != os.environ[name].strip():
            os.environ[name] = stripped(os.environ[name])
    _strip_token_files(session)
    for name in (TOKEN_FILE, CONTAINER_TOKEN_FILE):
        with suppress(OSError, ValueError):
            learn(_text_of(os.environ.get(name, "")))
    credentials = session.get_credentials()
    # Those of a role or a service are fetched on use and renewed: no white space there.
    if type(credentials).__name__ == "Credentials":
        _strip(credentials)
    return credentials


def learn_what_is_sent(client: Any, credentials: Any) -> None:  # noqa: ANN401 - as above
    """Learn the keys and the token of every request of this client, also after they are renewed."""

    def learn_them(**_: object) -> None:
        if credentials is not None:
            frozen = credentials.get_frozen_credentials()
            learn(frozen.secret_key, frozen.token)

    client.meta.events.register("before-send.s3", learn_them)


def _strip(credentials: Any) -> None:  # noqa: ANN401 - as above
    for part, words in _PARTS.items():
        value = getattr(credentials, part)
        if not value:
            continue
        value = value.strip() if part == "access_key" else stripped(value)
        if not is_one_word(value):
            raise CredentialsError(
                f"cannot use S3: the {words} holds a line break, a space or a non-ASCII character (from {_origin(credentials)})",
                hint="copy it again: it is one word of ASCII",
            )
        setattr(credentials, part, value)


def _origin(credentials: Any) -> str:  # noqa: ANN401 - as above
    """The source of the credentials: the environment, or botocore's name for it."""
    return "AWS_ACCESS_KEY_ID and its like" if credentials.method == "env" else f"botocore's `{credentials.method}`"


def _strip_token_files(session: Any) -> None:  # noqa: ANN401 - as above
    """Strip the token files of service accounts when they are read."""
    for provider in session.get_component("credential_provider").providers:
        if provider.METHOD == _ROLE_BY_TOKEN and hasattr(provider, "_token_loader_cls"):
            provider._token_loader_cls = _TokenFile  # noqa: SLF001 - the session makes the provider itself


class _TokenFile:
    """A reader of such a file, as botocore calls it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> str:
        return stripped(_text_of(self._path))


def _text_of(path: str) -> str:
    """Raises: OSError, ValueError."""
    with open_regular(Path(path)) as file:
        return read_at_most(file, CREDENTIAL_BYTES).decode()
