"""Environment variables for S3, including those that boto3 reads itself.

| variable | values | meaning |
| --- | --- | --- |
| `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` | `http(s)://HOST:PORT` | a server other than Amazon's |
| `AWS_REGION` | | region of the bucket; most other servers accept any |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | | credentials |
| `AWS_PROFILE`, `AWS_CONFIG_FILE`, `AWS_SHARED_CREDENTIALS_FILE` | | credentials and settings by name |
| `AWS_ROLE_ARN`, `AWS_WEB_IDENTITY_TOKEN_FILE` | | credentials of a service account (set by EKS) |
| `AWS_CA_BUNDLE` | file | CA certificates to verify the server |
| `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | `http(s)://HOST:PORT`; hosts | proxy, and hosts without one |
| `TRAINER_S3_ADDRESSING` | `auto`, `path`, `virtual` | position of the bucket name; `auto`: in the path when an
endpoint is set |
| `TRAINER_S3_REQUEST_PAYER` | `requester` | pay for reads from a requester-pays bucket |
| `TRAINER_S3_SSE` | `AES256`, `aws:kms` | server-side encryption of written objects |
| `TRAINER_S3_SSE_KMS_KEY_ID` | | key for `aws:kms`; default: the account's own |

Without credentials in these variables, those of the instance or container are used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainer.errors import InputError

ADDRESSING: Final = "TRAINER_S3_ADDRESSING"
REQUEST_PAYER: Final = "TRAINER_S3_REQUEST_PAYER"
SSE: Final = "TRAINER_S3_SSE"
SSE_KMS_KEY_ID: Final = "TRAINER_S3_SSE_KMS_KEY_ID"

_CHOICES: Final = {
    ADDRESSING: ("auto", "path", "virtual"),
    REQUEST_PAYER: ("requester",),
    SSE: ("AES256", "aws:kms"),
}


@dataclass(frozen=True)
class Options:
    """S3 options from the environment."""

    addressing: str
    every_request: Mapping[str, str]
    """Arguments of every request."""

    every_write: Mapping[str, str]
    """Additional arguments of requests that create an object."""


def options_of(environment: Mapping[str, str]) -> Options:
    """Read the options; an empty variable counts as unset. Raises: InputError naming the variable."""
    chosen = {name: _choice(name, environment) for name in _CHOICES}
    key_id = environment.get(SSE_KMS_KEY_ID)
    if key_id and chosen[SSE] != "aws:kms":
        raise InputError(
            f"cannot encrypt with a KMS key: {SSE} must be `aws:kms`, got `{chosen[SSE] or ''}` (from {SSE_KMS_KEY_ID})",
            hint=f"{SSE}=aws:kms",
        )
    payer = {"RequestPayer": chosen[REQUEST_PAYER]}
    encryption = {"ServerSideEncryption": chosen[SSE], "SSEKMSKeyId": key_id}
    return Options(chosen[ADDRESSING] or "auto", _present(payer), _present(encryption))


def _choice(name: str, environment: Mapping[str, str]) -> str | None:
    value = environment.get(name)
    if value and value not in _CHOICES[name]:
        choices = ", ".join(f"`{choice}`" for choice in _CHOICES[name])
        raise InputError(
            f"cannot use the bucket: {name} must be one of {choices}, got `{value}`", hint=f"set or unset {name}"
        )
    return value or None


def _present(arguments: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in arguments.items() if value}
