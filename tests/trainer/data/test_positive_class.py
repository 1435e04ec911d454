"""Which of two classes is the positive one, by their names."""

import pytest

from trainer.data.positive_class import check_positive_class, default_positive_class, earlier_positive_class
from trainer.errors import InputError


@pytest.mark.parametrize(
    ("positive", "healthy"),
    [
        ("Abnormal", "Normal"),
        ("Covid", "Health"),
        ("Parasitized", "Uninfected"),
        ("Malati", "Sani"),
        ("abn", "nrm"),
        ("a", "n"),
        ("p", "n"),
        ("Pneumonie", "o.B."),
        ("unsafe", "safe"),
        ("ABNORMAL", "normal"),
        ("abnormal_frontal", "NORMAL_frontal"),
        ("AbNormal", "Normal"),
        ("Ab-normal", "Normal"),
        ("PNEUMONIA", "NORMAL"),
        ("BACTERIA", "NORMAL-frontal"),
        ("BACTERIA", "NORMAL2"),
        ("Bacteria", "frontal normal 2"),
        ("Disease", "NormalXray"),
        ("COVID-19", "Normals"),
        ("Mass", "No Finding"),
        ("Mass", "no_finding"),
        ("Mass", "No-Findings"),
        ("Mass", "NoFinding"),
        ("Mass", "NOFINDING"),
        ("Mass", "without acute findings"),
        ("Mass", "no evidence of disease"),
        ("Abnormality", "No significant abnormality"),
        ("Diseased", "disease-free"),
        ("Disease", "Healthy"),
        ("Case", "control"),
        ("Case", "Controls"),
        ("Consolidation", "clear"),
        ("cloudy", "clear lungs"),
        ("Positive", "negative"),
        ("COVID", "covid-negative"),
        ("COVID", "PCR_neg"),
        ("COVID", "Non-COVID"),
        ("CT_COVID", "CT_NonCOVID"),
        ("COVID", "noncovid"),
        ("Infected", "uninfected"),
        ("Cardiomegaly", "No Cardiomegaly"),
        ("TB", "not TB"),
        ("TB", "TB absent"),
        ("Findings", "findings_none"),
        ("NOK", "Ok"),
        ("fractured", "not fractured"),
        ("Yes", "no"),
        ("Sick", "well"),
        ("Mass", "Other"),
        ("Malignant", "benign"),
        ("1", "0"),
        ("1.0", "0.0"),
        ("Label1", "label0"),
        ("Grade 10", "grade 0"),
        ("Unhealthy", "healthy"),
        ("Not normal", "Normal"),
        ("not_normal", "normal"),
        ("nonnormal", "normal"),
        ("Effusion", "normal (not abnormal)"),
        ("Non-small-cell", "Normal"),
        ("Other", "normal"),
        ("Anormal", "Normal"),
        ("Enfermo", "Sano"),
        ("Infiltrado", "Sin hallazgos"),
        ("Krank", "gesund"),
        ("Auffällig", "unauffällig"),
        ("Malade", "Sain"),
        ("Doente", "Saudável"),
        ("Патология", "норма"),
        ("不正常", "正常"),
        ("Pneumonia", "正常胸片"),
        ("비정상", "정상"),
    ],
)
def test_class_that_looks_healthy_is_not_the_positive_one(positive, healthy):
    """With Abnormal and Normal, the alphabetically last would give a model that calls everything abnormal no sensitivity."""
    assert default_positive_class([positive, healthy]) == positive
    assert default_positive_class([healthy, positive]) == positive


@pytest.mark.parametrize(
    "classes",
    [
        ("BACTERIA", "VIRUS"),
        ("Effusion", "Mass"),
        ("Nodule", "Notch"),
        ("abnormal", "unhealthy"),
        ("healthy", "normal"),
        ("NORMAL", "No Finding"),
        ("0", "00"),
        ("a", "b"),
        ("PA", "未知"),
    ],
)
def test_last_by_name_is_the_positive_one_where_no_class_or_every_class_looks_healthy(classes):
    """As before there was a choice."""
    assert default_positive_class(classes) == max(classes)
    assert earlier_positive_class(classes) == max(classes)


def test_healthy_class_is_not_the_one_of_which_sensitivity_is_reported_among_several():
    assert default_positive_class(["BACTERIA", "NORMAL", "VIRUS"]) == "VIRUS"
    assert default_positive_class(["COVID", "Effusion", "Normal"]) == "Effusion"
    assert default_positive_class(["COVID", "Other pneumonia", "Normal"]) == "COVID"
    assert default_positive_class(["Lung Opacity", "No Lung Opacity, Not Normal", "Normal"]) == "Lung Opacity"


def test_earlier_choice_knows_no_names():
    """Runs that were trained before keep theirs."""
    assert earlier_positive_class(["Abnormal", "Normal"]) == "Normal"


def test_name_of_no_class_is_refused_with_the_classes():
    check_positive_class("Normal", ["Abnormal", "Normal"])
    with pytest.raises(InputError, match=r"`normal` .* no such class \(from `--positive-class`\)") as caught:
        check_positive_class("normal", ["Abnormal", "Normal"])
    assert "the classes are `Abnormal` and `Normal`" in str(caught.value)


@pytest.mark.parametrize("name", ["c", "none of them"])
def test_more_than_two_classes_have_no_positive_one_to_choose(name):
    with pytest.raises(InputError, match="it can be chosen of two classes, and there are 3") as caught:
        check_positive_class(name, ["a", "b", "c"])
    assert all(f"\n  {each}" in str(caught.value) for each in "abc")
