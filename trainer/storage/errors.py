"""Errors of boto3, classified: transient or permanent, and which error the user sees.

Absent, forbidden, unauthenticated and unreachable are separate errors, because each needs a different action.
"""

import re
from typing import Any, Final

from trainer.errors import InputError, KnownError, RemoteError
from trainer.redaction import redacted
from trainer.storage.interface import (
    AbsentError,
    CredentialsError,
    DamagedError,
    NotPermittedError,
    UnreachableError,
)

_TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest",
        "ConditionalRequestConflict",
        "InternalError",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
    }
)
"""Source: Amazon S3 API reference, Error responses; some arrive with status 200, 400 or 409."""

_CREDENTIALS_HINTS: Final = {
    "InvalidAccessKeyId": "the server does not know the access key: check AWS_ACCESS_KEY_ID or the profile, and AWS_ENDPOINT_URL",
    "SignatureDoesNotMatch": "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY, also for a trailing line break",
    "ExpiredToken": "the temporary credentials have expired: get new ones; a pod's service account renews them automatically",
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to the access key: set all three variables again, or unset it",
    "RequestTimeTooSkewed": "this machine's clock is wrong: synchronise it with NTP",
}
_CREDENTIALS_HINTS["ExpiredTokenException"] = _CREDENTIALS_HINTS["ExpiredToken"]
_CREDENTIALS_HINTS["TokenRefreshRequired"] = _CREDENTIALS_HINTS["ExpiredToken"]

_REGION_CODES: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)

_WHERE_HINT: Final = "check AWS_ENDPOINT_URL, AWS_REGION and the credentials"

_ROLE_HINT: Final = "cannot assume the role of the service account: check AWS_ROLE_ARN and the role's trust policy"

_RIGHTS_HINT: Final = (
    "these credentials need GetObject, PutObject, DeleteObject and ListBucket on this prefix; "
    "without ListBucket, requests for absent objects are refused the same way"
)


class RefusedError(RemoteError):
    """The server refused a request with a code that no other error covers."""

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


_QUERY: Final = re.compile(r"(?<=[/\w])\?[^\"'\s]*(?=[\"'])")
"""Query string of a URL; in messages it is noise."""


def boto_errors() -> tuple[type[Exception], ...]:
    """boto3's errors that are caused by the environment, the server or the network."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - importing takes 0.25 s
    from botocore.parsers import ResponseParserError  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    return BotoCoreError, ClientError, ResponseParserError, HTTPError


def is_transient(problem: Exception) -> bool:
    """Whether a later retry of the same request may succeed."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    if isinstance(problem, boto.ClientError):
        code, status = _code_and_status(problem)
        return code in _TRANSIENT_CODES or status == 429 or (status >= 500 and status != 501)
    if "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return False
    return isinstance(problem, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError))


def as_known_error(what: str, problem: Exception, *, tried: str = "") -> KnownError:
    """The trainer's error for `problem`: `what` failed and why; `tried` describes the retries."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as above

    if isinstance(problem, ClientError):
        return _refusal(what, problem, tried)
    reason = _QUERY.sub("", " ".join(redacted(str(problem)).split())).rstrip(".")
    text = f"{what}: {reason[:1].lower()}{reason[1:]}{tried}"
    if is_transient(problem):
        return UnreachableError(text, hint=_WHERE_HINT)
    return _unsent(text, problem)


def _unsent(text: str, problem: Exception) -> KnownError:
    """A request that was never sent, or a response that is not one of S3."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above

    if isinstance(problem, boto.ProfileNotFound):
        return InputError(f"{text} (from AWS_PROFILE)", hint="profiles are read from ~/.aws/config or AWS_CONFIG_FILE")
    if isinstance(problem, boto.SSLError):
        return RemoteError(text, hint="set AWS_CA_BUNDLE to a file with the CA certificate of the server")
    kinds = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
    )
    kind = CredentialsError if isinstance(problem, kinds) else RemoteError
    return kind(text, hint=_WHERE_HINT)


def _refusal(what: str, problem: Any, tried: str) -> KnownError:  # noqa: ANN401 - boto3 has no types
    code, status = _code_and_status(problem)
    # A response to HEAD has no body that could contain a code; any other without one is not from an S3 server.
    if code == "NoSuchKey" or (code == "404" and problem.operation_name == "HeadObject"):
        return AbsentError(f"{what}: no such object")
    if code == "NoSuchBucket":
        return RemoteError(
            f"{what}: no such bucket", hint="check the bucket's name and the endpoint (AWS_ENDPOINT_URL)"
        )
    text = f"{what}: the bucket refused it with {code}{tried}"
    if is_transient(problem):
        return _persistent(text, code)
    if code in _CREDENTIALS_HINTS or problem.operation_name.startswith("AssumeRole"):
        return CredentialsError(text, hint=_CREDENTIALS_HINTS.get(code, _ROLE_HINT))
    if status == 403:
        return NotPermittedError(text, hint=_RIGHTS_HINT)
    return RefusedError(text, code=code, hint=_other_hint(code))


def _other_hint(code: str) -> str | None:
    if code in _REGION_CODES:
        return "set AWS_REGION to the region of the bucket"
    return "check that AWS_ENDPOINT_URL is an S3 server" if code.isdecimal() else None


def _persistent(text: str, code: str) -> KnownError:
    """A transient error that outlasted the retries."""
    if code == "BadDigest":
        return DamagedError(text, hint="a proxy or network device changes the data on its way to the bucket")
    return UnreachableError(text, hint="the server is overloaded or broken: retry later, or ask its administrator")


def _code_and_status(problem: Any) -> tuple[str, int]:  # noqa: ANN401 - as above
    """Code and status of a refusal; the code may be the status."""
    code = redacted(str(problem.response.get("Error", {}).get("Code", "unknown")))
    return code, int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
