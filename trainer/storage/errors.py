"""Errors of boto3, classified: transient or permanent, and which error the user sees.

Absent, forbidden, unauthenticated and unreachable are separate errors, because each needs a different action.
"""

import re
from http import HTTPStatus
from typing import Any, Final

from trainer.errors import InputError, KnownError, RemoteError
from trainer.redaction import redacted
from trainer.storage.interface import (
    AbsentError,
    CredentialsError,
    DamagedError,
    NoProxyError,
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

_ROLE_HINT: Final = "cannot assume the role: check AWS_ROLE_ARN or the profile's role_arn, and the role's trust policy"

_SOURCE_OPERATIONS: Final = ("AssumeRole", "GetRoleCredentials", "CreateToken")
"""Beginnings of operations of Amazon's STS and SSO, which issue credentials."""

_PROXY_HINT: Final = "check HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; NO_PROXY=HOST for a direct connection"

_PROXY_REFUSAL: Final = re.compile(r"Tunnel connection failed: 4\d\d")
"""Source: the message of Python's `http.client` for an answer to CONNECT."""

_UNREADABLE_BUNDLE: Final = re.compile(r"\[Errno (?:2|13|21)\]|NO_CERTIFICATE_OR_CRL_FOUND")
_PERMANENT_TLS: Final = re.compile(
    rf"CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|SSL .*(?:{_UNREADABLE_BUNDLE.pattern})"
)
"""Source: reasons of OpenSSL; the error numbers are those of opening the file of AWS_CA_BUNDLE."""

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
    if _PERMANENT_TLS.search(str(problem)) or is_header_problem(problem) or _proxy_refuses(problem):
        return False
    return isinstance(problem, (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError))


def is_header_problem(problem: Exception) -> bool:
    """Whether a request was not sent because a value in it can be in no HTTP header; the message quotes that value."""
    error = getattr(problem, "kwargs", {}).get("error")
    return isinstance(error, UnicodeError) or (isinstance(error, ValueError) and "header" in str(error))


def _proxy_refuses(problem: Exception) -> bool:
    """Whether a proxy answered that it does not forward the request, which no retry changes."""
    return _PROXY_REFUSAL.search(str(getattr(problem, "kwargs", {}).get("error"))) is not None


def as_known_error(what: str, problem: Exception, *, tried: str = "") -> KnownError:
    """The trainer's error for `problem`: `what` failed and why; `tried` describes the retries."""
    from botocore.exceptions import ClientError, ProxyConnectionError  # noqa: PLC0415 - as above

    if isinstance(problem, ClientError):
        return _refusal(what, problem, tried)
    if is_header_problem(problem):
        return InputError(
            f"{what}: a value of the request contains a character that no HTTP header can carry",
            hint="check the AWS_ and TRAINER_S3_ variables and the login of the proxy for line breaks and non-ASCII characters",
        )
    if isinstance(problem, ProxyConnectionError):
        return _no_proxy(what, problem, tried)
    reason = _QUERY.sub("", " ".join(redacted(str(problem)).split())).rstrip(".")
    text = f"{what}: {reason[:1].lower()}{reason[1:]}{tried}"
    if is_transient(problem):
        return UnreachableError(text, hint=_WHERE_HINT)
    return _unsent(what, text, problem)


def _no_proxy(what: str, problem: Any, tried: str) -> KnownError:  # noqa: ANN401 - boto3 has no types
    cause = problem.kwargs["error"]
    while isinstance(
        following := getattr(cause, "original_error", None) or cause.__cause__ or cause.__context__, Exception
    ):
        cause = following
    reason = redacted(str(getattr(cause, "strerror", None) or cause)).rstrip(".")
    proxy = redacted(str(problem.kwargs["proxy_url"]))
    text = f"{what}: no connection through the proxy `{proxy}`: {reason[:1].lower()}{reason[1:]}{tried}"
    return (NoProxyError if is_transient(problem) else RemoteError)(text, hint=_PROXY_HINT)


def _unsent(what: str, text: str, problem: Any) -> KnownError:  # noqa: ANN401 - boto3 has no types
    """A request that was never sent, or a response that is not one of S3; `text` has `what` and botocore's reason."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above

    if isinstance(problem, boto.ProfileNotFound):
        return InputError(f"{text} (from AWS_PROFILE)", hint="profiles are read from ~/.aws/config or AWS_CONFIG_FILE")
    if isinstance(problem, boto.SSLError):
        return _tls_error(what, text, redacted(str(problem.kwargs["error"])))
    if isinstance(problem, boto.InvalidRegionError):
        return InputError(
            f"{what}: not the name of a region, got `{problem.kwargs['region_name']}` (from AWS_REGION or --s3-region)",
            hint="AWS_REGION=us-east-1, for example",
        )
    if isinstance(problem, boto.ParamValidationError) and "bucket name" in text:
        return InputError(
            f"{what}: not the name of a bucket", hint="s3://BUCKET/PREFIX; names have a-z, 0-9, `-` and `.`"
        )
    kinds = (
        boto.NoCredentialsError,
        boto.PartialCredentialsError,
        boto.CredentialRetrievalError,
        boto.TokenRetrievalError,
        boto.SSOError,
    )
    if isinstance(problem, kinds):
        return CredentialsError(text, hint=_WHERE_HINT)
    return (InputError if isinstance(problem, _settings_errors()) else RemoteError)(text, hint=_WHERE_HINT)


def _tls_error(what: str, text: str, reason: str) -> KnownError:
    if _UNREADABLE_BUNDLE.search(reason):
        # No InputError: a file that is replaced while a run trains must not end it.
        return RemoteError(
            f"{what}: cannot read certificates: {reason} (from AWS_CA_BUNDLE)", hint="AWS_CA_BUNDLE=FILE"
        )
    if "WRONG_VERSION_NUMBER" in reason:
        return RemoteError(f"{what}: the server does not use TLS", hint="http:// instead of https:// in the endpoint")
    return RemoteError(text, hint="set AWS_CA_BUNDLE to a file with the CA certificate of the server")


def _settings_errors() -> tuple[type[Exception], ...]:
    """Botocore's errors for settings, raised before anything is sent."""
    from botocore import exceptions as boto  # noqa: PLC0415 - as above

    return (
        boto.BaseEndpointResolverError,
        boto.ConfigNotFound,
        boto.ConfigParseError,
        boto.EndpointProviderError,
        boto.InvalidConfigError,
        boto.InvalidDefaultsMode,
        boto.InvalidIMDSEndpointError,
        boto.InvalidIMDSEndpointModeError,
        boto.InvalidRetryConfigurationError,
        boto.ParamValidationError,
        boto.ValidationError,
    )


def _refusal(what: str, problem: Any, tried: str) -> KnownError:  # noqa: ANN401 - boto3 has no types
    code, status = _code_and_status(problem)
    # A response to HEAD has no body that could contain a code; any other without one is not from an S3 server.
    if code == "NoSuchKey" or (code == "404" and problem.operation_name == "HeadObject"):
        return AbsentError(f"{what}: no such object")
    if code == "NoSuchBucket":
        return RemoteError(
            f"{what}: no such bucket", hint="check the bucket's name and the endpoint (AWS_ENDPOINT_URL)"
        )
    of_source = problem.operation_name.startswith(_SOURCE_OPERATIONS)
    refused = f"{problem.operation_name} was refused" if of_source else "the bucket refused it"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        refused = "the proxy refused it"
    text = f"{what}: {refused} with {code}{tried}"
    if is_transient(problem):
        return _persistent(text, code)
    if code in _CREDENTIALS_HINTS or of_source:
        return CredentialsError(text, hint=_CREDENTIALS_HINTS.get(code, _ROLE_HINT))
    if status == 403:
        return NotPermittedError(text, hint=_RIGHTS_HINT)
    return RefusedError(text, code=code, hint=_other_hint(code))


def _other_hint(code: str) -> str | None:
    if code in _REGION_CODES:
        return "set AWS_REGION to the region of the bucket"
    if code == str(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED.value):
        return _PROXY_HINT
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
