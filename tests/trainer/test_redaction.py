"""What is left out of texts, in whichever form it stands there, and what stays."""

import base64
import io
import json
import re
import sys
from urllib.parse import quote, quote_plus

import pytest

from trainer import redaction
from trainer.redaction import (
    HIDDEN,
    cleaned,
    holds_known,
    holds_secret,
    is_distinctive,
    is_secret_name,
    learn,
    learn_address,
    learn_document,
    learn_text,
    learn_words,
    looks_secret,
    redacted,
    without_login,
)
from trainer.screen import screened

SECRET = "pa/ss w+rd=Zz9'é"
ENVIRONMENT = {"DB_PASSWORD": SECRET}
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7bq2\nqq91kkQWERTY0987zyxw\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        f"{SECRET}\n",
        repr(SECRET),
        repr(repr(SECRET)),
        json.dumps({"x": SECRET}),
        json.dumps({"x": SECRET}, ensure_ascii=False),
        json.dumps({"x": SECRET}).replace("/", "\\/"),
        quote(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda code: code[0].lower(), quote(SECRET, safe="")),
        quote_plus(SECRET),
        SECRET.encode().hex(),
        "\n".join([SECRET[:9], SECRET[9:]]),
        f"│ {SECRET[:9]} │\n│ {SECRET[9:]} │",
        *(base64.b64encode(b"user:"[:length] + SECRET.encode()).decode() for length in range(1, 5)),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.encodebytes(b"x" * 45 + SECRET.encode()).decode(),
    ],
)
def test_known_secret_is_redacted_in_every_encoding(form):
    """Libraries quote, escape, encode and wrap what they show."""
    text = redacted(f"sent {form} to the server", ENVIRONMENT)
    assert HIDDEN in text
    assert text.startswith("sent ")
    assert text.rstrip().endswith("to the server")
    for part in ("ss w+rd", "ss%20w", "ss+w", "w+rd=Zz9", SECRET.encode().hex()[6:20]):
        assert part.lower() not in text.lower()
    encoded = base64.b64encode(SECRET.encode()).decode()
    assert encoded[4:16] not in text


def test_lines_of_a_known_private_key_are_redacted_one_by_one():
    """A traceback shows single lines."""
    assert redacted("got MIIEpAIBAAKCAQEA7bq2!", {"TLS_PRIVATE_KEY": KEY}) == f"got {HIDDEN}!"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("TOKENIZERS_PARALLELISM", "false", "use_cache=false"),
        ("API_KEY", "false", "pretrained: false"),
        ("API_TOKEN", "true", "it is true"),
        ("SECRET", "none", "none"),
        ("PASSWORD", "0", "step 0 of 10"),
        ("MAX_TOKENS", "4096", "4096 images"),
        ("TOKEN_TTL", "3600s", "after 3600s"),
        ("TOKEN", "1234567890", "1234567890 bytes"),
        ("TOKEN_EXPIRES", "2026-11-28T12:00:00Z", "at 2026-11-28T12:00:00Z"),
        ("DB_PASSWORD", "train", "training"),
        ("DB_PASSWORD", "trainer", "python -m trainer"),
        ("DB_PASSWORD", "training", "training"),
        ("DB_PASSWORD", "gpu-01", "gpu-012 of node1gpu-01x"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/token", "cannot read /var/run/secrets/token"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/home/me/.aws/credentials", "in /home/me/.aws/credentials"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/keys/google.json", "in /keys/google.json"),
        ("LAUNCHER_S3_SECRET", "s3-keys-of-cxr", "--s3-secret s3-keys-of-cxr"),
        ("VAULT_SECRET_PATH", "/team/cxr-secrets", "at /team/cxr-secrets"),
        ("TOKEN_URL", "https://login.example.org/oauth2", "at https://login.example.org/oauth2"),
        ("PWD", "/srv/folder-1", "in /srv/folder-1"),
        ("PRIVATE_REGISTRY", "registry.example.org", "image registry.example.org/cxr:1"),
        ("PRIVATE_SUBNET", "10.0.0.0/24", "in 10.0.0.0/24"),
        ("SECRET_NAMESPACE", "team-cxr", "namespace team-cxr"),
        ("SECRETS_BACKEND", "vault-kv2", "vault-kv2"),
        ("JWT_AUDIENCE", "trainer-1", "pod trainer-1"),
        ("GIT_CREDENTIAL_HELPER", "osxkeychain", "osxkeychain"),
        ("TOKEN_IDS", "[101,102]", "[101,102]"),
        ("LANG", "step 12", "step 12"),
    ],
)
def test_ordinary_words_are_not_redacted(name, value, text):
    """A log without its words helps nobody."""
    assert redacted(text, {name: value}) == text


def test_existing_path_is_not_redacted(tmp_path):
    """Whatever the variable is called."""
    (tmp_path / "key-of-1").touch()
    assert redacted(f"in {tmp_path}/key-of-1", {"SSH_PRIVATE_KEY": f"{tmp_path}/key-of-1"}).endswith("key-of-1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at http://me:pw@minio:9000/b", "at http://***@minio:9000/b"),
        ("at https://me:pa/ss@host/b", "at https://***@host/b"),
        ("at https://me:p@ss:w/o@rd@host/b and on", "at https://***@host/b and on"),
        ("at https://me:12/34@host", "at https://***@host"),
        ("at https://token@host/b", "at https://***@host/b"),
        ("at https://:pw@host", "at https://***@host"),
        ("s3://AKIA:pa/ss@cxr/x", "s3://***@cxr/x"),
        ("to=https%3A%2F%2Fme%3Apw%40host", "to=https%3A%2F%2F***%40host"),
        ("GET /b?X-Amz-Signature=abc&x=1", "GET /b?X-Amz-Signature=***&x=1"),
        ("GET /b?x=1&AWSAccessKeyId=AK&Signature=s%2F1&Expires=9", "GET /b?x=1&AWSAccessKeyId=***&Signature=***&Expires=9"),
        ("GET /b?sv=1&sig=abc%3D", "GET /b?sv=1&sig=***"),
        ("GET /b?token=abc HTTP/1.1", "GET /b?token=*** HTTP/1.1"),
        ("a?x=1&amp;X-Goog-Signature=ff", "a?x=1&amp;X-Goog-Signature=***"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("{'Authorization': b'Basic dXNlcjpwYXNz'}", "{'Authorization': b'Basic ***'}"),
        ("got Bearer abcdef0123456789", "got Bearer ***"),
        ("X-Amz-Security-Token: FwoGZXIvYXdzE9", "X-Amz-Security-Token: ***"),
        ("Invalid header value b'Bearer x\\n'", "Invalid header value ***"),
        ("Invalid return character(s) in header value: 'x\\n'", "Invalid return character(s) in header value: ***"),
        ("key AKIAIOSFODNN7EXAMPLE, role ASIAIOSFODNN7EXAMPLE", "key ***, role ***"),
        ("id eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl!", "id ***!"),
        (f"key {KEY} end", "key *** end"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "***"),
        ("password=hunter2 user=me", "password=*** user=me"),
        ("db_password = 'two words' x", "db_password = '***' x"),
        ("AWS_SECRET_ACCESS_KEY=abc", "AWS_SECRET_ACCESS_KEY=***"),
        ("--api-key=abc --lr=0.1", "--api-key=*** --lr=0.1"),
        ("env=[API_KEY=abc, LANG=C]", "env=[API_KEY=***, LANG=C]"),
        ('{"secretAccessKey": "x1y2z3w4"}', '{"secretAccessKey": "***"}'),
        ("client-key-data: LS0tLS1CRUdJTiBSU0E9", "client-key-data: ***"),
        ("- name: HF_TOKEN\n  value: abc", "- name: HF_TOKEN\n  value: ***"),
        ("remote: ghp_0123456789abcdefghijABCDEFGHIJ012345", "remote: ***"),
        ("key sk-proj-Ab3dEf6hIj9kLm2nOp5q", "key ***"),
        ("at http://me:80801x/2@host", "at http://***@host"),
        ("SLACK_WEBHOOK=https://hooks.example.org/T0/B1/xyz", "SLACK_WEBHOOK=***"),
        ("a\\u0026token=abc", "a\\u0026token=***"),
        ("DB_PASS: x1y2z3w4", "DB_PASS: ***"),
        ("{'DB_PASS': 'x1y2z3w4'}", "{'DB_PASS': '***'}"),
        ("GITLAB_PAT = x1y2z3w4", "GITLAB_PAT = ***"),
        ('{\\"basic-auth\\": \\"x1y2z3w4\\"}', '{\\"basic-auth\\": \\"***\\"}'),
    ],
)  # fmt: skip
def test_text_in_the_form_of_a_secret_is_redacted(text, expected):
    """Of servers and users that this process knows nothing of."""
    assert redacted(text, {}) == expected
    assert looks_secret(text)
    assert redacted(expected, {}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "rank 3: loss=0.123 auroc=0.871 images/s=312 lr=1e-4",
        "cannot read `s3://cxr/nih/images/00001_000.png`: no such object",
        "create the Secret: kubectl create secret generic s3 --from-literal=AWS_ACCESS_KEY_ID=…",
        "hint: --env-from-secret API_KEY=SECRET:KEY",
        "s3_secret: s3-keys-1\nimage_pull_secret: [registry-01]",
        "env_from_secret: [WANDB_API_KEY=wandb-1:api-key]",
        "secretKeyRef: {name: s3-1, key: AWS_SECRET_ACCESS_KEY}",
        "Basic authentication failed: authorization required",
        "the bearer must be authenticated",
        "password: incorrect; token: expired",
        "image registry.example.org/cxr@sha256:0123456789abcdef",
        "mail someone@example.org, see https://example.org/@someone",
        "TOKENIZERS_PARALLELISM=false MAX_TOKENS=4096",
        "automountServiceAccountToken: false",
        "http://minio:9000/cxr?list-type=2&prefix=runs%2F&key-marker=x",
        "patient=00001 path=/data/key=1",
        "Segoe UI eyJ AKIA BEGIN PRIVATE KEY",
        'failed calling webhook "v.kb.io": Post "https://kueue-webhook-service.kueue-system.svc:443/validate?timeout=10s": EOF',
        "cannot read `http://minio:9000/cxr/a@b.png`",
        "https://registry:5000/v2/cxr/train@sha256:0123456789abcdef",
        "job sk-chest-xray-densenet121-run-4, npm_config_registry_of_the_institute_and_more",
        "cls_token=torch.Size([1, 1, 768]) pad_token=[PAD] token_ids=[101, 102] token_mixer=conv2",
        "password_policy=strict credential_source=Ec2InstanceMetadata private_ip=10.0.0.12x",
        "vault.hashicorp.com/agent-inject-secret-db1: secret/data/team-1",
        "secretProviderClass: my-provider-1",
        "AllReduce: opCount 12 count 512 [nranks=8] pattern=x1y2z3 commId=0xdeadbeef path=/x pass 3 of 12 key=12345678",
    ],
)
def test_text_that_only_mentions_secrets_is_not_redacted(text):
    """Names of Secrets, files and flags are what a user must see."""
    assert redacted(text, {}) == text


@pytest.mark.parametrize("name", ["API_KEY", "--api-key", "secretAccessKey", "client-key-data", "wandb_api_key", "DB_PWD", "SLACK_WEBHOOK_URL", "github_pat", "aws_session_token", "PASSPHRASE"])  # fmt: skip
def test_variable_names_that_mean_a_secret(name):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "PWD", "OLDPWD", "PATH", "KEYBOARD", "MAX_NEW_TOKENS", "AWS_WEB_IDENTITY_TOKEN_FILE", "secretName", "tokenFile", "SECRET_REF", "author", "patience", "monkey"])  # fmt: skip
def test_variable_names_that_mean_no_secret(name):
    assert not is_secret_name(name)


def test_login_of_a_proxy_without_a_scheme_is_redacted():
    """curl takes `user:password@host`, and a password may hold what ends a host."""
    environment = {"https_proxy": "someone:pa/ss@w0rd@proxy:3128"}
    assert redacted("proxy pa/ss@w0rd and someone:pa/ss@w0rd", environment) == "proxy *** and ***"
    assert redacted("as hunter%2F22", {"DATABASE_URL": "postgres://u:hunter%2F22@db"}) == "as ***"
    assert redacted("as hunter/22", {"DATABASE_URL": "postgres://u:hunter%2F22@db"}) == "as ***"


def test_learned_secret_is_redacted_from_then_on():
    """Keys come from files and services too."""
    assert redacted("a s3cret-1 b", {}) == "a s3cret-1 b"
    learn("s3cret-1\n", None, "no", 5)
    assert redacted("a s3cret-1 b no", {}) == "a *** b no"


def test_secrets_are_learned_from_command_lines_files_and_documents():
    """By the names that stand before the values; what names Secrets is no secret."""
    learn_words(["--set", "api_key=from-set-1", "--token", "from-flag-2", "--env-from-secret", "A_TOKEN=wandb-1:api-key", "--s3-secret", "s3-keys-3"])  # fmt: skip
    learn_text("password: [from-text-4")
    learn_document(
        {"env": ["API_KEY=from-list-5"], "s3_secret": "s3-keys-6", "users": [{"user": {"token": "from-user-7"}}]}
    )
    learn_document({"spec": [{"name": "HF_TOKEN", "value": "from-entry-8"}, {"name": "LANG", "value": "not-secret-9"}]})
    said = "from-set-1 from-flag-2 wandb-1:api-key s3-keys-3 from-text-4 from-list-5 s3-keys-6 from-user-7 from-entry-8 not-secret-9"
    assert redacted(said, {}) == "*** *** wandb-1:api-key s3-keys-3 *** *** s3-keys-6 *** *** not-secret-9"


def test_redacted_documents_keep_their_shape():
    """run.json and `config -o json` are read by programs."""
    document = {"lr": 0.1, "env": ["API_KEY=abc", "LANG=C"], "data": "s3://a:b@cxr/x", "password": "abc", "n": None}
    assert cleaned(document) == {"lr": 0.1, "env": ["API_KEY=***", "LANG=C"], "data": "s3://***@cxr/x", "password": HIDDEN, "n": None}  # fmt: skip
    assert cleaned({"env": [{"name": "TOKEN", "value": "abc"}]}) == {"env": [{"name": "TOKEN", "value": HIDDEN}]}
    assert cleaned(["A_KEY=s:k"], key="env_from_secret") == ["A_KEY=s:k"]


def test_value_that_would_be_redacted_is_refused_in_a_manifest(monkeypatch):
    """What is printed and what is sent would differ."""
    monkeypatch.setenv("HF_TOKEN", "a-token-of-the-test-1\n")
    assert holds_secret("X=a-token-of-the-test-1")
    assert holds_known("s3://x/a-token-of-the-test-1")
    assert not holds_known("A_TOKEN=s3:key-1")


def test_url_is_shown_without_its_login_whatever_that_holds():
    assert without_login("https://u:p/a@b c@host/x?sig=abc") == "https://***@host/x?sig=***"


@pytest.mark.parametrize(
    "value",
    ["hunter2", "swordfish", "Tr0ub4dor&3", "12345678901234", "a-b-c-d", "$ecret12", "ABCDEFGHIJKLMNOP", "<x7&y>z"],
)
def test_distinctive_values_of_secret_variables_are_redacted(value):
    assert is_distinctive(value)
    assert redacted(f"as {value}.", {"PASSWORD": value}) == "as ***."


def test_redacting_stream_changes_nothing_but_secrets(monkeypatch):
    """Whoever writes: print, a warning, a traceback."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("HF_TOKEN", "a-token-1")
    with screened():
        assert sys.stdout.write("a-token-1\n") == 10
        print("api_key: x1y2z3w4", file=sys.stdout)  # noqa: T201 - it is what writes
        sys.stderr.writelines(["a-token-1 ", "api_key: x1y2z3w4"])
        assert not sys.stderr.isatty()
        learn("b-token-2")
        sys.stdout.write("b-token-2\n")
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == "***\napi_key: x1y2z3w4\n***\n"
    assert err.getvalue() == "*** api_key: ***"


@pytest.mark.parametrize("at", range(4, 20, 5))
def test_secret_written_in_two_parts_is_redacted(monkeypatch, at):
    """And what only begins like one is written at a flush, or at the end."""
    secret = "a-token-of-the-test-1"
    monkeypatch.setenv("HF_TOKEN", secret)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with screened():
        sys.stdout.write(f"x {secret[:at]}")
        sys.stdout.write(f"{secret[at:]} y\n")
        assert out.getvalue() == "x *** y\n"
        sys.stdout.write("a-tok")
        sys.stdout.flush()
        assert out.getvalue() == "x *** y\na-tok"
        sys.stdout.write("yes? a-to")
    assert out.getvalue() == "x *** y\na-tokyes? a-to"


@pytest.mark.parametrize("proxy", ["http://me:12345/x9@proxy:3128", "me:12345/x9@proxy:3128"])
def test_proxy_password_that_begins_like_a_port_is_redacted(monkeypatch, proxy):
    """In a text of any origin it would be one, and a path."""
    assert redacted("cannot use 12345/x9", {"HTTPS_PROXY": proxy}) == "cannot use ***"
    learn_address(proxy.replace("x9", "y9"))
    assert redacted("cannot use 12345/y9", {}) == "cannot use ***"


def test_redacting_a_log_line_compiles_no_pattern():
    """Logs of many ranks pass here."""
    stream = redaction._Guarded(io.StringIO(), assigned=True)
    stream.write("rank 0: loss=0.1")
    before = redaction._compiled.cache_info().misses
    for step in range(1000):
        stream.write(f"rank 0: step {step} loss=0.1")
    assert redaction._compiled.cache_info().misses == before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("http://" * 40_000, id="addresses"),
        pytest.param("http://a:" * 30_000 + "@", id="addresses with passwords"),
        pytest.param("password=key=" * 20_000, id="assignments"),
        pytest.param("a=" * 130_000 + "password=1", id="assignments inside each other"),
        pytest.param("password" * 30_000 + "=", id="a long name"),
        pytest.param("password" + " " * 260_000, id="white space"),
    ],
)
def test_redacting_long_repetitive_text_ends_soon(text):
    """A log may have lines of a megabyte: time that grows with their square would be hours, and recursion would end."""
    assert len(redaction.redacted(text, {})) <= len(text) + len(redaction.HIDDEN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("env=[MODE=a,API_KEY=abc123def ]", "env=[MODE=a,API_KEY=*** ]"),
        ("a=b=c=API_KEY=abc123def next", "a=b=c=API_KEY=*** next"),
        ("args: password=\n  next: line1", "args: password=\n  next: line1"),
        ("x://u:p/q@h/a x://y@z", "x://***@h/a x://***@z"),
        ("a://b://c:d@e", "a://***@e"),
    ],
)
def test_secrets_inside_nested_values_are_found(text, expected):
    assert redaction.redacted(text, {}) == expected
