"""Flags of `trainer prepare`."""

import pytest

from trainer.errors import InputError
from trainer.prepare_config import PrepareConfig, from_argv, to_argv


def test_flags_and_configuration_are_the_same():
    """The launcher writes the flags that a pod reads."""
    config = PrepareConfig(
        data="s3://a/b",
        out="/o",
        pack_side=320,
        pack_fit="pad",
        gray_range="12",
        parts="3/16",
        physician_labels_only=True,
    )
    assert from_argv(to_argv(config)) == config
    assert from_argv(["--data", "a", "--out", "b"]) == PrepareConfig(data="a", out="b")


@pytest.mark.parametrize("parts", ["0/4", "5/4", "4", "1/0", "a/b", "1/99999", "-1/2", "1/2/3", "٣/٤"])
def test_share_that_is_none_is_refused(parts):
    with pytest.raises(InputError, match="as a share"):
        PrepareConfig(data="a", out="b", parts=parts)


def test_shares_are_pairs():
    assert PrepareConfig(data="a", out="b", parts="2/3").share == (2, 3)
    assert PrepareConfig(data="a", out="b").share is None


@pytest.mark.parametrize(
    "flags", [{"pack_side": 7}, {"pack_side": 5000}, {"workers": 0}, {"gray_range": "17"}, {"gray_range": "used"}]
)
def test_values_that_cannot_be_used_are_refused_with_their_flag(flags):
    with pytest.raises(InputError, match=r"--(pack-side|workers|gray-range)"):
        PrepareConfig(data="a", out="b", **flags)


def test_unknown_flags_are_refused():
    with pytest.raises(InputError, match="--sied"):
        from_argv(["--data", "a", "--out", "b", "--sied", "3"])
