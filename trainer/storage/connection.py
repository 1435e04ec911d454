"""Requests to an S3 server, one client a process, and faults that pass waited out."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, TypeVar

from trainer.errors import InputError, RemoteError
from trainer.limits import ANSWER_BYTES, in_words
from trainer.location import FROM_ENVIRONMENT, S3Server
from trainer.storage.credentials import ENDPOINTS, TOKEN_FILE, check_endpoint, check_files, learn_what_is_sent, prepared
from trainer.storage.errors import boto_errors, known, passes
from trainer.storage.interface import CredentialsError
from trainer.storage.options import Options
from trainer.storage.retry import RetryPolicy, Tries

CONNECTIONS: Final = 32
"""More than there are threads that use one client at once."""

Result = TypeVar("Result")
Client = Any
"""boto3 makes its classes at run time."""


@dataclass(frozen=True)
class Timeouts:
    """After which silence a request is given up, in seconds."""

    connect_s: float = 10.0
    read_s: float = 60.0


@dataclass
class Connection:
    """A server, and how patiently it is asked. Threads share it; a process forked from this one makes a client of its own."""

    options: Options
    server: S3Server = FROM_ENVIRONMENT
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeouts: Timeouts = field(default_factory=Timeouts)
    _made: tuple[int, Client] | None = None
    """The process that made the client, and the client."""

    def client(self) -> Client:
        """This process's client. Raises: InputError for settings that make none."""
        made = self._made
        if made is None or made[0] != os.getpid():
            self._made = made = (os.getpid(), _client(self.options, self.timeouts, self.server))
        return made[1]

    def call(self, what: str, request: Callable[[Client], Result], *, policy: RetryPolicy | None = None) -> Result:
        """The request's result; `what` begins the error: `cannot read …`.

        Raises: AbsentError, NotPermittedError, CredentialsError, UnreachableError; RefusedError for another refusal.
        """
        tries = (policy or self.policy).begin()
        while True:
            try:
                return request(self.client())
            except boto_errors() as problem:
                self.wait_out(what, problem, tries)
            except OSError as problem:
                if problem.filename is None or str(problem.filename) != os.environ.get(TOKEN_FILE):
                    raise
                raise CredentialsError(
                    f"{what}: the service account's token can't be read: {str(problem.strerror).lower()} (from `{TOKEN_FILE}`)",
                    hint="does the pod's service account have a role, and is its token mounted?",
                ) from problem

    def wait_out(self, what: str, problem: Exception, tries: Tries) -> None:
        """Return when the next attempt is due. Raises: as `call`, for what does not pass or has taken too long."""
        if not passes(problem):
            raise known(what, problem) from problem
        if not tries.another():
            tried = f", {tries.count} times in {tries.elapsed_s:.0f} s" if tries.count > 1 else ""
            raise known(what, problem, tried=tried) from problem


def _client(options: Options, timeouts: Timeouts, server: S3Server) -> Client:
    from botocore.config import Config  # noqa: PLC0415 - a quarter of a second that only who uses a bucket needs

    return new_client(
        Config(
            # Whoever calls repeats requests, and knows for how long; a second loop inside would multiply the attempts.
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=timeouts.connect_s,
            read_timeout=timeouts.read_s,
            max_pool_connections=CONNECTIONS,
            tcp_keepalive=True,
            s3={"addressing_style": options.addressing},
            # Servers other than AWS's may not know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
        server,
    )


def new_client(config: Any, server: S3Server = FROM_ENVIRONMENT) -> Client:  # noqa: ANN401 - botocore has no types
    """A client of this process. Raises: InputError for settings that make none, or an endpoint with a login in it."""
    import boto3  # noqa: PLC0415 - as above
    import botocore.session  # noqa: PLC0415

    check_endpoint(*([server.endpoint] if server.endpoint else (os.environ.get(name, "") for name in ENDPOINTS)))
    check_files()
    try:
        session = botocore.session.Session()
        session.register_component("data_loader", _models())
        if server.region:
            session.set_config_variable("region", server.region)
        credentials = prepared(session)
        client = boto3.session.Session(botocore_session=session).client(
            "s3", config=config, endpoint_url=server.endpoint
        )
    except boto_errors() as problem:
        raise known("cannot use S3", problem) from problem
    except ValueError:  # of the endpoint, which is not repeated: it may hold a login
        raise InputError(
            "cannot use S3: the endpoint is no URL (from AWS_ENDPOINT_URL)", hint="AWS_ENDPOINT_URL=https://HOST:PORT"
        ) from None
    check_endpoint(str(client.meta.endpoint_url))  # a profile may say it
    learn_what_is_sent(client, credentials)
    _bound_answers(client)
    return client


def _bound_answers(client: Client) -> None:
    """From now on, read no more of an answer that botocore reads as a whole, such as an error's, than any has."""
    session = client._endpoint.http_session  # noqa: SLF001 - botocore has no event between a head and its body
    send = session.send

    def bounded(request: Any) -> Any:  # noqa: ANN401 - botocore has no types
        request.stream_output = True  # else all is read by now
        answer = send(request)
        stream = answer.raw.stream

        def bounded_stream(*arguments: object, **named: object) -> Iterator[bytes]:
            try:
                yield from at_most(stream(*arguments, **named), ANSWER_BYTES)
            except RemoteError:
                answer.raw.close()
                raise

        answer.raw.stream = bounded_stream
        return answer

    session.send = bounded


def at_most(pieces: Iterable[bytes], most_bytes: int) -> Iterator[bytes]:
    """The pieces of an answer. Raises: RemoteError before more than `most_bytes` have come together."""
    read_bytes = 0
    for piece in pieces:
        read_bytes += len(piece)
        if read_bytes > most_bytes:
            raise RemoteError(
                f"cannot use S3: the server answers with more than {in_words(most_bytes)} where no object was asked for",
                hint="is it an S3 server that AWS_ENDPOINT_URL names?",
            )
        yield piece


@cache
def _models() -> Any:  # noqa: ANN401 - as above
    """The descriptions of Amazon's services, which take a tenth of a second to parse: once a process, not once a client."""
    from botocore.loaders import create_loader  # noqa: PLC0415 - as above

    return create_loader()
