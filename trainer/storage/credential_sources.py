"""Errors of the sources of credentials, by name.

botocore runs programs, reads files and asks services for credentials, at first use and again when they expire. Whatever fails
there, of any exception type, is bad input of that source.
"""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import JSONDecodeError
from typing import Any, Final

from trainer.errors import KnownError, on_one_line
from trainer.redaction import redacted
from trainer.storage.errors import boto_errors, is_header_problem, is_transient
from trainer.storage.interface import CredentialsError, CredentialSourceError

PROCESS: Final = "custom-process"
ROLE_BY_TOKEN: Final = "assume-role-with-web-identity"  # noqa: S105 - a name
"""botocore's names of two sources."""

SHOWN: Final = 300
"""Characters of a program's message that are shown: its end, as the reason comes last."""

_NAMES: Final = {
    "env": "AWS_ACCESS_KEY_ID or a similar variable",
    "assume-role": "the role of the profile `{profile}`",
    ROLE_BY_TOKEN: "the role of the service account, AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE",
    "sso": "SSO of the profile `{profile}`",
    "login": "the login session of the profile `{profile}`",
    PROCESS: "`credential_process` of the profile `{profile}`",
    "container-role": "AWS_CONTAINER_CREDENTIALS_FULL_URI or a similar variable",
    "iam-role": "the service of the instance",
    "shared-credentials-file": "the profile `{profile}` in the shared-credentials-file",
    "config-file": "the profile `{profile}` in the config-file",
}
"""Names for users, by botocore's."""

_PROFILE_HINT: Final = "check the profile in ~/.aws/config or AWS_CONFIG_FILE, and AWS_PROFILE"
_HINTS: Final = {
    "env": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN again, or unset them",
    "sso": f"aws sso login --profile {{profile}}; {_PROFILE_HINT}",
    "login": f"aws login --profile {{profile}}; {_PROFILE_HINT}",
    PROCESS: f"run the program by hand; {_PROFILE_HINT}",
    ROLE_BY_TOKEN: "check that the pod's service account has a role and that its token is mounted",
    "container-role": "check the AWS_CONTAINER_ variables, which EKS and ECS set",
}

_SERVICES: Final = frozenset({"container-role", "iam-role"})
"""Sources on the network: their failure is not bad input."""

_FOREIGN: Final = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, EOFError)
"""What botocore raises, or lets through, for input that it does not expect."""


@dataclass(frozen=True)
class Source:
    """A source of credentials."""

    method: str
    """botocore's name."""

    profile: str
    command: str = ""
    """Command line of a program; it may hold secrets, so only its first word is shown."""

    @property
    def name(self) -> str:
        """Its name for users."""
        return _NAMES.get(self.method, f"botocore's `{self.method}`").format(profile=on_one_line(self.profile))

    def refusal(self, reason: str, kind: type[CredentialsError] = CredentialSourceError) -> CredentialsError:
        """The error that it gives no credentials, or unusable ones."""
        hint = _HINTS.get(self.method, _PROFILE_HINT).format(profile=on_one_line(self.profile))
        return kind(f"cannot get credentials for S3: {reason} (from {self.name})", hint=hint)


def source_of(session: Any, method: str) -> Source:  # noqa: ANN401 - botocore has no types
    """The source of this method in botocore's session."""
    settings = session.full_config.get("profiles", {})
    profile = session.get_config_variable("profile") or "default"
    return Source(method, profile, settings.get(profile, {}).get("credential_process") or "")


@contextmanager
def source_errors(source: Source) -> Iterator[None]:
    """Name the source in errors of the block.

    Raises: CredentialSourceError; CredentialsError for a service; botocore's transient errors and refusals as they are.
    """
    from botocore.exceptions import ClientError, ProfileNotFound  # noqa: PLC0415 - importing takes 0.25 s

    try:
        yield
    except KnownError:
        raise
    except boto_errors() as problem:
        if is_transient(problem) or isinstance(problem, (ClientError, ProfileNotFound)):
            raise
        kind = CredentialsError if source.method in _SERVICES else CredentialSourceError
        raise source.refusal(_reason(source, problem), kind) from None
    except _FOREIGN as problem:
        raise source.refusal(_reason(source, problem)) from None


def _reason(source: Source, problem: Exception) -> str:
    if isinstance(problem, EOFError):
        return "it asks for an MFA code, and there is no terminal"
    if is_header_problem(problem):  # the text quotes a key
        return "a key or token contains a character that no HTTP header can carry"
    if source.method == PROCESS:
        return _program_reason(source.command, problem)
    if isinstance(problem, OSError):
        is_token = source.method == ROLE_BY_TOKEN
        verb, what = ("read", "the service account's token") if is_token else ("use", f"`{problem.filename}`")
        return f"cannot {verb} {what}: {str(problem.strerror or problem).lower()}"
    if isinstance(problem, (TypeError, LookupError, AttributeError)):  # their text is about botocore's code
        return "its settings or its answer are invalid"
    return _sentence(problem)


def _program_reason(command: str, problem: Exception) -> str:
    """Why a program gave no credentials; its output may hold some and is never quoted."""
    try:
        words = shlex.split(command)
    except ValueError as unreadable:
        return f"its command line is invalid: {str(unreadable).lower()}"
    if not words:
        return "its command line is empty"
    program = f"`{on_one_line(words[0])}`"
    if isinstance(problem, OSError):
        return f"cannot start {program}: {str(problem.strerror or problem).lower()}"
    if isinstance(problem, boto_errors()):
        said = redacted(str(getattr(problem, "kwargs", {}).get("error_msg", problem))).strip()
        return f"{program} failed: {said[-SHOWN:]}" if said else f"{program} failed without a message"
    reasons = {
        UnicodeDecodeError: "printed text that is not UTF-8",
        JSONDecodeError: "printed no JSON document",
        AttributeError: "printed no JSON document with Version, AccessKeyId and SecretAccessKey",
        RuntimeError: "printed credentials that have expired",
    }
    other = "printed an `Expiration` that is not a time such as 2026-01-31T12:00:00Z"
    return f"{program} {next((reason for kind, reason in reasons.items() if isinstance(problem, kind)), other)}"


def _sentence(problem: Exception) -> str:
    text = " ".join(redacted(str(problem)).split()).rstrip(".")
    return f"{text[:1].lower()}{text[1:]}"
