"""Which drawn boxes are used, and of which images the model may be judged."""

from pathlib import Path

import numpy as np
import pytest

from trainer.data.image_files import ImageFile
from trainer.errors import InputError
from trainer.explanation.boxlist import DrawnBox
from trainer.explanation.ground_truth import matched, refuse_trained

FINDINGS = ("Mass", "Nodule")


def files(*paths):
    return [ImageFile(Path(path)) for path in paths]


def box(image, finding="Mass"):
    return DrawnBox(image, finding, 0.25, 0.5, 0.75, 1.0)


def test_boxes_are_matched_by_name_whatever_the_format_and_folder():
    """The same X-ray is on offer as PNG and as DICOM."""
    drawn = matched(
        [box("1.png"), box("1.png"), box("1.png", "Nodule"), box("2.png")], files("a/1.dcm", "a/3.png"), FINDINGS
    )
    assert [file.path.name for file in drawn.files] == ["1.dcm"]
    (boxes,) = drawn.boxes.values()
    np.testing.assert_array_equal(boxes[0], [[0.25, 0.5, 0.75, 1.0]] * 2)
    assert len(boxes[1]) == 1
    assert (drawn.used, drawn.listed, drawn.notes) == (3, 4, [])


def test_boxes_of_findings_the_model_does_not_predict_are_left_out_and_named():
    """A model of fewer findings is judged by those."""
    drawn = matched([box("1.png"), box("1.png", "Pneumonia")], files("1.png"), FINDINGS)
    assert (drawn.used, drawn.listed) == (1, 2)
    assert drawn.notes == ["boxes of Pneumonia are skipped: the model has no such findings"]


def test_boxes_of_another_set_are_used_under_the_models_names():
    """VinDr-CXR's boxes for a model of ChestX-ray14, and those of ChestX-ray14 for a model of CheXpert."""
    drawn = matched(
        [box("1.png", "Pleural effusion"), box("1.png", "Nodule/Mass")], files("1.png"), ("Effusion", "Nodule")
    )
    assert drawn.used == 1
    assert drawn.notes == [
        "boxes of Nodule/Mass are skipped: the model has no such findings",
        "boxes of Pleural effusion are those of Effusion",
    ]
    joined = matched([box("1.png", "Nodule"), box("1.png", "Mass")], files("1.png"), ("Lung Lesion",))
    assert joined.used == 2
    assert joined.notes == ["boxes of Nodule are those of Lung Lesion, Mass are those of Lung Lesion"]


def test_boxes_are_limited_to_the_selected_findings():
    """`--findings` with `--boxes`."""
    assert matched([box("1.png"), box("1.png", "Nodule")], files("1.png"), FINDINGS, only=[1]).used == 1


@pytest.mark.parametrize(
    ("boxes", "paths", "complaint"),
    [
        pytest.param([box("1.png")], ["2.png"], "none of the 1 images with boxes is among the 1 given", id="no image"),
        pytest.param([box("1.png", "Hernia")], ["1.png"], "none is of a requested finding; they are of Hernia", id="no finding"),
        pytest.param([box("1.png")], ["a/1.png", "b/1.png"], "cannot match the boxes of `1`", id="two of one name"),
    ],
)  # fmt: skip
def test_boxes_without_an_image_are_refused(boxes, paths, complaint):
    """Nothing is judged by nothing."""
    with pytest.raises(InputError) as caught:
        matched(boxes, files(*paths), FINDINGS)
    assert complaint in str(caught.value)


def test_images_with_one_name_are_accepted_where_no_box_names_them():
    """Only the ambiguity that matters is refused."""
    assert matched([box("2.png")], files("a/1.png", "b/1.png", "2.png"), FINDINGS).used == 1


def test_patients_of_the_training_split_are_refused_unless_forced():
    """Maps of what was learned by heart find boxes too well; another image of the same patient is no better."""
    trained_on = {"00000001_000.png": "train", "00000002_000.png": "val", "x/other.png": "train"}
    some = files("d/00000001_007.png", "d/00000002_000.png", "d/other.png", "d/00000003_000.png")
    with pytest.raises(InputError) as caught:
        refuse_trained(trained_on, some, force=False)
    assert "2 of 4 images" in str(caught.value)
    assert "00000001_007.png" in str(caught.value)
    assert "00000002_000.png" not in str(caught.value)
    assert refuse_trained(trained_on, some, force=True) == 2
    assert refuse_trained(trained_on, some[1:2], force=False) == 0
    assert refuse_trained(None, some, force=False) is None


def test_boxes_in_pixels_need_the_original_image():
    """On a smaller copy they would lie elsewhere."""
    drawn = matched([DrawnBox("1", "Mass", 100, 200, 300, 400, in_pixels=True)], files("a/1.dicom"), FINDINGS)
    (file,) = drawn.files
    np.testing.assert_array_equal(drawn.on(file, 0, 2000, 3000), [[100, 200, 300, 400]])
    with pytest.raises(InputError, match="they reach beyond its 256 x 256 pixels"):
        drawn.on(file, 0, 256, 256)


def test_boxes_in_fractions_fit_any_copy():
    """Of NIH's list, for example."""
    drawn = matched([box("1.png")], files("1.png"), FINDINGS)
    np.testing.assert_array_equal(drawn.on(drawn.files[0], 0, 256, 128), [[64, 64, 192, 128]])
