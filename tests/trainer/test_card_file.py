"""The file of `--card`: read as data, strictly, and carried on one line."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.card_file import FIELDS, MOST_CHARS, as_text, parsed, stated_fields
from trainer.config import from_argv, to_argv
from trainer.errors import InputError

REQUIRED = ["--data", "d", "--output", "o", "--name", "n"]

CARD = """\
# of the example hospital
owner: Ward 7, Example Hospital
contact: cxr@example.org
collection_period: 2019
ethics_approval: >
  approved by the board,
  no. 2025-17
funding:
limitations: ~
"""

FIELDS_OF_CARD = {
    "owner": "Ward 7, Example Hospital",
    "contact": "cxr@example.org",
    "collection_period": "2019",
    "ethics_approval": "approved by the board, no. 2025-17",
}


def refusal(text):
    with pytest.raises(InputError) as refused:
        parsed(text, "the card `c.yaml`")
    assert refused.value.hint
    return str(refused.value).partition("\n\nhint: ")[0]


def test_every_value_is_text_on_one_line_and_empty_fields_are_absent():
    """A year stays a text, and a folded text becomes one line, as a table needs."""
    assert parsed(CARD) == FIELDS_OF_CARD
    assert parsed("") == parsed("# nothing yet\n") == {}
    assert parsed("owner: no\ncontact: 2020-01-02") == {"owner": "no", "contact": "2020-01-02"}


def test_file_is_read_when_the_flags_are_and_travels_inside_them(tmp_path, monkeypatch):
    """A pod has no file of the user's machine."""
    (tmp_path / "card.yaml").write_text(CARD)
    monkeypatch.chdir(tmp_path)
    for flags in (["--card", "card.yaml"], [f"--card={tmp_path}/card.yaml"]):
        config = from_argv([*REQUIRED, *flags])
        assert json.loads(config.card) == FIELDS_OF_CARD
    (tmp_path / "card.yaml").unlink()
    assert from_argv(to_argv(config)) == config


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("owner: a\nlicense: MIT\n", "cannot use the card `c.yaml`: unknown field `license` (from `--card`)"),
        ("a: b\nc: d", "unknown fields `a`, `c`"),
        ("owner: [a, b]", "owner: it must be a text, got a list"),
        ("owner: {a: b}", "owner: it must be a text, got a mapping"),
        (f"owner: {'a' * (MOST_CHARS + 1)}", "owner: it has 1,001 characters, at most 1,000 are allowed"),
        ('owner: "a\\u202eb"', "owner: it has unprintable characters"),
        ("contact: https://me:swordfish99@example.org/", "contact: it contains a login, a key or a token"),
        ("- owner", "it is not a mapping of fields"),
        ("just text", "it is not a mapping of fields"),
        ("owner: a\nowner: b", "the field `owner` is there twice"),
        ("owner: 'a", "cannot read the card `c.yaml`: found unexpected end of stream in line 1"),
        ("owner: &x [*x]", "cannot read the card `c.yaml`: it refers to itself"),
        ("? [a]\n: b", "cannot read the card"),
        ("<<: {owner: a}", "unknown field `<<`"),
    ],
)
def test_what_is_no_card_is_refused_by_name_and_without_its_content(text, complaint):
    """The file may be another one, with secrets."""
    message = refusal(text)
    assert complaint in message
    assert "swordfish" not in message
    assert "aaaa" not in message


def test_a_tag_makes_no_object():
    """The file is data."""
    assert parsed("owner: !!int x") == {"owner": "x"}
    assert "must be a text, got a list" in refusal("owner: !!python/object/apply:os.system [true]")


def test_hint_names_the_known_fields():
    with pytest.raises(InputError) as refused:
        parsed("licence: MIT")
    assert "weights_licence" in refused.value.hint


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("none.yaml", "no such file or directory, got `none.yaml`"),
        ("", "no file, got ``"),
        (".", "is a directory, got `.`"),
    ],
)
def test_file_that_is_not_there_is_refused_before_the_job_starts(name, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cannot read the card") as refused:
        from_argv([*REQUIRED, "--card", name])
    assert complaint in str(refused.value)
    assert "a file on this machine" in refused.value.hint


def test_pipe_that_nobody_writes_to_is_refused(tmp_path):
    """It would wait for ever."""
    os.mkfifo(tmp_path / "card.yaml")
    with pytest.raises(InputError, match="it is a pipe"):
        from_argv([*REQUIRED, "--card", str(tmp_path / "card.yaml")])


@given(
    st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(st.characters(exclude_categories=("C", "Z")), min_size=1))
)
def test_one_line_gives_the_same_fields_again(fields):
    """Whatever signs they have: the line is JSON, and JSON is YAML."""
    fields = {key: value for key, value in fields.items() if value not in {"~", "null"}}
    text = as_text(fields)
    assert "\n" not in text
    assert "$" not in text  # Kubernetes would replace `$(NAME)`
    assert json.loads(text) == fields


def test_fields_of_a_record_are_texts_of_known_names():
    """A run may be of another version, or of somebody else."""
    written = {
        "owner": "a",
        "funding": 3,
        "x": "y",
        "contact": "",
        "protocol": "p" * 1001,
        "limitations": "s3://k:s4321@b/",
    }
    assert stated_fields({"card": written}) == {"owner": "a"}
    assert stated_fields(None) == stated_fields({}) == stated_fields({"card": [1]}) == {}
