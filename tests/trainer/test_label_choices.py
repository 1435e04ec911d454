"""Label choices: parsing, refusals by name, and the document of a run."""

import math

import pytest

from trainer.errors import InputError
from trainer.label_choices import LabelChoices


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"uncertain": ("maybe",)}, "ones, zeros, ignore or a number"),
        ({"uncertain": ("1.5",)}, "from 0 to 1"),
        ({"uncertain": ("nan",)}, "from 0 to 1"),
        ({"uncertain": ("=ones",)}, "name of the finding is empty"),
        ({"uncertain": ("Edema=ones", "Edema=zeros")}, "`Edema` has two policies"),
        ({"uncertain": ("ones", "zeros")}, "all findings have two policies"),
        ({"rename": ("Effusion",)}, "NEW=OLD"),
        ({"rename": ("A=B|",)}, "NEW=OLD"),
        ({"rename": ("A=B|B",)}, "`B` is named twice"),
        ({"rename": ("A=B", "A=C")}, "`A` is named twice"),
        ({"findings": ""}, "names separated by commas"),
        ({"findings": "A,,B"}, "names separated by commas"),
        ({"findings": "A,A"}, "`A` is named twice"),
        ({"projection": "sideways"}, "frontal, all, or some of PA, AP, LATERAL"),
        ({"projection": "PA,PA"}, "each once"),
    ],
)
def test_values_that_no_data_set_can_use_are_refused(choices, says):
    with pytest.raises(InputError, match="from `--") as problem:
        LabelChoices(**choices)
    assert says in str(problem.value)


def test_parsed_values():
    choices = LabelChoices(
        findings='Edema,"Mass, left"',
        rename=("Lung Lesion=Nodule|Mass",),
        uncertain=("ignore", "Edema=ones", "a=b=0.25"),
        projection="PA,LATERAL",
    )
    assert choices.chosen_findings() == ("Edema", "Mass, left")
    assert choices.renamed() == {"Lung Lesion": ("Nodule", "Mass")}
    policies = choices.uncertain_policies()
    assert math.isnan(policies.pop(None))
    assert policies == {"Edema": 1.0, "a=b": 0.25}
    assert choices.projections() == ("PA", "LATERAL")
    assert LabelChoices().projections() is None


def test_only_what_differs_from_the_defaults_is_recorded():
    assert LabelChoices().given() == {}
    choices = LabelChoices(uncertain=("Edema=1", "0"), blank="ignore", rename=("A=B",))
    assert choices.given() == {"uncertain": ["zeros", "Edema=ones"], "blank": "ignore", "rename": ["A=B"]}
    assert LabelChoices.from_document(choices.given()).given() == choices.given()
    assert LabelChoices.from_document({"data": "x"}) == LabelChoices()


@pytest.mark.parametrize("document", [{"blank": 3}, {"uncertain": "ones"}, {"rename": [1]}, {"findings": ["A"]}])
def test_a_record_with_other_kinds_of_values_is_refused(document):
    with pytest.raises(InputError, match="label choices of the run"):
        LabelChoices.from_document(document)


def test_own_choices_go_before_those_of_a_run():
    of_run = LabelChoices(blank="zeros", uncertain=("ones",))
    assert LabelChoices(blank="ignore").over(of_run) == LabelChoices(blank="ignore", uncertain=("ones",))


@pytest.mark.parametrize(
    ("name", "usual", "other"),
    [("projection", "all", "frontal"), ("valid_as", "val", "test"), ("readers", "majority", "mean")],
)
def test_a_default_that_is_given_goes_before_the_choice_of_a_run(name, usual, other):
    of_run = LabelChoices(**{name: other})
    given = LabelChoices(**{name: usual})
    assert getattr(given.over(of_run), name) == usual
    assert getattr(LabelChoices().over(of_run), name) == other
    assert given.given() == {}  # a run may be resumed with it or without it
