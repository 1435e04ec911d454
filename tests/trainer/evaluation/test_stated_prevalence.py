"""Prevalences that a user states."""

import pytest

from trainer.errors import InputError
from trainer.evaluation.stated_prevalence import stated_prevalences

FINDINGS = ("Edema", "a=b", "Mass")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        (["0.02"], {"Edema": 0.02, "a=b": 0.02, "Mass": 0.02}),
        ([".5", "Mass=0.1"], {"Edema": 0.5, "a=b": 0.5, "Mass": 0.1}),
        (["a=b=0.25"], {"a=b": 0.25}),
    ],
)
def test_prevalence_is_of_one_finding_or_of_all(values, expected):
    """One finding's own value comes first."""
    assert stated_prevalences(values, FINDINGS) == expected


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (["2"], "above 0 and below 1, got `2`"),
        (["2%"], "got `2%`"),
        (["0"], "got `0`"),
        (["0.0"], "got `0.0`"),
        (["1.0"], "got `1.0`"),
        (["nan"], "got `nan`"),
        (["-.1"], "got `-.1`"),
        (["1e-3"], "got `1e-3`"),
        (["Mass="], "got `Mass=`"),
        (["Hernia=0.1"], "no finding `Hernia` is evaluated"),
        (["0.1", "0.2"], "two prevalences for one finding, got `0.2`"),
        (["Mass=0.1", "Mass=0.1"], "two prevalences for one finding"),
    ],
)
def test_anything_else_is_refused_by_name(values, complaint):
    """A per cent that is taken for a share would be a wrong predictive value."""
    with pytest.raises(InputError, match=r"(?s)cannot use .*prevalence") as refused:
        stated_prevalences(values, FINDINGS)
    assert complaint in str(refused.value)
    assert "--prevalence" in str(refused.value)
