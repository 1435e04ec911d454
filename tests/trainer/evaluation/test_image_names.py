"""Names of images in predictions and labels: which belong together, and which may not be guessed."""

import pytest

from trainer.errors import InputError
from trainer.evaluation.image_names import matched

CLASSES = ["test/NORMAL/1.png", "test/PNEUMONIA/1.png", "test/NORMAL/2.png", "val/NORMAL/3.png"]


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("1.png", ["1.png", "a/1.png"], "1.png"),
        ("/data/nih/images/1.png", ["1.png", "2.png"], "1.png"),
        ("./1.png", ["1.png"], "1.png"),
        (r"C:\\data\\1.png", ["1.png"], "1.png"),
        ("1.png", ["images_006/1.png"], "images_006/1.png"),
        ("/data/images/1.png", ["images_006/1.png"], "images_006/1.png"),
        ("/cxr/test/PNEUMONIA/1.png", CLASSES, "test/PNEUMONIA/1.png"),
        ("PNEUMONIA/1.png", CLASSES, "test/PNEUMONIA/1.png"),
        ("flat/2.png", CLASSES, "test/NORMAL/2.png"),
        ("a/NORMAL/1.png", ["1.png", "NORMAL/1.png"], "NORMAL/1.png"),
        ("train/PNEUMONIA/3.png", CLASSES, "train/PNEUMONIA/3.png"),
        ("9.png", CLASSES, "9.png"),
        ("1.jpg", ["1.png"], "1.jpg"),
        ("a/11.png", ["1.png"], "a/11.png"),
    ],
)
def test_image_is_matched_by_full_name_then_by_the_end_of_its_path(name, known, found):
    """A name without a match is returned unchanged, and refused later."""
    assert matched([name], known, "preds.csv") == [found]


def test_file_name_in_several_folders_is_refused_by_name():
    """One of the two would be evaluated on the labels of the other."""
    with pytest.raises(InputError) as refused:
        matched(["1.png", "flat/2.png"], CLASSES, "preds.csv")
    assert "1 are ambiguous, got `preds.csv`" in str(refused.value)
    assert "`1.png` may be `test/NORMAL/1.png` or `test/PNEUMONIA/1.png`" in str(refused.value)


def test_two_paths_of_one_file_name_are_refused_unless_one_is_the_full_name():
    """Which of them the labels mean is not known."""
    with pytest.raises(InputError, match=r"`a/1\.png` and 1 more may be `1\.png`"):
        matched(["a/1.png", "b/1.png"], ["1.png"], "preds.csv")
    assert matched(["a/1.png", "1.png"], ["1.png"], "preds.csv") == ["a/1.png", "1.png"]


def test_names_of_files_match_ids():
    """VinDr-CXR's table has ids, and predictions the paths of files."""
    assert matched(["v/train/0a1b.dicom", "0a1c.png"], ["0a1b", "0a1c", "0a1d"], "p.csv") == ["0a1b", "0a1c"]
