"""Tables of labels: hashes and the published findings."""

import pytest
from label_tables import table

from trainer.data.labels import FINDINGS, check_finding_names
from trainer.errors import InputError


def test_hashes_differ_for_other_splits_and_labels():
    """run.json must show when a resumed or compared run had other data."""
    one = table([0, 1], [[1, 0], [0, 1]], split=[0, 2])
    other_split = table([0, 1], [[1, 0], [0, 1]], split=[2, 0])
    other_labels = table([0, 1], [[1, 1], [0, 1]], split=[0, 2])
    assert one.split_sha256() != other_split.split_sha256()
    assert one.labels_sha256() == other_split.labels_sha256()
    assert one.labels_sha256() != other_labels.labels_sha256()


def test_there_are_fourteen_findings_in_published_order():
    """The label lists have no header: order is all there is."""
    assert len(FINDINGS) == 14
    assert (FINDINGS[0], FINDINGS[6], FINDINGS[13]) == ("Atelectasis", "Pneumonia", "Hernia")


NAN = float("nan")


def test_constant_findings_are_judged_on_known_labels_of_train():
    """Nothing can be learned of a finding that is known to have one value only, or is never known."""
    labels = table(
        range(4),
        [[1, NAN, 0.0, 1, 0.3], [NAN, NAN, 1, 1, 0.6], [1, NAN, NAN, 1, NAN], [0, 1, 0, 0, 0]],
        split=[0, 0, 0, 2],
    )
    assert labels.constant() == ["finding 0", "finding 1", "finding 3"]


def test_exactly_one_certain_label_is_a_class():
    labels = table(range(4), [[1, 0], [0.5, 0.5], [1, NAN], [0, 0]])
    assert labels.has_one_label().tolist() == [True, False, False, False]


def test_unknown_classes_are_refused_with_an_image():
    with pytest.raises(InputError, match="1 of 2 have unknown labels, the first is `image 1`"):
        table([0, 1], [[1, 0], [1, NAN]]).check_classes()


def test_positive_are_fractions_from_a_half_on_and_no_unknown_labels():
    labels = table([0], [[1, 0.5, 0.49, 0, NAN]])
    assert labels.positive().tolist() == [[True, True, False, False, False]]
    assert labels.known().tolist() == [[True, True, True, True, False]]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        pytest.param([], "there is no finding", id="none"),
        pytest.param(["Mass", ""], "``: it is empty", id="empty"),
        pytest.param(["Mass", " Edema"], "` Edema`: it begins or ends with a blank", id="blank"),
        pytest.param(["Mass", "Ede\nma"], "cannot be printed", id="line break"),
        pytest.param(["Mass", "Edema", "Mass"], "`Mass`: it is there 2 times", id="twice"),
        pytest.param(["mean"], "`mean`: results have a row `mean`", id="a row of the results"),
    ],
)
def test_names_that_results_could_not_tell_apart_are_refused(names, complaint):
    with pytest.raises(InputError, match=complaint) as problem:
        check_finding_names(names, "`labels.csv`")
    assert "got `labels.csv`" in str(problem.value)


def test_names_may_have_any_letters():
    check_finding_names(
        ["Lung, left", "Nodule/Mass", "Röntgen 肺", "a|b", "Mean", "mass", "Mass", "=1"], "`labels.csv`"
    )
