"""What boto3 raises, sorted: what may pass by itself, and what each is to the user.

Absent, forbidden, not recognised and unreachable stay apart, because what to do about them differs.
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

_PASSING_CODES: Final = frozenset(
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
"""Source: Amazon S3 API reference, Error responses; some come with the status 200, 400 or 409."""

_CREDENTIALS_HINTS: Final = {
    "InvalidAccessKeyId": "the server does not know the access key: is AWS_ACCESS_KEY_ID, or the profile, one of this server's?",
    "SignatureDoesNotMatch": "the secret does not belong to the access key: check AWS_SECRET_ACCESS_KEY, also for a line break at its end",
    "ExpiredToken": "the temporary credentials are over: get new ones; in a pod a service account renews them by itself",
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to the access key: set all three anew, or unset it",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it by NTP",
}
_CREDENTIALS_HINTS["ExpiredTokenException"] = _CREDENTIALS_HINTS["ExpiredToken"]
_CREDENTIALS_HINTS["TokenRefreshRequired"] = _CREDENTIALS_HINTS["ExpiredToken"]

_REGION_CODES: Final = frozenset(
    {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect"}
)

_WHERE_HINT: Final = "AWS_ENDPOINT_URL, AWS_REGION and credentials say where and as whom"

_ROLE_HINT: Final = "the role of the service account can't be taken: check AWS_ROLE_ARN, and whom the role trusts"

_RIGHTS_HINT: Final = (
    "these credentials need GetObject, PutObject, DeleteObject and ListBucket on this prefix; "
    "without ListBucket what is absent is refused like this too"
)


class RefusedError(RemoteError):
    """The server refused a request with a code that is nothing of the above."""

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


_QUERY: Final = re.compile(r"(?<=[/\w])\?[^\"'\s]*(?=[\"'])")
"""What follows a URL's path: parameters of a listing tell nobody anything."""


def boto_errors() -> tuple[type[Exception], ...]:
    """What boto3 raises where the environment, the server or the network is to blame."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - loading takes a quarter of a second
    from botocore.parsers import ResponseParserError  # noqa: PLC0415
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    return BotoCoreError, ClientError, ResponseParserError, HTTPError


def passes(problem: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    if isinstance(problem, boto.ClientError):
        code, status = _answer(problem)
        return code in _PASSING_CODES or status == 429 or (status >= 500 and status != 501)
    if "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return False
    return isinstance(problem, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError))


def known(what: str, problem: Exception, *, tried: str = "") -> KnownError:
    """The error of ours that says `what` could not be done and why; `tried` says how long it was tried."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - as above

    if isinstance(problem, ClientError):
        return _refusal(what, problem, tried)
    reason = _QUERY.sub("", " ".join(redacted(str(problem)).split())).rstrip(".")
    text = f"{what}: {reason[:1].lower()}{reason[1:]}{tried}"
    if passes(problem):
        return UnreachableError(text, hint=_WHERE_HINT)
    return _unsent(text, problem)


def _unsent(text: str, problem: Exception) -> KnownError:
    """Of a request that never left, or an answer that is none."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above

    if isinstance(problem, boto.ProfileNotFound):
        return InputError(
            f"{text} (from AWS_PROFILE)", hint="the profiles are in ~/.aws/config, or where AWS_CONFIG_FILE says"
        )
    if isinstance(problem, boto.SSLError):
        return RemoteError(text, hint="AWS_CA_BUNDLE names a file with the certificate of who signed the server's")
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
    code, status = _answer(problem)
    # An answer to HEAD has no body that could hold a code; any other without one is not of an S3 server.
    if code == "NoSuchKey" or (code == "404" and problem.operation_name == "HeadObject"):
        return AbsentError(f"{what}: no such object")
    if code == "NoSuchBucket":
        return RemoteError(
            f"{what}: no such bucket", hint="check the bucket's name and the endpoint (AWS_ENDPOINT_URL)"
        )
    text = f"{what}: the bucket refused it with {code}{tried}"
    if passes(problem):
        return _lasting(text, code)
    if code in _CREDENTIALS_HINTS or problem.operation_name.startswith("AssumeRole"):
        return CredentialsError(text, hint=_CREDENTIALS_HINTS.get(code, _ROLE_HINT))
    if status == 403:
        return NotPermittedError(text, hint=_RIGHTS_HINT)
    return RefusedError(text, code=code, hint=_other_hint(code))


def _other_hint(code: str) -> str | None:
    if code in _REGION_CODES:
        return "AWS_REGION must be the bucket's"
    return "is it an S3 server that AWS_ENDPOINT_URL names?" if code.isdecimal() else None


def _lasting(text: str, code: str) -> KnownError:
    """Of what usually passes and did not."""
    if code == "BadDigest":
        return DamagedError(text, hint="what lies between here and the bucket changes what it carries")
    return UnreachableError(text, hint="the server is overloaded or broken: wait, or ask who runs it")


def _answer(problem: Any) -> tuple[str, int]:  # noqa: ANN401 - as above
    """The code and the status of a refusal; a code may be the status."""
    code = redacted(str(problem.response.get("Error", {}).get("Code", "unknown")))
    return code, int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
