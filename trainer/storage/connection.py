"""Requests to an S3 server: one client per process, transient errors retried."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from trainer.errors import InputError, RemoteError, on_one_line
from trainer.limits import RESPONSE_BYTES, in_words
from trainer.location import FROM_ENVIRONMENT, S3Server
from trainer.storage.credentials import check_files, prepare_credentials
from trainer.storage.endpoint import check_endpoint, check_endpoints, proxies_for
from trainer.storage.errors import as_known_error, boto_errors, is_transient
from trainer.storage.options import Options
from trainer.storage.retry import RetryPolicy, Tries

CONNECTIONS: Final = 32
"""Size of the connection pool; more than the threads that share one client."""

REGION: Final = "AWS_REGION"
"""Variable of the region in all of Amazon's programs but botocore, which reads AWS_DEFAULT_REGION."""

Result = TypeVar("Result")
Client = Any
"""boto3 creates its client classes at run time, so they have no static type."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds without a response after which a request fails."""

    connect_s: float = 10.0
    read_s: float = 60.0


@dataclass
class Connection:
    """A server and its retry policy, shared by threads.

    A forked process creates its own client: boto3 clients must not be shared across a fork.
    """

    options: Options
    server: S3Server = FROM_ENVIRONMENT
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    _made: tuple[int, Client] | None = None
    """Process ID of the creator, and its client."""

    def client(self) -> Client:
        """This process's client. Raises: InputError for unusable settings."""
        made = self._made
        if made is None or made[0] != os.getpid():
            self._made = made = (os.getpid(), _client(self.options, self.timeouts, self.server))
        return made[1]

    def call(self, what: str, request: Callable[[Client], Result], *, policy: RetryPolicy | None = None) -> Result:
        """Send the request, with retries; `what` begins the error message: `cannot read …`.

        Raises: AbsentError, NotPermittedError, CredentialsError, UnreachableError; RefusedError for any other refusal.
        """
        tries = (policy or self.policy).begin()
        while True:
            try:
                return request(self.client())
            except boto_errors() as problem:
                self.wait_out(what, problem, tries)

    def wait_out(self, what: str, problem: Exception, tries: Tries) -> None:
        """Sleep until the next attempt. Raises: as `call`, for a permanent error or when the retry time is over."""
        if not is_transient(problem):
            raise as_known_error(what, problem) from problem
        if not tries.another():
            tried = f", {tries.count} times in {tries.elapsed_s:.0f} s" if tries.count > 1 else ""
            raise as_known_error(what, problem, tried=tried) from problem


def _client(options: Options, timeouts: Timeouts, server: S3Server) -> Client:
    from botocore.config import Config  # noqa: PLC0415 - takes 0.25 s to import; needed for buckets only

    return new_client(
        Config(
            # `Connection.call` retries; a second loop in botocore would multiply the attempts.
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=timeouts.connect_s,
            read_timeout=timeouts.read_s,
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            s3={"addressing_style": options.addressing},
            # S3-compatible servers may not support the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        server,
    )


def new_client(config: Any, server: S3Server = FROM_ENVIRONMENT) -> Client:  # noqa: ANN401 - botocore has no types
    """A client for this process; without credentials for an unsigned `config`.

    Raises: InputError for unusable settings; CredentialSourceError; RemoteError.
    """
    import boto3  # noqa: PLC0415 - as above
    import botocore.session  # noqa: PLC0415

    check_endpoints(server)
    check_files()
    try:
        session = botocore.session.Session()
        session.register_component("data_loader", _models())
        region = server.region or os.environ.get(REGION, "").strip()
        if region:
            session.set_config_variable("region", region)
        if config.signature_version is not botocore.UNSIGNED:
            prepare_credentials(session)
        client = boto3.session.Session(botocore_session=session).client(
            "s3", config=config, endpoint_url=server.endpoint
        )
    except boto_errors() as problem:
        raise as_known_error("cannot use S3", problem) from problem
    except ValueError as problem:
        raise _unusable(problem) from None
    check_endpoint(str(client.meta.endpoint_url), "the profile's endpoint_url")
    _set_proxy(client)
    _limit_responses(client)
    return client


def _unusable(problem: ValueError) -> InputError:
    """The error for a setting that botocore refuses; that of an endpoint in a profile says what is wrong with it."""
    text = str(problem)
    _, is_endpoint, url = text.partition("Invalid endpoint: ")
    if is_endpoint:
        try:
            check_endpoint(url, "the profile's endpoint_url")
        except InputError as refusal:
            return refusal
    return InputError(
        f"cannot use S3: a setting is invalid: {on_one_line(text)}", hint="check the AWS_ variables and the profile"
    )


def _set_proxy(client: Client) -> None:
    """Set the proxy as other programs do; botocore ignores ALL_PROXY and takes SOCKS for a host name."""
    from botocore.httpsession import ProxyConfiguration  # noqa: PLC0415 - as above

    proxies = proxies_for(str(client.meta.endpoint_url))
    client._endpoint.http_session._proxy_config = ProxyConfiguration(proxies)  # noqa: SLF001 - the client's settings have no NO_PROXY


def _limit_responses(client: Client) -> None:
    """Limit the size of responses that botocore reads whole, such as errors: a faulty server must not fill the memory."""
    session = client._endpoint.http_session  # noqa: SLF001 - botocore has no event between headers and body
    send = session.send

    def bounded(request: Any) -> Any:  # noqa: ANN401 - botocore has no types
        request.stream_output = True  # otherwise botocore has read the whole body here
        response = send(request)
        stream = response.raw.stream

        def bounded_stream(*arguments: object, **named: object) -> Iterator[bytes]:
            try:
                yield from at_most(stream(*arguments, **named), RESPONSE_BYTES)
            except RemoteError:
                response.raw.close()
                raise

        response.raw.stream = bounded_stream
        return response

    session.send = bounded


def at_most(chunks: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The chunks of a response. Raises: RemoteError before their total exceeds `most_bytes`."""
    read_bytes = 0
    for chunk in chunks:
        read_bytes += len(chunk)
        if read_bytes > most_bytes:
            raise RemoteError(
                f"cannot use S3: the server sent more than {in_words(most_bytes)} in a response that is not an object",
                hint="check that AWS_ENDPOINT_URL is an S3 server",
            )
        yield chunk


@cache
def _models() -> Any:  # noqa: ANN401 - as above
    """Botocore's service descriptions. Parsing takes 0.1 s, so it is done once per process instead of once per client."""
    from botocore.loaders import create_loader  # noqa: PLC0415 - as above

    return create_loader()
