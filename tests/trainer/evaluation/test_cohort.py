"""The cohort of a split: who was in it, without showing who a patient is."""

from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.labels import LabelTable
from trainer.evaluation.cohort import CHILDREN, SMALLEST_SHOWN, cohort_part, cohort_rows, cohort_words, hide_small
from trainer.evaluation.document import Evaluation
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.subgroups import AGE_BANDS
from trainer.formats.documents import checked


def table_of(patients, labels=None, unidentified=()):
    count = len(patients)
    names = tuple(f"{n}.png" for n in range(count))
    labels_NK = np.array(labels if labels is not None else [[1]] * count, np.uint8)
    findings = ("Mass", "Edema")[: labels_NK.shape[1]]
    split_N = np.zeros(count, np.int8)
    return LabelTable(findings, names, np.array(patients, np.int64), labels_NK, split_N, frozenset(unidentified))


def metadata_of(sex, age, view):
    return Metadata(np.array(sex, "<U2"), np.array(age, np.float64), np.array(view, "<U2"))


def part_of(patients, sex=None, age=None, view=None, *, is_public=True, **table):
    count = len(patients)
    metadata = metadata_of(sex or [""] * count, age or [np.nan] * count, view or [""] * count)
    return cohort_part("test", table_of(patients, **table), np.arange(count), metadata, is_public=is_public)


def cells(part, attribute):
    return {cell["group"]: (cell["images"], cell["patients"]) for cell in part[attribute]}


def test_numbers_are_those_of_a_table_counted_apart():
    """Against pandas, on random images of which some values are unknown."""
    rng = np.random.default_rng(1)
    patients = rng.integers(0, 90, 400)
    sex, view = rng.choice(["M", "F", ""], 400), rng.choice(["PA", "AP", ""], 400)
    age = np.where(rng.random(400) < 0.1, np.nan, rng.integers(1, 95, 400).astype(float))
    labels = rng.integers(0, 2, (400, 2))
    part = part_of(patients, list(sex), list(age), list(view), labels=labels)
    frame = pd.DataFrame({"patient": patients, "sex": sex, "age": age, "view": view})
    per_patient = frame.groupby("patient").size()
    assert (part["images"], part["patients"]) == (400, frame["patient"].nunique())
    assert (part["images_per_patient_median"], part["images_per_patient_most"]) == (
        per_patient.median(),
        per_patient.max(),
    )
    for attribute, groups in {"sex": ("F", "M"), "view": ("PA", "AP")}.items():
        rows = {group: frame[frame[attribute] == group] for group in groups}
        assert cells(part, attribute) == {
            group: (len(those), those["patient"].nunique()) for group, those in rows.items()
        }
        assert part[f"{attribute}_unknown"] == (frame[attribute] == "").sum()
    quartiles = frame["age"].quantile([0.25, 0.5, 0.75]).tolist()
    assert [part["age_lower_quartile"], part["age_median"], part["age_upper_quartile"]] == pytest.approx(quartiles)
    assert part["age_unknown"] == frame["age"].isna().sum()
    assert part["positives"] == {"Mass": labels[:, 0].sum(), "Edema": labels[:, 1].sum()}


def test_only_the_rows_of_the_split_count():
    """The table has those of all."""
    table = table_of([0, 1, 1, 2], labels=[[1], [0], [1], [1]])
    part = cohort_part(
        "val", table, np.array([1, 2]), metadata_of(list("MFFM"), [1, 2, 4, 9], [""] * 4), is_public=True
    )
    assert (part["part"], part["images"], part["patients"], part["age_median"]) == ("val", 2, 1, 3)
    assert cells(part, "sex") == {"F": (2, 1), "M": (0, 0)}
    assert part["positives"] == {"Mass": 1}


def test_unknown_patients_are_not_counted_as_patients():
    """Each image would be one."""
    part = part_of([0, 1, 2, 3, 4, 5], ["F"] * 6, unidentified=["1.png", "3.png"])
    assert (part["patients"], part["images_of_unknown_patients"], part["images_per_patient_most"]) == (None, 2, None)
    assert cells(part, "sex")["F"] == (6, None)
    rows = cohort_rows([part])
    assert ["patients", "-"] in rows
    assert ["images of unknown patients", "2"] in rows
    assert ["sex F", "6"] in rows


@pytest.mark.parametrize("of_one", [1, 2, 3, 4])
def test_small_groups_of_other_data_are_not_shown_and_cannot_be_computed(of_one):
    """The total less the other group would tell the small one."""
    sex = ["F"] * of_one + ["M"] * 20
    age = [30.0] * of_one + [np.nan] * 20
    part = part_of(range(of_one + 20), sex, age, ["PA"] * (of_one + 20), is_public=False)
    assert cells(part, "sex") == {"F": (None, None), "M": (None, None)}
    assert part["age_median"] is None
    assert cells(part, "view") == {"PA": (of_one + 20, of_one + 20), "AP": (0, 0)}
    rows = dict(cohort_rows([part])[1:])
    assert (rows["sex F"], rows["sex M"], rows["sex unknown"]) == ("<5", "not shown", "0")
    assert rows["age, median (quartiles)"] == "not shown"
    assert "fewer than 5 patients (<5)" in " ".join(cohort_words([part]))


def test_groups_of_public_data_and_of_five_patients_are_shown():
    """Everybody has the table of a public data set."""
    few = part_of(range(23), ["F"] * 3 + ["M"] * 20, [30.0] * 3 + [np.nan] * 20)
    assert cells(few, "sex") == {"F": (3, 3), "M": (20, 20)}
    assert few["age_median"] == 30
    assert few["smallest_shown"] is None
    assert len(cohort_words([few])) == 1
    five = part_of(range(25), ["F"] * 5 + ["M"] * 20, is_public=False)
    assert cells(five, "sex") == {"F": (5, 5), "M": (20, 20)}


def test_patients_are_counted_and_not_images():
    """Twenty images of one woman are one woman."""
    part = part_of([0] * 20 + list(range(1, 21)), ["F"] * 20 + ["M"] * 20, is_public=False)
    assert cells(part, "sex") == {"F": (None, None), "M": (None, None)}


def test_data_without_attributes_say_so():
    """Folders have neither sex nor age nor view."""
    bare = cohort_part("test", table_of([0, 1]), np.arange(2), None, is_public=False)
    rows = dict(cohort_rows([bare])[1:])
    assert (rows["sex"], rows["age"], rows["view"]) == ("not given",) * 3
    empty = cohort_part("train", table_of([0]), np.arange(0), None, is_public=False)
    assert (empty["images"], empty["patients"]) == (0, None)


def subgroups_of(groups):
    """Subgroups of an evaluation, from attribute, name and patients of each."""
    return [{"by": by, "group": group, "images": 2 * count, "patients": count} for by, group, count in groups]


AGES = [("age", "under 18", 3), ("age", "under 40", 30), ("age", "40-60", 25), ("age", "over 60", 40)]


@pytest.mark.parametrize(
    ("groups", "shown"),
    [
        ([("sex", "M", 40), ("sex", "F", 5)], ["M", "F"]),
        ([("sex", "M", 40), ("sex", "F", 4), ("view", "PA", 44)], ["PA"]),
        ([("view", "AP", 1)], []),
        (AGES, ["under 40", "40-60", "over 60"]),
        ([*AGES[:3], ("age", "over 60", 2)], ["under 40"]),
        ([*AGES[1:3], ("age", "over 60", 2)], ["under 40"]),
    ],
)
def test_subgroups_do_not_show_what_the_cohort_hides(groups, shown):
    """Two tables of one page: what is missing in one could be read in the other, or computed from the total."""
    rows = subgroups_of(groups)
    notes = hide_small(rows)
    assert [row["group"] for row in rows] == [name for _, name, _ in groups]
    assert [row["group"] for row in rows if row["images"] is not None] == shown
    assert [row["group"] for row in rows if row["patients"] is not None] == shown
    assert len(notes) == (len(shown) < len(groups))


def test_reason_for_no_score_does_not_tell_the_number_either():
    """It stands in the table and in a note."""
    rows = subgroups_of([("sex", "M", 40), ("sex", "F", 3)])
    rows[1]["not_scored"] = "only 3 patients, fewer than 20"
    hide_small(rows)
    assert rows[1]["not_scored"] == "too few patients"


def test_patients_of_a_finding_do_not_tell_how_many_a_hidden_subgroup_has():
    """With one image per patient, those with a finding and those without it add up to all."""
    rows = subgroups_of([("sex", "M", 40), ("sex", "F", 3), ("view", "PA", 43)])
    for row in rows:
        row["findings"] = {"Mass": {"positive_patients": 15, "negative_patients": 25}}
    hide_small(rows)
    shown = [row["findings"]["Mass"] for row in rows]
    assert shown[:2] == [{"positive_patients": None, "negative_patients": None}] * 2
    assert shown[2] == {"positive_patients": 15, "negative_patients": 25}


def test_children_are_the_only_subgroup_within_another():
    """The other ages add up to all images whose age is known."""
    others = [(first, end) for name, first, end in AGE_BANDS if name != CHILDREN]
    assert others[0][0] == 0
    assert [end for _, end in others[:-1]] == [first for first, _ in others[1:]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["M", "F", ""]), st.integers(0, 99)), max_size=30))
def test_no_group_of_fewer_patients_is_ever_shown_and_order_does_not_matter(images):
    """Also for very few images; and the document is valid as the reader of metrics.json checks it."""

    def described(rows):
        patients, sex, age = ([row[n] for row in rows] for n in range(3))
        return part_of(
            patients, sex, [float(years) for years in age], labels=np.ones((len(rows), 1), np.uint8), is_public=False
        )

    part = described(images)
    for cell in part["sex"]:
        assert cell["patients"] is None or cell["patients"] == 0 or cell["patients"] >= SMALLEST_SHOWN
    hidden = [cell for cell in part["sex"] if cell["images"] is None]
    assert len(hidden) in {0, 2}
    assert described(images[::-1]) == part
    assert checked([part], get_type_hints(Evaluation)["cohort"]) == [part]
    text = " ".join(cell for row in cohort_rows([part]) for cell in row)
    assert "nan" not in text
    assert "None" not in text
