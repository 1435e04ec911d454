"""Names of findings over data sets, and what a model and a data set have in common."""

from trainer.data.finding_names import Match, matching, same_finding, similar
from trainer.data.labels import FINDINGS

CHEXPERT = (
    *(
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
    ),
    *("Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)


def test_names_of_the_same_finding():
    assert same_finding("Effusion", "pleural effusion")
    assert same_finding("Pleural_Thickening", "Pleural thickening")
    assert same_finding("Infiltration", "infiltrates")
    assert same_finding("Lung Lesion", "Nodule/Mass")
    assert same_finding("Hernia", "hiatal hernia")
    assert not same_finding("Nodule", "Lung Lesion")
    assert not same_finding("Lung Opacity", "Consolidation")


def test_similar_names_are_suggested():
    assert similar("Effusion", CHEXPERT)[0] == "Pleural Effusion"
    assert similar("Lung Lesion", FINDINGS)[:2] == ["Mass", "Nodule"]
    assert similar("Atelectsis", FINDINGS) == ["Atelectasis"]
    assert similar("Foot", FINDINGS) == []


def test_a_model_of_nih_on_chexpert():
    found = matching(FINDINGS, CHEXPERT)
    by_name = {match.name: match for match in found.matches}
    assert by_name["Effusion"] == Match("Effusion", ("Effusion",), ("Pleural Effusion",))
    assert by_name["Lung Lesion"] == Match("Lung Lesion", ("Mass", "Nodule"), ("Lung Lesion",))
    assert not by_name["Edema"].is_renamed
    assert by_name["Effusion"].is_renamed
    assert not by_name["Lung Lesion"].is_renamed
    assert set(by_name) == {
        *(
            "Atelectasis",
            "Cardiomegaly",
            "Effusion",
            "Lung Lesion",
            "Pneumonia",
            "Pneumothorax",
            "Consolidation",
            "Edema",
        )
    }
    assert found.outputs_left == ("Infiltration", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")
    assert "Lung Opacity" in found.labels_left


def test_a_model_of_chexpert_on_nih():
    found = matching(CHEXPERT, FINDINGS)
    by_name = {match.name: match for match in found.matches}
    assert by_name["Lung Lesion"] == Match("Lung Lesion", ("Lung Lesion",), ("Mass", "Nodule"))
    assert by_name["Pleural Effusion"].labels == ("Effusion",)


def test_a_part_alone_is_no_match():
    found = matching(("Nodule",), ("Lung Lesion", "Mass"))
    assert found.matches == ()
    assert found.outputs_left == ("Nodule",)
    assert found.labels_left == ("Lung Lesion", "Mass")


def test_equal_names_go_first_and_each_is_used_once():
    found = matching(("Effusion", "Pleural Effusion"), ("Pleural Effusion",))
    assert found.matches == (Match("Pleural Effusion", ("Pleural Effusion",), ("Pleural Effusion",)),)
    ambiguous = matching(("Effusion",), ("pleural effusion", "Pleural Effusion"))
    assert ambiguous.matches == ()
    lesions = matching(("Nodule", "Mass", "Lung Lesion"), ("Nodule/Mass",))
    assert lesions.names == ("Lung Lesion",)
    assert lesions.outputs_left == ("Nodule", "Mass")


def test_joins_of_the_user_go_before_the_table():
    join = Match("Opacity", ("Consolidation", "Pneumonia"), ("Opacity",))
    found = matching(("Pneumonia", "Consolidation", "Edema"), ("Opacity", "Pneumonia"), [join])
    assert found.names == ("Pneumonia",)  # an equal name takes the output first
    found = matching(("Pneumonia", "Consolidation", "Edema"), ("Opacity", "Edema"), [join])
    assert found.names == ("Opacity", "Edema")
