"""A bucket that fails, through a proxy that spoils requests to a server with S3's semantics."""

import traceback

import boto3
import pytest
from botocore.exceptions import ClientError, SSLError
from faultproxy import Corrupt, CutAnswer, Hang, HangInAnswer, LoseAnswer, Refuse, Reset, ResetInRequest, Slow

from trainer.errors import RemoteError
from trainer.location import Location
from trainer.storage import (
    AbsentError,
    ChangedError,
    CredentialsError,
    DamagedError,
    NotPermittedError,
    RetryPolicy,
    S3Storage,
    UnreachableError,
    multipart,
)
from trainer.storage import s3 as bucket_module
from trainer.storage.connection import Timeouts
from trainer.storage.errors import as_known_error, is_transient

URL = "s3://cxr/run"
LARGE = bytes(range(256)) * 4096 * 5  # five chunks


class Clock:
    """Time that passes only by sleeping; what was planned for a moment happens then."""

    def __init__(self):
        self.now, self.plans = 0.0, []

    def read(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        for plan in [plan for plan in self.plans if plan[0] <= self.now]:
            self.plans.remove(plan)
            plan[1]()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def storage(fault_proxy, clock):
    return opened(clock)


@pytest.fixture
def small_parts(monkeypatch):
    """So that a large object is small."""
    monkeypatch.setattr(bucket_module, "WHOLE_BYTES", 1 << 20)
    monkeypatch.setattr(multipart, "PART_BYTES", 5 << 20)


def opened(clock, patience_s=30.0, read_s=60.0):
    return S3Storage(
        Location(URL),
        policy=RetryPolicy(patience_s, clock.read, clock.sleep),
        timeouts=Timeouts(connect_s=5, read_s=read_s),
    )


@pytest.fixture(scope="module")
def client(s3_server):
    """Goes around the proxy."""
    return boto3.client(
        "s3", endpoint_url=s3_server, region_name="us-east-1", aws_access_key_id="one", aws_secret_access_key="two"
    )


@pytest.fixture
def put(client):
    return lambda content: client.put_object(Bucket="cxr", Key="run/state.pt", Body=content)


DOINGS = {
    "read": lambda storage, _: storage.read("state.pt"),
    "copy": lambda storage, folder: storage.copy_to("state.pt", folder / "copy"),
    "write": lambda storage, _: storage.write("state.pt", b"new"),
    "create": lambda storage, _: storage.create("new.pt", b"new"),
    "stat": lambda storage, _: storage.stat("state.pt"),
    "list": lambda storage, _: storage.keys(""),
    "delete": lambda storage, _: storage.delete("state.pt"),
}


BUSY = Refuse(503, "SlowDown")
PASSING = [
    BUSY,
    Refuse(500, "InternalError"),
    Refuse(429, "Busy"),
    Refuse(400, "RequestTimeout"),
    Reset(),
    LoseAnswer(),
]


@pytest.mark.parametrize(
    ("doing", "fault"),
    [*(("read", fault) for fault in PASSING), *((doing, BUSY) for doing in DOINGS if doing != "read")],
    ids=str,
)
def test_transient_failures_are_retried(doing, fault, storage, fault_proxy, put, tmp_path):
    """Servers have such moments every day, and no run may end by one."""
    put(b"old")
    fault_proxy.script(fault, times=2)
    result = DOINGS[doing](storage, tmp_path)
    assert [request.fault is None for request in fault_proxy.requests[:3]] == [False, False, True]
    if doing in {"read", "create"}:
        assert result in {b"old", True}


def test_retries_of_half_a_minute_end_within_two_minutes_of_refusals(storage, fault_proxy, clock):
    """Whoever waits is told, with how long it was tried; a busy server isn't asked without end."""
    fault_proxy.script(Refuse(503, "SlowDown"), times=None)
    clock.plans = [(120, fault_proxy.forget)]
    with pytest.raises(UnreachableError, match=r"cannot read `s3://cxr/run/state.pt`: .* SlowDown, \d+ times in 30 s"):
        storage.read("state.pt")
    assert clock.now == pytest.approx(30)
    assert len(fault_proxy.requests) < 20


def test_retries_of_three_minutes_outlast_two_minutes_of_refusals(fault_proxy, clock):
    """A checkpoint in the background has time: it is published when the server is back."""
    fault_proxy.script(Refuse(503, "SlowDown"), times=None)
    clock.plans = [(120, fault_proxy.forget)]
    opened(clock, patience_s=180).write("state.pt", b"new")
    assert 120 <= clock.now <= 130 + 1


def test_without_retries_one_request_is_made(fault_proxy, clock):
    """A check that a person waits for."""
    fault_proxy.script(Reset(), times=None)
    with pytest.raises(UnreachableError):
        opened(clock, patience_s=0).read("state.pt")
    assert len(fault_proxy.requests) == 1


@pytest.mark.parametrize(
    ("reset", "firsts"),
    [(True, [2 << 20, 2 << 20, 3 << 20]), (False, [2_500_000, 2_500_100, 3_700_100])],
    ids=["reset", "truncated"],
)
def test_download_that_breaks_off_resumes_where_it_broke(reset, firsts, storage, fault_proxy, tmp_path, put):
    """A large object over a bad line would else never be whole, or worse: be taken for whole."""
    put(LARGE)
    for after in (2_500_000, 100, 1_200_000):
        fault_proxy.script(CutAnswer(after, reset=reset), method="GET")
    heard = []
    storage.copy_to("state.pt", tmp_path / "copy", progress=heard.append)
    assert (tmp_path / "copy").read_bytes() == LARGE
    assert sum(heard) == len(LARGE)
    ranges = [request.headers.get("Range") for request in fault_proxy.requests if request.method == "GET"]
    assert ranges == [None, *(f"bytes={first}-" for first in firsts)]


def test_connection_closed_after_the_whole_body_is_no_failure(storage, fault_proxy, put):
    """The next request finds it gone, and takes another."""
    put(LARGE)
    fault_proxy.script(CutAnswer(len(LARGE)), method="GET")
    assert storage.read("state.pt") == LARGE
    assert storage.keys("") == ["state.pt"]
    assert len(fault_proxy.requests) == 2


def test_download_that_breaks_off_repeatedly_fails(storage, fault_proxy, tmp_path, put):
    """No progress at all is no slow line; the file that was half written is gone."""
    put(LARGE)
    fault_proxy.script(CutAnswer(100), method="GET", times=None)
    with pytest.raises(UnreachableError):
        storage.copy_to("state.pt", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_object_that_changes_during_a_broken_download_is_not_mixed(storage, fault_proxy, put):
    """Half of one checkpoint and half of the next."""
    put(LARGE)
    fault_proxy.script(CutAnswer(2_500_000), method="GET")
    fault_proxy.script(Slow(1e9), method="GET", meanwhile=lambda: put(bytes(len(LARGE))))
    with pytest.raises(ChangedError, match="changed while being read"):
        storage.read("state.pt")


def test_slow_download_is_no_failure(fault_proxy, clock, put):
    """It takes longer than the read timeout, but never stands still."""
    put(LARGE[: 1 << 18])
    fault_proxy.script(Slow(2 << 20), method="GET")
    assert opened(clock, read_s=0.1).read("state.pt") == LARGE[: 1 << 18]
    assert len([request for request in fault_proxy.requests if request.method == "GET"]) == 1


@pytest.mark.parametrize("fault", [Hang(), HangInAnswer(1_500_000)], ids=str)
def test_hanging_server_costs_one_timeout(fault, fault_proxy, clock, put):
    """A connection that a firewall forgot is never answered, or never answered to the end."""
    put(LARGE)
    fault_proxy.script(fault, method="GET")
    assert opened(clock, read_s=0.5).read("state.pt") == LARGE


@pytest.mark.parametrize("fault", [Reset(), ResetInRequest(), LoseAnswer()], ids=lambda fault: type(fault).__name__)
def test_interrupted_put_is_retried(fault, storage, fault_proxy, put):
    """Before, in the middle of and after what was sent: always the whole new object."""
    put(b"old")
    fault_proxy.script(fault, method="PUT", times=2)
    storage.write("state.pt", LARGE)
    assert storage.read("state.pt") == LARGE


def test_put_that_always_breaks_off_leaves_the_old_object(storage, fault_proxy, put):
    """Half a checkpoint in place of a whole one would end the run."""
    put(b"old")
    fault_proxy.script(ResetInRequest(), method="PUT", times=None)
    with pytest.raises(UnreachableError):
        storage.write("state.pt", LARGE)
    assert storage.read("state.pt") == b"old"


def test_create_whose_response_was_lost_is_done_once(storage, fault_proxy):
    """The second attempt is refused because of the first: it would be taken for another's object."""
    storage.excludes()
    fault_proxy.script(LoseAnswer(), method="PUT", key="*/owner.json")
    assert storage.create("owner.json", b"mine")
    assert [request.method for request in fault_proxy.requests[-3:]] == ["PUT", "PUT", "HEAD"]
    assert not storage.create("owner.json", b"another's")
    assert storage.read("owner.json") == b"mine"


def test_replace_whose_response_was_lost_is_done_once(storage, fault_proxy):
    """A heartbeat that went through must not end a run as if another had taken it over."""
    storage.create("owner.json", b"1")
    stamp = storage.stat("owner.json").stamp
    fault_proxy.script(LoseAnswer(), method="PUT")
    assert storage.replace("owner.json", b"2", stamp)
    assert not storage.replace("owner.json", b"3", stamp)
    assert storage.read("owner.json") == b"2"


@pytest.mark.parametrize(
    ("method", "query"), [("PUT", "*partNumber=2*"), ("POST", "*uploads*"), ("POST", "uploadId=*")]
)
@pytest.mark.parametrize("fault", [Refuse(503, "SlowDown"), LoseAnswer()], ids=["503", "LoseAnswer"])
def test_multipart_upload_succeeds_despite_failures(fault, method, query, storage, fault_proxy, small_parts, tmp_path):
    """One part again, not all; and an end whose answer was lost is an end."""
    (tmp_path / "state.pt").write_bytes(LARGE * 3)
    fault_proxy.script(fault, method=method, query=query)
    storage.upload("state.pt", tmp_path / "state.pt")
    assert storage.read("state.pt") == LARGE * 3
    parts = [request for request in fault_proxy.requests if "partNumber" in request.query]
    assert len(parts) == 3 + (method == "PUT")


def test_failed_multipart_upload_is_aborted(storage, fault_proxy, small_parts, client, put, tmp_path):
    """Parts nobody sees are paid for."""
    put(b"old")
    (tmp_path / "state.pt").write_bytes(LARGE * 3)
    fault_proxy.script(Refuse(403, "AccessDenied"), method="PUT", query="*partNumber=3*")
    with pytest.raises(NotPermittedError):
        storage.upload("state.pt", tmp_path / "state.pt")
    assert storage.read("state.pt") == b"old"
    assert "Uploads" not in client.list_multipart_uploads(Bucket="cxr")


REFUSALS = [
    (403, "InvalidAccessKeyId", CredentialsError, "AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", CredentialsError, "AWS_SECRET_ACCESS_KEY"),
    (400, "ExpiredToken", CredentialsError, "get new ones"),
    (400, "InvalidToken", CredentialsError, "AWS_SESSION_TOKEN"),
    (403, "RequestTimeTooSkewed", CredentialsError, "NTP"),
    (403, "AccessDenied", NotPermittedError, "without ListBucket"),
    (404, "NoSuchBucket", RemoteError, "AWS_ENDPOINT_URL"),
    (404, "NoSuchKey", AbsentError, ""),
    (400, "AuthorizationHeaderMalformed", RemoteError, "AWS_REGION"),
    (501, "NotImplemented", RemoteError, ""),
]


@pytest.mark.parametrize(("status", "code", "kind", "hint"), REFUSALS, ids=[row[1] for row in REFUSALS])
def test_refusal_is_reported_at_once_with_a_hint(status, code, kind, hint, storage, fault_proxy):
    """Trying again changes nothing, and each has another cure; an answer to HEAD says less than one to GET."""
    fault_proxy.script(Refuse(status, code), times=None)
    for ask in (storage.read, storage.stat):
        with pytest.raises(kind) as refusal:
            ask("state.pt")
        assert not isinstance(refusal.value, UnreachableError)
        assert hint in (refusal.value.hint or "")
        assert [request.method for request in fault_proxy.requests].count("GET") == 1
        fault_proxy.requests.clear()


def test_missing_right_to_list_a_bucket_is_reported(storage, fault_proxy):
    """Roles with rights to objects alone; to take the refusal for an empty bucket would start the run afresh."""
    fault_proxy.script(Refuse(403, "AccessDenied"), method="GET", query="list-type=2*", times=None)
    storage.write("state.pt", b"1")
    with pytest.raises(NotPermittedError, match="cannot list `s3://cxr/run/`") as refusal:
        storage.keys("")
    assert "ListBucket" in refusal.value.hint
    assert storage.read("state.pt") == b"1"


def test_role_that_cannot_be_assumed_is_a_credentials_error():
    """A service account whose role does not trust it; the refusal is of another service than the bucket's."""
    refusal = ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "AssumeRoleWithWebIdentity"
    )
    error = as_known_error("cannot read `s3://cxr/a`", refusal)
    assert isinstance(error, CredentialsError)
    assert "AWS_ROLE_ARN" in error.hint


def test_untrusted_certificate_is_reported_at_once():
    """Waiting does not make it known."""
    problem = SSLError(endpoint_url="https://minio", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate")
    assert not is_transient(problem)
    assert "AWS_CA_BUNDLE" in as_known_error("cannot read `s3://cxr/a`", problem).hint


def test_missing_right_to_delete_is_reported(storage, fault_proxy):
    """A bucket where nothing may be removed: the run would end at its first surplus checkpoint, and say why."""
    fault_proxy.script(Refuse(403, "AccessDenied"), method="DELETE", times=None)
    storage.write("state.pt", b"1")
    with pytest.raises(NotPermittedError, match="cannot delete") as refusal:
        storage.delete("state.pt")
    assert "DeleteObject" in refusal.value.hint
    assert storage.read("state.pt") == b"1"


def test_refused_sweep_is_no_failure(storage, fault_proxy):
    """To list uploads is a right of its own that few roles have."""
    fault_proxy.script(Refuse(403, "AccessDenied"), method="GET", query="uploads*")
    storage.sweep("")


def test_changed_content_is_refused_by_its_hash(storage, fault_proxy, tmp_path):
    """A flipped bit in weights is not noticed by anything that comes later."""
    storage.write("state.pt", LARGE)
    fault_proxy.script(Corrupt(at=3_000_000), method="GET")
    with pytest.raises(DamagedError, match=r"`[0-9a-f]{12}`.*`[0-9a-f]{12}`"):
        storage.copy_to("state.pt", tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []


def test_content_damaged_in_transit_is_sent_again(storage, fault_proxy):
    """The server compares what arrives with Content-MD5."""
    fault_proxy.script(Refuse(400, "BadDigest"), method="PUT")
    storage.write("state.pt", b"1")
    sent = [request.headers["Content-MD5"] for request in fault_proxy.requests]
    assert sent == ["xMpCOKC5I4INzFCab3WEmw=="] * 2


def test_no_error_or_its_cause_holds_secrets(storage, fault_proxy):
    """Tracebacks go to logs, and logs to whoever helps."""
    fault_proxy.script(Reset(), times=None)
    with pytest.raises(UnreachableError) as refusal:
        storage.read("state.pt")
    told = "".join(traceback.format_exception(refusal.value))
    assert "secret-of-the-test" not in told
    assert "AKIAIOSFODNN7EXAMPLE" not in told


def test_restarted_server_is_reached_again(storage, fault_proxy, clock):
    """A server is restarted: its clients hold connections that are no more."""
    storage.write("state.pt", b"1")
    fault_proxy.stop()
    clock.plans = [(5, fault_proxy.start)]
    assert storage.read("state.pt") == b"1"
