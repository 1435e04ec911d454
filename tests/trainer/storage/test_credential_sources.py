"""Programs, profiles and services that give no credentials are named; nothing that they print is."""

import hashlib
import json
import sys
import traceback

import boto3
import pytest
from botocore.credentials import SSOProvider
from botocore.exceptions import ClientError

from trainer.location import Location
from trainer.storage import CredentialsError, RetryPolicy, S3Storage, credentials, open_storage, ping_server
from trainer.storage.errors import as_known_error
from trainer.storage.interface import CredentialSourceError

SECRET = "5ecret-0f-the-test"
LATER = "2126-01-01T00:00:00Z"
DOCUMENT = {"Version": 1, "AccessKeyId": "AKIA1", "SecretAccessKey": SECRET, "SessionToken": f"token-{SECRET}"}


class NeverSleeps(RetryPolicy):
    """A policy under which a retry fails the test."""

    def begin(self):
        return self

    count, elapsed_s = 1, 0.0

    def renew(self):
        """A chunk came."""

    def another(self):
        raise AssertionError("it was tried again")


@pytest.fixture
def config(s3, tmp_path, monkeypatch):
    """Write the file of profiles, the only source of credentials; returns the reading that needs them."""
    boto3.client("s3").put_object(Bucket="cxr", Key="run/x", Body=b"1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "config"

    def written(text):
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        return lambda: S3Storage(Location("s3://cxr/run"), policy=NeverSleeps()).read("x")

    return written


@pytest.fixture
def program(config, tmp_path):
    """Write a program of this code as `credential_process`."""

    def written(code):
        path = tmp_path / "program.py"
        path.write_text(code, encoding="utf-8")
        return config(f"[default]\ncredential_process = {sys.executable} {path} --password {SECRET}\n")

    return written


def printing(**changes):
    return f"print({json.dumps(json.dumps(DOCUMENT | changes))})"


def refusal(read):
    """The error of a reading; it is bad input, and no part of it holds the secret."""
    with pytest.raises(CredentialSourceError) as caught:
        read()
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"/no/such/program --password {SECRET}", "cannot start `/no/such/program`: no such file or directory"),
        ("no-such-program", "cannot start `no-such-program`: no such file or directory"),
        ("/dev/null", "cannot start `/dev/null`: permission denied"),
        ("", "its command line is empty"),
        ("program 'open", "its command line is invalid: no closing quotation"),
    ],
)
def test_credential_process_that_cannot_start_is_named(config, command, words):
    """A laptop without the program of the others."""
    message = refusal(config(f"[default]\ncredential_process = {command}\n"))
    assert f"cannot get credentials for S3: {words} (from `credential_process` of the profile `default`)" in message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (f"import sys; sys.exit('expired, SecretAccessKey={SECRET}')", "failed: expired, SecretAccessKey=***"),
        ("import sys; sys.exit(3)", "failed without a message"),
        (f"print('hello {SECRET}')", "printed no JSON document"),
        ("", "printed no JSON document"),
        (f"print('[\"{SECRET}\"]')", "printed no JSON document with Version, AccessKeyId and SecretAccessKey"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "printed text that is not UTF-8"),
        ("print('{}')", "failed: Unsupported version"),
        ("print('{\"Version\": 1}')", "failed: Missing required key in response: 'AccessKeyId'"),
        (printing(Expiration="soon"), "printed an `Expiration` that is not a time"),
        (printing(Expiration=5), "printed an `Expiration` that is not a time"),
        (printing(Expiration="2126-01-01T00:00:00"), "printed an `Expiration` that is not a time"),
        (printing(Expiration="2020-01-01T00:00:00Z"), "printed credentials that have expired"),
    ],
)
def test_credential_process_that_gives_no_credentials_is_named(program, code, words):
    """Its output may hold some, and is never quoted; its message is, without them."""
    message = refusal(program(code))
    assert f"cannot get credentials for S3: `{sys.executable}` {words}" in message
    assert "(from `credential_process` of the profile `default`)" in message


@pytest.mark.parametrize("expires", [{}, {"Expiration": LATER}])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SessionToken": f"a\n{SECRET}"}, "the session token contains a line break"),
        ({"SessionToken": f"é-{SECRET}"}, "the session token contains a line break"),
        ({"SecretAccessKey": f"ключ-{SECRET}"}, "the secret key contains a line break"),
        ({"AccessKeyId": "AKIA\nX"}, "the access key contains a line break"),
        ({"AccessKeyId": 5}, "the access key is not text"),
        ({"AccessKeyId": " "}, "the access key is blank"),
        ({"SecretAccessKey": None}, "the secret key is blank"),
        ({"SecretAccessKey": ""}, "the secret key is blank"),
    ],
)
def test_credential_that_no_header_can_carry_is_refused_at_once(program, changes, expires, words):
    """Whether or not it expires: those that do are fetched again while a run trains."""
    assert words in refusal(program(printing(**changes, **expires)))


def test_credentials_that_expire_are_stripped_too(program):
    read = program(printing(SessionToken=f"token-{SECRET}\n", SecretAccessKey=f" {SECRET}\n", Expiration=LATER))
    assert read() == b"1"


SSO = "sso_account_id = 1\nsso_role_name = r\n"
SSO_SESSION = "[sso-session s]\nsso_start_url = https://x.example.org\nsso_region = us-east-1\n"
ROLE = "role_arn = arn:aws:iam::123456789012:role/r\n"


@pytest.mark.parametrize(
    ("text", "reason", "source"),
    [
        (f"{SSO}sso_start_url = https://x\nsso_region = r\n", "error loading SSO Token: Token for https://x", "SSO"),
        (f"{SSO}sso_session = s\n{SSO_SESSION}", "error loading SSO Token: Token for s does not exist", "SSO"),
        (f"{SSO}sso_session = gone\n", "the specified sso-session does not exist", "SSO"),
        (SSO, "missing required configuration: sso_start_url, sso_region", "SSO"),
        (ROLE, "missing: source_profile or credential_source", "the role"),
        (f"{ROLE}source_profile = gone\n", 'the source_profile "gone" referenced', "the role"),
        (f"{ROLE}source_profile = me\n", "infinite loop", "the role"),
        (f"{ROLE}credential_source = Moon\n", 'the credential source "Moon"', "the role"),
        (f"{ROLE}credential_source = Environment\n", "No credentials found in credential_source", "the role"),
        (
            f"{ROLE}source_profile = b\n[profile b]\ncredential_process = /no/such\n",
            "cannot use `/no/such`",
            "the role",
        ),
    ],
)
def test_profile_that_gives_no_credentials_is_named(config, monkeypatch, text, reason, source):
    """Whatever it says."""
    monkeypatch.setenv("AWS_PROFILE", "me")
    message = refusal(config(f"[profile me]\n{text}"))
    assert reason in message
    assert f"(from {source} of the profile `me`)" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{ROLE}web_identity_token_file = /no/such\n", "cannot read the service account's token: no such file"),
        ("aws_access_key_id = a\n", "missing: aws_secret_access_key (from the profile `default` in the config-file)"),
        ("aws_access_key_id =\naws_secret_access_key = x\n", "the access key is blank (from the profile `default` in"),
    ],
)
def test_keys_and_tokens_of_a_profile_that_are_not_there_are_named(config, text, words):
    assert words in refusal(config(f"[default]\n{text}"))


def test_expired_sso_session_says_how_to_log_in(config, tmp_path, monkeypatch):
    """Every morning."""
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(cache))
    read = config(f"[default]\n{SSO}sso_start_url = https://x.example.org\nsso_region = us-east-1\n")
    name = hashlib.sha1(b"https://x.example.org", usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps({"accessToken": SECRET, "expiresAt": "2020-01-01T00:00:00Z"}))
    message = refusal(read)
    assert "expired" in message
    assert "aws sso login --profile default" in message


def test_role_that_asks_for_an_mfa_code_needs_a_terminal(config, monkeypatch, capfd):
    """A pod has none, and nobody to type it."""
    keys = "aws_access_key_id = a\naws_secret_access_key = b\n"
    read = config(f"[default]\n{ROLE}mfa_serial = arn:aws:iam::1:mfa/me\nsource_profile = b\n[profile b]\n{keys}")
    monkeypatch.setattr(credentials, "TERMINAL", "/no/such")
    assert "asks for an MFA code, and there is no terminal" in refusal(read)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": " ", "AWS_SECRET_ACCESS_KEY": "x"}, "AWS_ACCESS_KEY_ID is blank"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "\n"}, "AWS_SECRET_ACCESS_KEY is blank"),
        ({"AWS_ACCESS_KEY_ID": "ключ", "AWS_SECRET_ACCESS_KEY": "x"}, "the access key contains a line break"),
        ({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "x", "AWS_CREDENTIAL_EXPIRATION": "soon"}, "soon"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://example.org"}, "from AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/no/such",
            },
            "cannot use `/no/such`",
        ),
        (
            {
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": f"a\n{SECRET}",
            },
            "from AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ),
    ],
)
def test_variables_that_give_no_credentials_are_named(config, monkeypatch, variables, words):
    """None of them is an endpoint that is no URL."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert words in refusal(config(""))


@pytest.mark.parametrize("operation", ["AssumeRole", "AssumeRoleWithWebIdentity", "GetRoleCredentials"])
def test_refusal_of_the_service_that_issues_credentials_is_not_the_buckets(operation):
    """Who asks for rights in the bucket asks in the wrong place."""
    response = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
    error = as_known_error("cannot read `s3://cxr/a`", ClientError(response, operation))
    assert isinstance(error, CredentialsError)
    assert f"{operation} was refused with AccessDenied" in str(error)
    assert "bucket" not in str(error)


def test_server_is_found_without_credentials(program):
    """It is not the server that lacks them."""
    program("import sys; sys.exit(3)")
    assert ping_server(Location("s3://cxr/run")).url.startswith("http://127.0.0.1")
    with pytest.raises(CredentialSourceError):
        open_storage("s3://cxr/run")
