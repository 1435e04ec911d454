"""Projections as data sets write them."""

import pytest

from trainer.data.views import view_of


@pytest.mark.parametrize(
    ("text", "view"),
    [
        *[("PA", "PA"), ("postero-anterior", "PA"), ("PA erect", "PA"), ("AP_horizontal", "AP"), ("ap", "AP")],
        *[("L", "LATERAL"), ("LL", "LATERAL"), ("Lateral", "LATERAL"), ("XTABLE LATERAL", "LATERAL")],
        *[("", ""), ("COSTAL", ""), ("LAO", ""), ("SWIMMERS", ""), ("PALM", "")],
    ],
)
def test_views(text, view):
    """Unknown ones are empty."""
    assert view_of(text) == view
