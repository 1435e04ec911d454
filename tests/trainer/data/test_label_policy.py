"""From a layout's labels to those that are used: renames, choices, uncertain and blank labels, projections."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.label_tables import table
from trainer.data.label_policy import LayoutDefaults, joined, policy_notes, policy_summary, resolved
from trainer.errors import InputError
from trainer.label_choices import LabelChoices

NAN = float("nan")
CHEXPERT = LayoutDefaults("chexpert", uncertain="ignore", blank="zeros")
NIH = LayoutDefaults("nih")


def raw():
    """Six images of three findings: present, absent, uncertain, blank."""
    return table(
        range(6), [[1, 0, -1], [0, -1, -1], [-1, NAN, 1], [NAN, 1, 0], [0, 0, 0], [1, NAN, NAN]], [0, 0, 0, 0, 1, 2]
    )


def labels(choices=None, of_run=None, defaults=CHEXPERT, views=None):
    return resolved(replace(raw(), views=views), defaults, choices or LabelChoices(), of_run)


def column(found, name):
    return found.table.labels_NK[:, found.table.findings.index(name)].tolist()


def test_the_layouts_defaults_are_used_and_named():
    found = labels()
    np.testing.assert_array_equal(column(found, "finding 0"), [1, 0, NAN, 0, 0, 1])
    notes = " ".join(policy_notes(found.policy))
    assert "uncertain labels are unknown, and ignored (default of layout chexpert)" in notes
    assert "finding 2 (2)" in notes
    assert (
        "blank labels are negative (default of layout chexpert): finding 0 (1), finding 1 (2), finding 2 (1)" in notes
    )


def test_one_policy_for_a_finding_and_another_for_all_others():
    found = labels(LabelChoices(uncertain=("0.25", "finding 2=ones"), blank="ignore"))
    np.testing.assert_array_equal(column(found, "finding 0"), [1, 0, 0.25, NAN, 0, 1])
    np.testing.assert_array_equal(column(found, "finding 2"), [1, 1, 1, 0, 0, NAN])
    document = found.policy
    assert (
        policy_summary(document)
        == "uncertain labels: 0.25 (--uncertain), ones (--uncertain); blank labels: ignore (--blank)"
    )
    assert document["uncertain"]["finding 0"] == {"images": 1, "used_as": "0.25", "origin": "--uncertain"}
    assert document["uncertain"]["finding 2"]["used_as"] == "ones"
    assert json.loads(json.dumps(document)) == document


def test_labels_that_are_all_known_have_no_policy():
    known = table([0, 1], [[1], [0]])
    found = resolved(known, NIH, LabelChoices())
    assert found.policy == {}
    assert policy_notes(found.policy) == []
    assert policy_summary(found.policy) == ""
    assert found.table.labels_NK.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ((1, -1), 1),
        ((1, NAN), 1),
        ((0, 0), 0),
        ((0, -1), -1),
        ((-1, NAN), -1),
        ((0, NAN), NAN),
        ((NAN, NAN), NAN),
        ((0.25, 0), 0.25),
        ((0.25, -1), -1),
        ((0.25, NAN), NAN),
    ],
)
def test_joined_labels(parts, whole):
    np.testing.assert_array_equal(joined(np.array([parts], np.float32)), [whole])


def test_renames_and_joins_come_before_choices_and_policies():
    found = labels(
        LabelChoices(
            rename=("lesion=finding 0|finding 2", "other=finding 1"),
            findings="lesion",
            uncertain=("zeros", "lesion=ones"),
            blank="ignore",
        )
    )
    assert found.table.findings == ("lesion",)
    np.testing.assert_array_equal(column(found, "lesion"), [1, 1, 1, NAN, 0, 1])
    assert found.policy["not_used"] == ["other"]
    notes = policy_notes(found.policy)
    assert "labels of lesion are those of finding 0 or finding 2 (--rename)" in notes
    assert "labels of finding 1 are called other (--rename)" in notes


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (LabelChoices(rename=("A=Finding_1",)), "similar are finding 1"),
        (LabelChoices(rename=("finding 1=finding 0",)), "there already is a finding `finding 1`"),
        (LabelChoices(rename=("finding 1=finding 1",)), "there already is a finding `finding 1`"),
        (LabelChoices(findings="Edema,finding 1"), "findings of the data set are finding 0, finding 1, finding 2"),
        (LabelChoices(uncertain=("Edema=ones",)), "no finding `Edema`"),
        (LabelChoices(uncertain=("finding 0=ones",), findings="finding 1"), "no finding `finding 0`"),
        (LabelChoices(projection="frontal"), "does not tell the projection"),
        (LabelChoices(readers="mean"), "only layout vindr"),
        (LabelChoices(physician_labels_only=True), "only layout padchest"),
    ],
)
def test_choices_that_do_not_fit_are_refused(choices, says):
    with pytest.raises(InputError) as problem:
        labels(choices)
    assert says in str(problem.value)


@pytest.mark.parametrize("choices", [LabelChoices(uncertain=("ones",)), LabelChoices(blank="zeros")])
def test_a_layout_without_such_labels_refuses_their_policy(choices):
    with pytest.raises(InputError, match=r"layout nih has no (uncertain|blank) labels"):
        resolved(table([0, 1], [[1], [0]]), NIH, choices)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (LabelChoices(uncertain=("ones",)), "no label of the data set is uncertain"),
        (LabelChoices(blank="zeros"), "is blank"),
    ],
)
def test_a_set_without_such_labels_refuses_their_policy(choices, says):
    """Its layout may have them; a flag without an effect would look like one with it."""
    known = table([0, 1], [[1], [0]])
    with pytest.raises(InputError, match=says):
        resolved(known, CHEXPERT, choices)
    assert resolved(known, CHEXPERT, LabelChoices(), of_run=choices).policy == {}


def test_choices_that_preparation_made_are_refused_of_a_prepared_set():
    """They would change nothing; policies are still open."""
    prepared = replace(CHEXPERT, is_prepared=True)
    with pytest.raises(InputError, match="this choice was made when the data set was prepared"):
        labels(LabelChoices(valid_as="test"), defaults=prepared)
    assert (
        labels(LabelChoices(uncertain=("ones",)), defaults=prepared).policy["uncertain"]["finding 2"]["used_as"]
        == "ones"
    )


VIEWS = ["PA", "AP", "LATERAL", "", "PA", "LATERAL"]


def test_projections():
    frontal = labels(LabelChoices(projection="frontal"), views=VIEWS)
    assert frontal.rows_N.tolist() == [0, 1, 4]
    assert frontal.table.images == ("image 0", "image 1", "image 4")
    assert "3 of 6 images are left out (--projection frontal)" in policy_notes(frontal.policy)
    assert frontal.policy["uncertain"]["finding 2"]["images"] == 2
    assert "finding 0" not in frontal.policy["uncertain"]  # its only uncertain label is on an image that is left out
    everything = labels(views=VIEWS)
    assert len(everything.table) == 6
    assert any(
        "3 of 6 images are used without being known to be frontal" in note for note in policy_notes(everything.policy)
    )


def test_a_projection_without_images_is_refused():
    with pytest.raises(InputError, match=r"no image has one of LATERAL; there are PA \(6\)"):
        labels(LabelChoices(projection="LATERAL"), views=["PA"] * 6)


def test_choices_of_a_run_are_used_where_they_fit():
    of_run = LabelChoices(
        rename=("lesion=finding 0|finding 2", "x=Edema"),
        uncertain=("ones", "lesion=zeros", "Edema=ignore"),
        findings="lesion",
    )
    found = labels(of_run=of_run)
    assert found.table.findings == ("lesion", "finding 1")
    assert found.policy["uncertain"]["lesion"]["used_as"] == "zeros"
    assert found.policy["uncertain"]["finding 1"]["origin"] == "the model's run"
    own = labels(LabelChoices(uncertain=("ignore",)), of_run=of_run)
    assert own.policy["uncertain"]["lesion"]["used_as"] == "ignore"
    nih = resolved(
        table([0, 1], [[1], [0]]), NIH, LabelChoices(), LabelChoices(uncertain=("ones",), projection="frontal")
    )
    assert nih.policy == {}
