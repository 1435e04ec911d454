"""YAML without a library: what is written is what every reader reads."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from launcher.output import as_yaml

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    [
        "",
        "-",
        "- a",
        "a: b",
        "a #b",
        "#",
        "!a",
        "&a",
        "*a",
        "%a",
        "@a",
        "`a",
        "a:",
        "? a",
        "{a",
        "[a]",
        "=",
        "<<",
        "...",
        "... a",
        "...a: b",
        "a'b",
        "\ufeff",
        "\x85",
        "|",
        ">",
    ]
)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda each: st.lists(each) | st.dictionaries(TEXTS, each),
    max_leaves=12,
)


@given(DATA)
def test_yaml_output_is_read_back_unchanged(data):
    """Whatever an overlay or a label holds."""
    assert yaml.safe_load(as_yaml(data)) == data


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "1.10",
        "1e3",
        "0x1F",
        "0o7",
        "1_000",
        "1:30",
        "+1",
        ".5",
        ".",
        "no",
        "Yes",
        "y",
        "ON",
        "null",
        "~",
        ".inf",
        "-.INF",
        ".nan",
        "2026-01-01",
        "2026-01-01T00:00:00Z",
    ],
)
def test_texts_that_yaml_1_1_or_1_2_would_convert_are_quoted(text):
    """YAML 1.1 reads `no`, kubectl's YAML reads `1e3` as a number: a label `team: 1e3` would be refused."""
    assert as_yaml({text: text}) == f'"{text}": "{text}"\n'


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param({"a": {"b": [1, {"c": "d", "e": None}]}}, "a:\n  b:\n  - 1\n  - c: d\n    e: null\n", id="nested"),
        pytest.param([[1, 2], []], "- - 1\n  - 2\n- []\n", id="lists of lists"),
        pytest.param({"a": {}, "b": [], "c": ()}, "a: {}\nb: []\nc: []\n", id="empty"),
        pytest.param(
            {"a": "s3://b/d", "b": "--lr=0.1", "c": "64Gi"}, "a: s3://b/d\nb: --lr=0.1\nc: 64Gi\n", id="plain"
        ),
        pytest.param({"a": '{"b": "it\'s"}'}, "a: '{\"b\": \"it''s\"}'\n", id="single quotes"),
        pytest.param({"a": "b\n\tc\x07"}, 'a: "b\\n\\tc\\a"\n', id="escapes"),
        pytest.param({"a": 1e-05, "b": True}, "a: 1.0e-05\nb: true\n", id="numbers"),
    ],
)
def test_yaml_output_is_formatted_as_kubectls(data, text):
    assert as_yaml(data) == text


@pytest.mark.parametrize("key", ["...", "... a", "...a"])
def test_key_that_looks_like_a_document_end_is_quoted(key):
    """Three dots at the start of a line end a document."""
    assert yaml.safe_load(as_yaml({key: 1})) == {key: 1}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(number):
    """JSON has none, and readers would take them for texts."""
    with pytest.raises(ValueError, match="not a finite number"):
        as_yaml({"a": number})
