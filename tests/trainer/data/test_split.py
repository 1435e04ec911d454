"""Splits that keep patients apart and reach every finding, and their checks."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_tables import table

from trainer.data.labels import SPLITS, LabelTable
from trainer.data.prevalence import prevalence
from trainer.data.split import PatientSplit, apply_split, carve, check_patients, check_splits, patient_split
from trainer.errors import InputError

SPLIT_OF_40 = "feadc22a8e689abac07eb4d580ca9bd596d5aed58339e69ebdc1380eb9a3e729"

SEVENTY_TEN_TWENTY = PatientSplit((Fraction(70), Fraction(10), Fraction(20)), seed=0)


def reordered(table, order):
    return LabelTable(
        findings=table.findings,
        images=tuple(table.images[n] for n in order),
        patients_N=table.patients_N[order],
        labels_NK=table.labels_NK[order],
        split_N=table.split_N[order],
    )


@st.composite
def tables(draw):
    """Any number of findings per image, a few images per patient."""
    count, findings = draw(st.integers(3, 40)), draw(st.integers(1, 5))
    patients = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    row = st.lists(st.integers(0, 1), min_size=findings, max_size=findings)
    return table(patients, draw(st.lists(row, min_size=count, max_size=count)))


@st.composite
def tables_with_one_finding_each(draw):
    """Every patient has at most one finding, on all images."""
    finding_of = draw(st.lists(st.integers(0, 4), min_size=3, max_size=40))
    images_of = draw(st.lists(st.integers(1, 3), min_size=len(finding_of), max_size=len(finding_of)))
    patients = [patient for patient, count in enumerate(images_of) for _ in range(count)]
    return table(patients, [[int(finding_of[patient] == k) for k in range(4)] for patient in patients])


def patients_lacking(table, parts):
    """Findings of three patients or more that a part has not."""
    lacking = []
    for k in range(len(table.findings)):
        positive = table.labels_NK[:, k] == 1
        if len(set(table.patients_N[positive])) >= 3:
            lacking += [(k, part) for part in parts if not (positive & (table.split_N == part)).any()]
    return lacking


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("given", None, id="given"),
        pytest.param("patients:70/10/20", SEVENTY_TEN_TWENTY, id="whole numbers"),
        pytest.param(
            "patients:7/0/3@12", PatientSplit((Fraction(7), Fraction(0), Fraction(3)), 12), id="no val, a seed"
        ),
        pytest.param(
            "patients:0.7/0.1/0.2", PatientSplit((Fraction(7, 10), Fraction(1, 10), Fraction(1, 5)), 0), id="decimals"
        ),
    ],
)
def test_split_flag_gives_proportions_and_seed(text, expected):
    """What a user types and what is drawn must agree, also in decimals."""
    assert patient_split(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "random",
        "patients:",
        "patients:70/30",
        "patients:-1/1/1",
        "patients:70/10/20@",
        "patients:0/10/90",
        "patients:1/1/0",
        "patients:.7/.1/.2",
        pytest.param(f"patients:{'9' * 5000}/1/1", id="a number of 5000 digits"),
        pytest.param("patients:0.1234567/1/1", id="7 digits after the point"),
        pytest.param(f"patients:1/1/1@{'9' * 5000}", id="a seed of 5000 digits"),
    ],
)
def test_invalid_split_flag_is_refused_with_an_example(text):
    """A typing error must not become some other split."""
    with pytest.raises(InputError, match="--split patients:70/10/20") as refused:
        patient_split(text)
    assert f"got `{text}` (from `--split`)" in str(refused.value)


def test_invalid_split_flag_is_shown_on_one_line():
    """A line break in a flag must not look like two errors."""
    with pytest.raises(InputError) as refused:
        patient_split("patients:\n\x1b[31m")
    assert "got `patients:\\n\\x1b[31m` (from `--split`)" in str(refused.value)


@given(tables(), st.integers(0, 3))
def test_split_keeps_patients_apart_and_uses_every_image(labels, seed):
    """A patient on both sides would let a model recognise him instead of his findings."""
    done = apply_split(labels, PatientSplit((Fraction(6), Fraction(2), Fraction(2)), seed))
    check_patients(done, "test")
    assert set(done.split_N.tolist()) <= {0, 1, 2}


@given(tables(), st.randoms())
def test_split_depends_on_names_and_not_on_order_of_rows(labels, random):
    """The same data set listed in another order must give the same experiment."""
    order = list(range(len(labels)))
    random.shuffle(order)
    mixed = apply_split(reordered(labels, order), SEVENTY_TEN_TWENTY)
    straight = apply_split(labels, SEVENTY_TEN_TWENTY)
    assert mixed.split_sha256() == straight.split_sha256()
    assert mixed.labels_sha256() == straight.labels_sha256()


@given(tables_with_one_finding_each(), st.integers(0, 3))
def test_finding_of_three_patients_is_in_every_split(labels, seed):
    """A finding without positives in a part has no AUROC there."""
    done = apply_split(labels, PatientSplit((Fraction(98), Fraction(1), Fraction(1)), seed))
    assert not patients_lacking(done, parts=(0, 1, 2))
    assert set(done.split_N.tolist()) == {0, 1, 2}


def test_patients_are_moved_until_a_finding_is_in_every_split():
    """Rare findings that come together must be repaired by moving patients, not left to luck."""
    labels = [[1, 1, 0]] * 3 + [[1, 0, 0]] * 2 + [[0, 1, 1]] * 2 + [[0, 0, 1]] * 2 + [[0, 0, 0]] * 30
    for seed in range(20):
        done = apply_split(
            table(range(len(labels)), labels), PatientSplit((Fraction(90), Fraction(5), Fraction(5)), seed)
        )
        assert not patients_lacking(done, parts=(0, 1, 2))


def test_another_seed_gives_another_split():
    """Repeating an experiment on other splits is what the seed is for."""
    labels = table(range(50), [[n % 2] for n in range(50)])
    hashes = {apply_split(labels, PatientSplit(SEVENTY_TEN_TWENTY.shares, seed)).split_sha256() for seed in range(5)}
    assert len(hashes) == 5


def test_split_is_the_same_on_every_machine():
    """A result can only be repeated if the draw never changes; this hash may change only with a major version."""
    labels = table(range(40), [[n % 2, n % 3 == 0] for n in range(40)])
    assert apply_split(labels, SEVENTY_TEN_TWENTY).split_sha256() == SPLIT_OF_40


def test_proportions_of_a_split_hold_for_patients():
    """70/10/20 must be what the table at the start of a run shows."""
    done = apply_split(table(range(1000), [[n % 7 == 0, n % 11 == 0] for n in range(1000)]), SEVENTY_TEN_TWENTY)
    assert prevalence(done).patients == pytest.approx((700, 100, 200), abs=3)


def test_proportion_0_makes_no_validation_split():
    """`patients:80/0/20` says that no validation is wanted."""
    done = apply_split(table(range(50), [[1]] * 50), PatientSplit((Fraction(80), Fraction(0), Fraction(20)), 0))
    assert prevalence(done).images == (40, 0, 10)


def test_carving_validation_leaves_test_alone():
    """The published test set must stay the published test set."""
    given_split = table(range(100), [[n % 2] for n in range(100)], split=[2] * 20 + [0] * 80)
    done = carve(given_split, {"val": Fraction(1, 8)})
    assert prevalence(done).images == (70, 10, 20)
    assert done.rows("test").tolist() == list(range(20))


def test_patients_in_two_splits_are_named_by_image():
    """Who made the split must see which images to move."""
    crossing = table([0, 1, 0, 2, 1], [[1]] * 5, split=[0, 0, 2, 1, 1])
    with pytest.raises(InputError) as refused:
        check_patients(crossing, "`labels.csv`")
    assert "got 2 who are (from `labels.csv`)" in str(refused.value)
    assert "image 0 (train) and image 2 (test)" in str(refused.value)
    assert "image 1 (train) and image 4 (val)" in str(refused.value)


def test_patient_in_two_splits_is_counted_once():
    """Most who make this mistake make it once."""
    with pytest.raises(InputError, match="got 1 who is "):
        check_patients(table([0, 0], [[1]] * 2, split=[0, 2]), "here")


def test_empty_splits_are_named_with_the_sizes_of_the_others():
    """A run that cannot train or be tested must not start."""
    with pytest.raises(
        InputError, match=r"no image in train and val, got 0 in train, 0 in val, 3 in test \(from here\)"
    ):
        check_splits(table([0, 1, 2], [[1]] * 3, split=[2, 2, 2]), SPLITS, "here")


def test_unknown_labels_are_dealt_as_if_the_image_had_not_the_finding():
    """Else patients of whom nothing is known would fill the splits of rare findings."""
    nan = float("nan")
    labels = [[1 if n % 7 == 0 else 0] for n in range(40)]
    unknown = [[nan if n % 7 == 3 else value] for n, (value,) in enumerate(labels)]
    ours, known = (apply_split(table(range(40), each), SEVENTY_TEN_TWENTY) for each in (unknown, labels))
    assert ours.split_N.tolist() == known.split_N.tolist()
    assert all((ours.labels_NK[ours.rows(split)] == 1).any() for split in SPLITS)
