"""What is over a limit is named before it takes memory or time."""

import gzip
import io
import os
import zlib

import pytest
import yaml

from trainer import limits
from trainer.limits import LimitError, gunzipped, parsed_json, parsed_yaml

HOSTILE_JSON = {
    "deep": b"[" * 100_000,
    "deep and whole": b"[" * 65 + b"]" * 65,
    "long number": b"[" + b"9" * 5000 + b"]",
    "power": b"[1e400]",
    "minus power": b"[-1e400]",
    "not a number": b"[NaN]",
    "infinite": b"[-Infinity]",
    "twice": b'{"a": 1, "a": 2}',
    "half a character": b'["\\ud800"]',
    "half a character as key": b'{"\\uDFFF": 1}',
    "order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "UTF-32": "{}".encode("utf-32"),
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "cut off": b'{"a": ',
    "NUL": b"\0",
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_json_that_our_programs_never_write_is_refused_as_a_bad_value(content):
    """Whoever reads catches one kind of error."""
    with pytest.raises(ValueError, match=r"."):
        parsed_json(content)


def test_json_with_too_many_values_is_refused_before_it_is_built(monkeypatch, in_memory):
    """64 MiB of empty lists are gigabytes of objects."""
    monkeypatch.setattr(limits, "JSON_NODES", 1000)
    content = b"[" + b"{}," * 300_000 + b"{}]"
    with in_memory(len(content)), pytest.raises(LimitError, match="more than 1,000 values"):
        parsed_json(content, most_nodes=1000)


def test_json_longer_than_its_limit_is_refused():
    """By its length alone."""
    with pytest.raises(LimitError, match="more than 4 bytes"):
        parsed_json(b"[1,2]", most_bytes=4)


def test_json_of_our_own_documents_is_read():
    """Pairs of surrogates are whole characters."""
    assert parsed_json(b'{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}') == {"a": [1, 2.5, None, True, "😀"]}


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(9 * [f'*{before}'])}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

HOSTILE_YAML = {
    "aliases of aliases": LAUGHS,
    "merged aliases": LAUGHS.replace("[x,x,x,x,x,x,x,x,x]", "{x: 1}")
    .replace(": &", ": &")
    .replace("[*", "{<<: [*")
    .replace("*a]", "*a]}")
    .replace("]\n", "]}\n")
    .replace("]}}\n", "]}\n"),
    "itself": "&a [*a]",
    "itself as a value": "&a {x: {y: *a}}",
    "itself as a key": "&a !!set {? *a}",
    "deep": "[" * 5000,
    "deep mappings": "{a: " * 5000,
    "deep blocks": "\n".join(" " * depth + "-" for depth in range(400)),
    "long": "a: " + "x" * limits.YAML_BYTES,
    "many": "- a\n" * 3000,
    "long number": "a: " + "9" * 5000,
    "long number of base 60": "a: 1" + ":1" * 5000,
    "long binary number": "a: 0b" + "1" * 5000,
    "date": "a: 2020-13-01",
    "year": "a: 0000-01-01",
    "zone": "a: 2001-12-14t21:59:43.10-99:00",
    "tag of a date": "a: !!timestamp x",
    "tag of a truth": "a: !!bool x",
    "tag of a number": "a: !!int x",
    "tag of bytes": "a: !!binary ä",
    "half a character": 'a: "\\ud800"',
    "code": "a: !!python/object/apply:os.system [true]",
    "list as a key": "? [1]\n: 2",
    "two documents": "a: 1\n---\nb: 2",
    "nowhere": "a: *b",
}


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader], ids=["python", "c"])
@pytest.mark.parametrize("text", HOSTILE_YAML.values(), ids=HOSTILE_YAML)
def test_yaml_whose_aliases_would_grow_is_refused_before_it_is_expanded(text, loader, monkeypatch):
    """Nine lines of aliases are a billion values once somebody writes them out."""
    monkeypatch.setattr(limits, "YAML_NODES", 2000)
    with pytest.raises((ValueError, yaml.YAMLError)):
        parsed_yaml(text, loader)


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader, yaml.BaseLoader])
def test_yaml_with_a_few_aliases_is_read(loader):
    """Templates use them."""
    text = (
        "b: &b {x: a, y: [c]}\nc: *b\nd: &b z\n"
        if loader is yaml.BaseLoader
        else "b: &b {x: 1}\nc: {<<: *b, y: 2}\nd: [*b, *b]\n"
    )
    text = text.replace("d: &b z\n", "")
    assert parsed_yaml(text, loader) == yaml.load(text, Loader=loader)
    assert parsed_yaml("# nothing", loader) is None


def test_gzip_is_unpacked_up_to_the_limit_and_no_further(in_memory):
    """3 MB unpack to 3 GB."""
    packed = gzip.compress(bytes(8 << 20))
    with in_memory(6 << 20), pytest.raises(LimitError, match="unpacks to more than 1 MiB"):
        gunzipped(packed, most_bytes=1 << 20)
    assert gunzipped(packed, most_bytes=8 << 20) == bytes(8 << 20)


def test_gzip_of_many_members_is_whole_and_of_far_too_many_refused():
    """`cat a.gz b.gz` is a gzip file; a million empty ones take minutes and give nothing."""
    assert gunzipped(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
    with pytest.raises(LimitError, match="more than 10,000 pieces"):
        gunzipped(gzip.compress(b"") * 10_001)


@pytest.mark.parametrize(
    "damage",
    [
        lambda one: one[:-9],
        lambda one: b"x" + one,
        lambda one: one + b"rest",
        lambda one: one[:20] + b"\xff" * 9 + one[29:],
    ],
)
def test_damaged_gzip_is_reported_as_damaged(damage):
    """In two kinds of errors, whatever the library raises."""
    with pytest.raises((zlib.error, EOFError)):
        gunzipped(damage(gzip.compress(bytes(range(256)) * 9)))


def test_file_above_its_limit_is_not_read(tmp_path):
    """Its size is known: gigabytes of a state would be read first, and might not fit."""

    class Unread(io.FileIO):
        def read(self, *_):
            raise AssertionError

    (tmp_path / "long").touch()
    os.truncate(tmp_path / "long", 1 << 40)
    with Unread(tmp_path / "long") as file, pytest.raises(LimitError, match="more than 4096 MiB"):
        limits.read_at_most(file, limits.STATE_BYTES)
