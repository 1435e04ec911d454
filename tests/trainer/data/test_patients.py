"""Who is who: patients in file names and ids."""

import pytest

from trainer.data.patients import patient_in_name, patient_of_id


@pytest.mark.parametrize(
    "names",
    [
        ["00000001_000.png", "00000001_001.PNG", "00000001_000.jpg", "images/00000001_002.png", "00000001_000 (1).png"],
        ["person447_virus_921.jpeg", "person447_virus_921_1.jpeg", "person447_virus_922.jpeg", "PERSON447_virus_9.png"],
        ["person447_virus_921.jpeg", "person447_virus_921 (1).jpeg", "person447_virus_921 - Copy.jpeg"],
        ["person447_virus_921.jpeg", "person447_virus_921 - Copy (2).jpeg", "person447_virus_921_copy.jpeg"],
        ["person447_virus_921_1 (2).jpeg", "person447_virus_921 2.jpeg", "Copy of person447_virus_921.jpeg"],
        ["person447_virus_921 (1) (1).jpeg", "person447_virus_921 - Kopie.jpeg", "person447_virus_921_100.jpeg"],
        ["00000001_000_1_1.png", "00000001_000 - Kopie (2).png", "00000001_000.dcm"],
        ["IM-0115-0001.jpeg", "IM-0115-0001-0002.jpeg", "IM-0115-0001_1.jpeg", "train/NORMAL/IM-0115-0003.jpeg"],
        ["NORMAL2-IM-0117-0001.jpeg", "NORMAL2-IM-0117-0001-0002_1.jpeg"],
        [
            "BACTERIA-1008087-0001.jpeg",
            "BACTERIA-1008087-0002.jpeg",
            "VIRUS-1008087-0001.jpeg",
            "bacteria-1008087-3.png",
        ],
        ["NORMAL-1003233-0001.jpeg", "NORMAL-1003233-0002_1.jpeg"],
    ],
)
def test_names_of_one_patient_agree(names):
    """A patient under two numbers lands in two splits."""
    assert len({patient_in_name(name) for name in names} - {""}) == 1
    assert all(patient_in_name(name) for name in names)


def test_names_of_different_patients_differ():
    names = [
        "00000001_000.png",
        "00000010_000.png",
        "person1_virus_6.jpeg",
        "person1_bacteria_1.jpeg",
        "IM-0001-0001.jpeg",
    ]
    names += ["NORMAL2-IM-0001-0001.jpeg", "NORMAL-28501-0001.jpeg", "NORMAL-28502-0001.jpeg"]
    assert len({patient_in_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["a.png", "1.png", "person1.png", "0000001_000.png", "ABNORMAL-1-1.png", "IM-1.jpeg", "x/y", "IM-0001-0001.dcm"],
)
def test_other_names_identify_nobody(name):
    assert patient_in_name(name) == ""


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1", "00000001"),
        ("1", "1.0"),
        ("0", "000"),
        ("12", " 12 "),
        ("P7", "p7"),
        ("P 7", "P7"),
        ("P-001", "P001"),
        ("P1", "P01"),
        ('"1"', "1"),
        ("\uff11\uff12", "12"),
        ("a\u00a0b", "A B"),
    ],
)
def test_ids_that_differ_in_form_are_one_patient(first, second):
    assert patient_of_id(first) == patient_of_id(second) != ""


@pytest.mark.parametrize(
    ("first", "second"),
    [("1", "2"), ("10", "1"), ("1.5", "1"), ("P1", "1"), ("1.0.0", "1"), ("1-2", "12"), ("P10", "P1")],
)
def test_other_ids_stay_apart(first, second):
    assert patient_of_id(first) != patient_of_id(second)


@pytest.mark.parametrize(
    "text", ["", "  ", "nan", "NA", "<NA>", "None", "NULL", "n/a", "n.a.", "unknown", "Anonymous", "-", "?"]
)
def test_placeholders_are_no_patient(text):
    """All images of unknown patients would else be one patient's."""
    assert patient_of_id(text) == ""
