"""Redaction of secrets in output: known secrets by value, others by pattern.

Known are the values of environment variables with secret-sounding names, logins in proxies and endpoints, and what
readers of credentials pass to `learn`: keys, tokens, kubeconfig entries, words of the command line. A value is found
raw, percent-encoded, escaped, in base64 or hexadecimal, and broken over lines.

Printers, log writers and errors call `redacted`; `guarded` applies it to a stream, which covers tracebacks, warnings and the
loggers of libraries. Ordinary words (`false`, short words, numbers), file names and names of Kubernetes Secrets are not redacted.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple, TextIO, cast

HIDDEN: Final = "***"

SHORTEST: Final = 6
"""Length of the shortest value that is redacted; shorter ones would match syllables of ordinary words."""

SHORTEST_WORD: Final = 8
"""The same for a value of letters only."""

LONG: Final = 12
"""A value of this length is no coincidence: it is redacted inside words, too."""

SHORTEST_LINE: Final = 16
"""In a multi-line value such as a private key, lines of this length are secrets of their own; also the least length of
a value that is searched across line breaks.
"""

SHORTEST_BEGUN: Final = 4
"""Characters at the end of a text that may be the beginning of a value."""

CHECK_EVERY_S: Final = 0.1
"""How often a stream checks the environment for changes."""

_NAME: Final = (
    r"SECRET|PASSW|PASSPHRASE|TOKEN(?!IZ)|CREDENTIAL|ACCESS_?KEY|PRIVATE_?KEY|API_?KEY|BEARER|COOKIE|JWT|WEBHOOK(?:_UR[IL])?$"
    r"|(?:^|_)PRIVATE$|CONNECTION_STRING|KEY_DATA$|(?:^|_)(?:AUTH|ACCOUNT|STORAGE|ENCRYPTION|SIGNING|MASTER|SHARED|LICENSE|DEPLOY|CLIENT)_KEY$"
    r"|(?:^|_)(?:PASS|PAT|AUTH|SAS|DSN)$|_PWD$|^PWD_"
)
_PARTS: Final = (
    *(
        "secret",
        "passw",
        "passp",
        "token",
        "credential",
        "key",
        "private",
        "bearer",
        "cookie",
        "jwt",
        "webhook",
        "connection",
        "pwd",
    ),
    *(part + end for part in ("pass", "auth", "pat", "sas", "dsn") for end in ("=", ":", '"', "'", " ", "\\")),
)
"""Parts of such names in lower case; the last five only at the end of a name, as many other words contain them."""

_NAME_OF_ELSE: Final = (
    r"(?:^|_)(?:MAX|MIN|NUM|N)_(?:\w+_)?TOKENS?$|(?:^|_)(?:CLS|CLASS|PAD|MASK|EOS|BOS|SEP|UNK|POS|PATCH)_TOKENS?$"
    r"|_(?:FILE|PATH|DIR|NAME|NAMESPACE|ARN|TYPE|CLASS|EXPIRATION|EXPIRY|EXPIRES|TTL|SECONDS|ENABLED|DISABLED|REQUIRED|ENDPOINT|REF|MODE"
    r"|POLICY|ISSUER|AUDIENCE|ALGORITHM|DOMAIN|BACKEND|PROVIDER|HELPER|ROLE|HOST|PORT|REGION|VERSION|COUNT|LENGTH|SIZE|LIMIT|SCOPES?"
    r"|METHOD|SOURCE|PROCESS|FORMAT|MIXER|DROPOUT|EMBED)S?$|TOKEN_IDS?$"
    r"|(?<!WEBHOOK)_URL$|^GOOGLE_APPLICATION_CREDENTIALS$|^LAUNCHER_|^SECRETS?$|SERVICE_ACCOUNT_TOKEN$|INJECT_SECRET_"
)
"""Names of variables with a number, a place, a method or the name of something; `secret` alone names a Kubernetes Secret.

Source of the last: Vault's annotations, `vault.hashicorp.com/agent-inject-secret-NAME: PATH`.
"""

_REFERENCES: Final = frozenset({"S3_SECRET", "CSI_SECRET", "IMAGE_PULL_SECRET", "ENV_FROM_SECRET"})
"""Settings and flags with names of Kubernetes Secrets and their keys, never values."""

_ORDINARY: Final = frozenset(
    {
        *("disabled", "enabled", "required", "optional", "password", "username", "undefined", "anonymous", "redacted"),
        *("training", "trainer", "chexnet", "launcher", "checkpoint", "checkpoints", "kubernetes"),
    }
)
"""Words that are never redacted, even as the value of a secret variable."""

_NUMBER: Final = r"(?a)[-+]?\d{1,11}(?:[.,:]\d{1,9})*[a-z%]{0,3}"
_DATE: Final = r"(?a)\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[-+]\d\d:?\d\d)?)?"
_PLACEHOLDER: Final = (
    r"[A-Z]{1,11}(?:[_:.-][A-Z]{1,11})*|[*….<>\[\]-]+|<.*>|\$\{?\w+\}?|\$\(.*|\{\w*\}|%s|None|null|b?['\"]{2}"
)
"""Placeholders in help and templates: `SECRET:KEY`, `<key>`, `$TOKEN`, `…`."""

_URL: Final = r"(?i)[a-z][a-z0-9+.-]*://"


def is_secret_name(name: str) -> bool:
    """Whether a variable, flag or field of this name contains a secret: `API_KEY`, `--api-key`, `secretAccessKey`."""
    return _is_secret_name(name)


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    words = _words(name)
    return bool(_compiled(_NAME).search(words)) and not _compiled(_NAME_OF_ELSE).search(words)


def _is_reference(name: str) -> bool:
    return _words(name) in _REFERENCES


def _words(name: str) -> str:
    """`clientKeyData`, `client-key-data` and `--client-key-data` as `CLIENT_KEY_DATA`."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("-").strip())
    return re.sub(r"[-.\s]+", "_", parted).upper()


def is_distinctive(value: str) -> bool:
    """Whether a value is distinctive enough to be searched for: not an ordinary word, number, date or existing file."""
    text = value.strip()
    if len(text) < SHORTEST or _compiled(_NUMBER).fullmatch(text) or _compiled(_DATE).fullmatch(text):
        return False
    if text.isalpha() and (len(text) < SHORTEST_WORD or text.lower() in _ORDINARY):
        return False
    return not (text.startswith(("/", "~/", "./")) and _exists(text))


@lru_cache(maxsize=256)
def _exists(path: str) -> bool:
    with suppress(OSError, ValueError):
        return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111 - avoids importing pathlib
    return False


# Known secrets

_learned: frozenset[str] = frozenset()


def learn(*values: object) -> None:
    """Redact these values from now on; values that are not distinctive are ignored."""
    global _learned  # noqa: PLW0603 - one set per process
    new = {value.strip() for value in values if isinstance(value, str) and is_distinctive(value)}
    if not new <= _learned:
        _learned = _learned | new


def learn_text(text: str) -> None:
    """Learn the secrets that a text itself marks: `API_KEY=…`, `token: …`, logins of URLs."""
    learn(*_logins(text, has_port=True), *_assignments(text))


def learn_address(url: str) -> None:
    """Learn the login of a single address, whatever its password begins with."""
    learn(*_logins(url if "://" in url else f"http://{url}", has_port=False))


def learn_words(words: Sequence[str]) -> None:
    """Learn the values that a command line gives to flags and variables with secret-sounding names."""
    flag = ""
    for word in words:
        name, equals, _ = word.partition("=")
        if _is_reference(flag) or (equals and _is_reference(name)):
            flag = ""
            continue
        if flag and is_secret_name(flag) and not word.startswith("--"):
            learn(word)
        learn_text(word)
        flag = word if word.startswith("--") and not equals else ""


def learn_document(document: object, *, key: str = "") -> None:
    """Learn the secrets of a YAML or JSON document: by names of fields, and of variables in lists."""
    if isinstance(document, str):
        if is_secret_name(key):
            learn(document)
        learn_text(document)
    elif isinstance(document, Mapping):
        if is_secret_name(str(document.get("name", ""))):
            learn(document.get("value"))
        for name, value in document.items():
            if not _is_reference(str(name)):
                learn_document(value, key=str(name))
    elif isinstance(document, Iterable) and not isinstance(document, bytes):
        learn_words([each for each in document if isinstance(each, str)])
        for each in document:
            learn_document(each, key=key)


def stripped(value: str) -> str:
    """A credential without surrounding white space from a file or a paste; also learned."""
    value = value.strip()
    learn(value)
    return value


def is_one_word(value: str) -> bool:
    """Whether a credential is valid in a header: printable ASCII without white space."""
    return all("!" <= char <= "~" for char in value)


def _of_environment(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of secret variables, and logins in the other variables."""
    secrets: list[str] = []
    for name, raw in environment.items():
        value = raw.strip()
        is_name_of_key = name.upper().endswith("ACCESS_KEY_ID") and not any(char.isdigit() for char in value)
        if (
            _is_secret_name(name)
            and not is_name_of_key
            and ("WEBHOOK" in name.upper() or not _compiled(_URL).match(value))
        ):
            secrets.append(value)
        if "@" in value:
            is_proxy = name.upper().endswith("_PROXY") and "://" not in value
            # An address with an `@` that is the whole value usually has a login.
            is_address = is_proxy or _compiled(_URL).match(value)
            secrets += _logins(f"http://{value}" if is_proxy else value, has_port=not is_address)
    return tuple(value for value in dict.fromkeys(secrets) if is_distinctive(value))


_AFTER_SCHEME: Final = r"(?<=://)[^\s\"<>`]+"

_PORT: Final = r"[^\s/:@]*:(?:80|443|\d{4,5})/"
"""A host, its port and a path: in free text, `http://minio:9000/cxr/a@b.png` has no login."""


def _login_spans(address: str, *, has_port: bool) -> Iterator[tuple[int, int]]:
    """Positions of user and password in the text after a `://`; they may contain unencoded `/`, `@` and `:`.

    A login with a password therefore ends at the last `@`. With `has_port`, something like a port is taken as one, not
    as a password. Each character is visited a few times only, however many addresses follow.
    """
    start, last = 0, address.rfind("@")
    while start <= last:
        slash, colon = address.find("/", start) % (len(address) + 1), address.find(":", start)
        has_password = start <= colon < min(slash, last) and not (has_port and _compiled(_PORT).match(address, start))
        end = last if has_password else address.rfind("@", start, slash)
        if end >= 0:
            yield start, end
        following = address.find("://", max(start, end))
        if following < 0:
            return
        start = following + len("://")


def _logins(text: str, *, has_port: bool) -> Iterator[str]:
    """Passwords and logins in the URLs of a text, as written and decoded."""
    if "@" not in text or "://" not in text:
        return
    from urllib.parse import unquote  # noqa: PLC0415 - slow import, needed for a login only

    for match in _compiled(_AFTER_SCHEME).finditer(text):
        for start, end in _login_spans(match[0], has_port=has_port):
            user, colon, password = match[0][start:end].partition(":")
            for secret in (match[0][start:end] if colon else user, password):
                yield from {secret, unquote(secret)}


def _without_logins(match: re.Match[str]) -> str:
    """The text after a `://` without its logins."""
    pieces, position = [], 0
    for start, end in _login_spans(match[0], has_port=True):
        pieces += [match[0][position:start], HIDDEN]
        position = end
    return "".join([*pieces, match[0][position:]])


# Repetitions are bounded, so that no text takes longer than linear time.
_NAMED: Final = (
    r"(?P<name>[A-Za-z_][\w.-]{0,100})(?P<sign>(?:\\{0,8}[\"'])?\s{0,100}(?:=|:(?!//))\s{0,100}b?)(?=[^\s`&,;|)}])"
)
_VALUE: Final = r"\\{0,8}\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'`&,;|)}]+"
_ENTRY: Final = (
    r"(?P<name>\bname[\"']?\s*[:=]\s*[\"']?)(?P<variable>[A-Za-z_][\w.-]*)"
    r"(?P<sign>[\"']?[\s,]+[\"']?value[\"']?\s*[:=]\s*)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s\"'`&,;|)}]+)"
)
"""A variable of a pod: `{name: API_KEY, value: …}`."""


def _assignments(text: str) -> Iterator[str]:
    """Values of `NAME=VALUE`, `NAME: VALUE` and `{name: NAME, value: VALUE}` with secret names."""
    if not _may_name_a_secret(text.lower()):
        return
    for match in _compiled(_ENTRY).finditer(text):
        if is_secret_name(match["variable"]):
            yield from _bare(match["value"])
    for name, _, start, end in _assigned(text):
        if is_secret_name(name) and not _is_reference(name):
            yield from _bare(text[start:end])


def _assigned(text: str) -> Iterator[tuple[str, str, int, int]]:
    """Name and sign of each `NAME=VALUE` and `NAME: VALUE`, with start and end of the value.

    Assignments inside a value, as in `env=[API_KEY=…]`, follow it. The inside of a secret, or of a reference to one, is
    skipped. Each character is visited a few times only, however deep assignments are nested.
    """
    position, inside = 0, 0
    while match := _compiled(_NAMED).search(text, position):
        position = start = match.end()
        if match.start() < inside <= start:  # its value would be outside
            continue
        if start >= inside:  # an unquoted value inside another ends where that ends
            value = _compiled(_VALUE).match(text, start)
            if value is None:
                continue
            inside = start if text[start] in "\"'\\" else value.end()
            end = value.end()
        else:
            end = inside
        yield match["name"], match["sign"], start, end
        if is_secret_name(match["name"]) or _is_reference(match["name"]):
            position = end


def _bare(value: str) -> Iterator[str]:
    """A value without quotes, and without the brackets of a list at its ends."""
    yield value.strip("\"'\\")
    yield value.strip("\"'\\[]{}(")


# Forms of a value in a text


def _forms(value: str) -> Iterator[str]:
    """The value itself, its encoded, quoted and escaped forms, and its lines."""
    import json  # noqa: PLC0415 - needed only when there is a secret to redact
    from urllib.parse import quote, quote_plus  # noqa: PLC0415

    lines = [line.strip() for line in value.splitlines()]
    if len(lines) > 1:
        yield from (line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("-----"))
    quoted = [quote(value, safe=""), quote(value), quote_plus(value), quote(value, safe="/:@+=")]
    escaped = [
        repr(value)[1:-1],
        json.dumps(value)[1:-1],
        json.dumps(value)[1:-1].replace("/", "\\/"),
        value.encode("unicode_escape").decode(),
    ]
    yield value
    for each in (*quoted, *escaped):
        yield from (each, each.replace("'", "\\'"), each.replace('"', '\\"'))
        yield re.sub(r"%[0-9A-F]{2}", lambda code: code[0].lower(), each)
        yield repr(each)[1:-1]
    in_html = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    yield from (
        in_html,
        in_html.replace('"', "&quot;").replace("'", "&#x27;"),
        in_html.replace('"', "&#34;").replace("'", "&#39;"),
    )
    yield value.replace("'", "'\"'\"'")  # shlex.quote
    if len(value) >= SHORTEST_WORD:
        yield from _in_base64(value.encode(errors="surrogateescape"))
        yield from (value.encode(errors="surrogateescape").hex(), value.encode(errors="surrogateescape").hex().upper())


def _in_base64(value: bytes) -> Iterator[str]:
    """The part of the base64 text that does not depend on the bytes before and after the value."""
    from base64 import b64encode  # noqa: PLC0415 - as above

    for before in range(3):
        encoded = b64encode(b"\0" * before + value).decode()
        certain = encoded[-(-before * 8 // 6) : (before + len(value)) * 8 // 6]
        if len(certain) >= SHORTEST_WORD:
            yield from (certain, certain.replace("+", "-").replace("/", "_"))


@lru_cache(maxsize=16)
def _forms_of(values: frozenset[str]) -> tuple[str, ...]:
    """Forms of all these values, longest first."""
    forms = {form for value in values for form in _forms(value) if len(form) >= SHORTEST}
    return tuple(sorted(forms, key=len, reverse=True))


@lru_cache(maxsize=16)
def _pattern_of(values: frozenset[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(_bounded, _forms_of(values))))


def _bounded(form: str) -> str:
    """A pattern for the form; a short one matches only as a whole word."""
    if len(form) >= LONG:
        return re.escape(form)
    before, behind = (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])")
    return f"{before if form[0].isalnum() else ''}{re.escape(form)}{behind if form[-1].isalnum() else ''}"


_GAP: Final = r"[ \t\r│|]*(?:\n|\\n)[ \t│|]*"
"""Line break, with a table's border, in a value that a table or an encoder has wrapped."""


def _without_broken(text: str, pattern: re.Pattern[str]) -> str:
    """The text without long values that are wrapped over lines."""
    gaps = [match.span() for match in _compiled(_GAP).finditer(text)]
    joined: list[str] = []
    places: list[int] = []
    position = 0
    for start, end in [*gaps, (len(text), len(text))]:
        joined.append(text[position:start])
        places += range(position, start)
        position = end
    for match in reversed(list(pattern.finditer("".join(joined)))):
        start, end = places[match.start()], places[match.end() - 1] + 1
        if match.end() - match.start() >= SHORTEST_LINE:
            text = text[:start] + HIDDEN + text[end:]
    return text


# Secrets recognised by pattern


class _Pattern(NamedTuple):
    """A kind of secret; tried only on texts that contain one of the lower-case marks."""

    marks: tuple[str, ...]
    source: str
    replacement: str | Callable[[re.Match[str]], str]


def _hidden_unless_word(match: re.Match[str]) -> str:
    """The match with its last group hidden, unless that is a word of a sentence."""
    value = match[match.lastindex or 0]
    letters = value.strip(".,:;").replace("-", "")
    is_word = len(value) < SHORTEST or (letters.isalpha() and letters[1:].islower() and len(value) < 24)
    return match[0] if is_word or _compiled(_PLACEHOLDER).fullmatch(value) else match[0][: -len(value)] + HIDDEN


def _hidden_values(text: str) -> str:
    """The text with the values of secret names hidden."""
    pieces: list[str] = []
    done = 0
    for name, sign, start, end in _assigned(text):
        is_secret = is_secret_name(name) and not _is_reference(name)
        if start < done or (not is_secret and text.find("=", start, end) >= 0):  # assignments inside it come next
            continue
        pieces += [text[done:start], _hidden_value(sign, text[start:end]) if is_secret else text[start:end]]
        done = end
    return "".join([*pieces, text[done:]])


def _hidden_value(sign: str, quoted: str) -> str:
    """The value of a secret name, hidden; after a colon it must also look like a secret."""
    value = quoted.strip("\"'\\")
    if not value or _compiled(_PLACEHOLDER).fullmatch(value) or _compiled(_NUMBER).fullmatch(value):
        return quoted
    if value.lower() in {"true", "false", "none", "null", "yes", "no"}:
        return quoted
    if ":" in sign and not (is_distinctive(value) and re.search(r"\d", value)):
        return quoted
    return quoted.replace(value, HIDDEN)


def _if_entry(match: re.Match[str]) -> str:
    """A pod's variable, with its value hidden if its name is secret."""
    if not is_secret_name(match["variable"]):
        return match[0]
    return f"{match['name']}{match['variable']}{match['sign']}{HIDDEN}"


_QUERY_NAMES: Final = (
    r"x-amz-[\w-]+|x-goog-[\w-]+|awsaccesskeyid|signature|sig|(?:access|id|refresh|auth|session|security)?[-_]?token"
    r"|(?:api|access|secret|account)?[-_]?key|key-pair-id|policy|passw\w*|pwd|(?:client[-_]?)?secret|credentials?|jwt|code|auth"
)

_SHAPES: Final = (
    _Pattern(("private key-----",), r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", HIDDEN),
    _Pattern(("://",), _AFTER_SCHEME, _without_logins),
    _Pattern(("%3a%2f%2f",), r"(?i)(?<=%3A%2F%2F)[^\s&\"'<>]*(?=%40)", HIDDEN),
    _Pattern(("?", "&", "u0026", "%26", "%3f"), rf"(?i)((?:[?&]|&amp;|\\u0026|%26|%3f)(?:{_QUERY_NAMES})(?:=|%3D))[^&\s\"'`<>\\]+", rf"\1{HIDDEN}"),
    _Pattern(("x-amz-", "credential=", "signature="), r"(?i)\b((?:X-Amz-(?:Credential|Signature|Security-Token)|Credential|Signature)=)[^&\s\"',<>]{6,}", rf"\1{HIDDEN}"),
    _Pattern(("header value",), r"(?is)(header value:?\s*)b?(?:'.*?(?<!\\)'|\".*?(?<!\\)\")", rf"\1{HIDDEN}"),
    _Pattern(
        ("authorization", "-token", "api-key", "cookie", "customer-key"),
        r"(?i)((?:(?:proxy-)?authorization|x-amz-security-token|x-auth-token|x-api-key|x-vault-token|private-token|(?:set-)?cookie"
        r"|x-amz-server-side-encryption-customer-key(?:-md5)?)[\"']?\s*[:=,>]\s*b?[\"']?(?:(?:bearer|basic|digest|token|apikey|negotiate|ntlm|aws)\s+)?)"
        r"([^\s\"',;&)}\]<]+)",
        _hidden_unless_word,
    ),
    _Pattern(("bearer", "basic"), r"(?i)\b((?:bearer|basic)(?:\s+|%20|\+))([\w.~+/=%-]{6,})", _hidden_unless_word),
    _Pattern(("akia", "asia", "abia", "acca", "aroa", "aida"), r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])", HIDDEN),
    _Pattern(("eyj",), r"(?<![A-Za-z0-9])eyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?", HIDDEN),
    _Pattern(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "hf_", "sk-", "aiza", "dckr_pat_", "npm_", "pypi-"),
        r"(?<![A-Za-z0-9])(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeprs]-[\w-]{10,}|hf_[A-Za-z0-9]{20,}"
        r"|sk-(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{20,}|AIza[\w-]{30,}|dckr_pat_[\w-]{20,}|npm_[A-Za-z0-9]{30,}|pypi-AgE[\w-]{30,})",
        HIDDEN,
    ),
)  # fmt: skip
_MARKS: Final = tuple(mark for pattern in _SHAPES for mark in pattern.marks)

_ASSIGNMENT: Final = (
    r"(?:(?:secret|passw|passp|token|credential|key|private|bearer|cookie|jwt|webhook|connection|pwd)[\w.-]{0,100}|pass|pat|auth|sas|dsn)"
    r"(?:\\{0,8}[\"'])?\s{0,100}[=:]"
)
"""Lower-case text before every value hidden by name; searching for it first is many times faster."""


@cache
def _compiled(source: str) -> re.Pattern[str]:
    """Compiled on first use: a short command of the launcher needs few patterns."""
    return re.compile(source)


def redacted(text: str, environment: Mapping[str, str] | None = None, *, assigned: bool = True) -> str:
    """The text with `***` for each known or recognised secret.

    `environment` defaults to this process's. Without `assigned`, the values of `NAME=VALUE` and `NAME: VALUE` are kept
    when only the name looks secret: in documents, such names may refer to Kubernetes Secrets.
    """
    return _by_shape(_by_value(text, _known(os.environ if environment is None else environment)), assigned=assigned)


def _known(environment: Mapping[str, str]) -> frozenset[str]:
    return _learned.union(_of_environment(environment))


def _by_value(text: str, values: frozenset[str]) -> str:
    forms = _forms_of(values)
    for form in forms:  # most texts have none, and single searches are faster than one for all
        if form in text:
            text = _pattern_of(values).sub(HIDDEN, text)
            break
    if forms and ("\n" in text.rstrip("\n") or "\\n" in text):
        text = _without_broken(text, _pattern_of(values))
    return text


def _by_shape(text: str, *, assigned: bool) -> str:
    small = text.lower()
    for mark in _MARKS:  # most texts have none, and a log may have many lines a second
        if mark in small:
            text = _without_shapes(text, small)
            break
    return without_assigned(text) if assigned else text


def _without_shapes(text: str, small: str) -> str:
    for pattern in _SHAPES:
        if any(mark in small for mark in pattern.marks):
            text = _compiled(pattern.source).sub(pattern.replacement, text)
    return text


def without_assigned(text: str) -> str:
    """The text with the values of `NAME=VALUE` and `NAME: VALUE` hidden where the name is secret."""
    small = text.lower()
    if not _may_name_a_secret(small):
        return text
    if "value" in small:
        text = _compiled(_ENTRY).sub(_if_entry, text)
    return _hidden_values(text) if _compiled(_ASSIGNMENT).search(small) else text


def _may_name_a_secret(small: str) -> bool:
    """Whether a lower-case text has a part of any secret name; a fast check that most texts fail."""
    for part in _PARTS:  # noqa: SIM110 - a generator takes twice as long
        if part in small:
            return True
    return False


def holds_secret(text: str) -> bool:
    """Whether a text has a login, key or token, known or recognised, and must not be shown."""
    return looks_secret(text) or holds_known(text)


def holds_known(text: str) -> bool:
    """`holds_secret` for known secrets only."""
    return _by_value(text, _known(os.environ)) != text


def looks_secret(text: str) -> bool:
    """`holds_secret` for recognised secrets only."""
    return _by_shape(text, assigned=True) != text


def without_login(url: str) -> str:
    """A URL to show in a message, without user, password and signature."""
    return redacted(re.sub("(?s)//.*@", f"//{HIDDEN}@", url))


def cleaned(document: Any, *, key: str = "") -> Any:  # noqa: ANN401 - any JSON
    """A document to show: secret fields and variables without their values, other texts `redacted`."""
    if isinstance(document, str):
        return (
            HIDDEN
            if document and is_secret_name(key) and not _is_reference(key)
            else redacted(document, assigned=not _is_reference(key))
        )
    if isinstance(document, Mapping):
        hides = is_secret_name(str(document.get("name", ""))) and "value" in document
        return {
            name: HIDDEN if hides and name == "value" else cleaned(value, key=str(name))
            for name, value in document.items()
        }
    if isinstance(document, list | tuple):
        return type(document)([cleaned(each, key=key) for each in document])
    return document


class _Guarded:
    """A stream that redacts written text and delegates everything else.

    An end of the text that may begin a known value is held back until the next write or flush.
    """

    def __init__(self, stream: TextIO, *, assigned: bool) -> None:
        self._stream = stream
        self._assigned = assigned
        self._values: frozenset[str] = frozenset()
        self._checked: tuple[float, object] = (-CHECK_EVERY_S, None)
        self._held_back = ""

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        now = time.monotonic()
        # Not for each line: a log may have many per second.
        if self._checked[1] is not _learned or now - self._checked[0] >= CHECK_EVERY_S:
            self._checked, self._values = (now, _learned), _known(os.environ)
        length = len(text)
        if self._held_back:
            text, self._held_back = self._held_back + text, ""
        if self._values and not text.endswith("\n"):
            end = len(text) - _unfinished_length(text, _forms_of(self._values))
            text, self._held_back = text[:end], text[end:]
        self._put(text)
        return length

    def _put(self, text: str) -> None:
        self._stream.write(_by_shape(_by_value(text, self._values), assigned=self._assigned))

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write held-back text, too."""
        if self._held_back:
            held_back, self._held_back = self._held_back, ""
            self._put(held_back)
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the stream has
        return getattr(self._stream, name)


def _unfinished_length(text: str, forms: Iterable[str]) -> int:
    """Length of the text's end that begins one of the forms without completing it; 0 when shorter than `SHORTEST_BEGUN`."""
    longest = 0
    for form in forms:
        for size in range(min(len(form) - 1, len(text)), max(longest, SHORTEST_BEGUN - 1), -1):
            if text.endswith(form[:size]):
                longest = size
                break
    return longest


def guarded(stream: TextIO, *, assigned: bool = True) -> TextIO:
    """The stream with every written text `redacted`."""
    return cast("TextIO", _Guarded(stream, assigned=assigned))
