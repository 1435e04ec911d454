"""NIH's list of boxes."""

import os
import zipfile

import pytest

from trainer.errors import InputError
from trainer.explanation.boxlist import read_boxes

HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def test_the_whole_published_list_is_read(shared):
    """984 boxes on 880 images; the list says Infiltrate where the labels say Infiltration."""
    boxes = read_boxes(shared / "data/nih-labels/BBox_List_2017.csv")
    assert len(boxes) == 984
    assert len({box.image for box in boxes}) == 880
    assert sum(box.finding == "Infiltration" for box in boxes) == 123
    assert len({box.finding for box in boxes}) == 8


def test_boxes_are_fractions_of_the_image(tmp_path):
    """They fit a smaller copy of it too."""
    path = tmp_path / "boxes.csv"
    path.write_text(HEADER + "a.png,Infiltrate,256.0,512.0,256.0,128.0,,,\n\n")
    (box,) = read_boxes(path)
    assert (box.image, box.finding) == ("a.png", "Infiltration")
    assert (box.left, box.top, box.right, box.bottom) == (0.25, 0.5, 0.5, 0.625)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        pytest.param(
            "Image Index,x,y,w,h\na.png,1,2,3,4\n", "its first line lacks `Finding Label` and `Bbox [x`", id="columns"
        ),
        pytest.param("", "its first line lacks `Image Index`", id="empty"),
        pytest.param(HEADER, "it has no box", id="no rows"),
        pytest.param(HEADER + "a.png,Mass,1,2,x,4\n", "line 2: no box within 1024 x 1024 pixels", id="no number"),
        pytest.param(HEADER + "a.png,Mass,1,2,nan,4\n", "line 2: no box", id="nan"),
        pytest.param(HEADER + "a.png,Mass,1,2,0,4\n", "line 2: no box", id="no width"),
        pytest.param(HEADER + "a.png,Mass,1000,2,90,4\n", "line 2: no box", id="beyond the border"),
        pytest.param(HEADER + "a.png,Mass,1,2\n", "line 2: no box", id="cells missing"),
        pytest.param(b"\xff\xfe\x00", "it is not UTF-8 text", id="binary"),
        pytest.param(
            HEADER + "a" * 2_000_000, "it has a line of more than 1,048,576 characters", id="a line without an end"
        ),
        pytest.param(HEADER + "a.png," + "," * 5_000, "rows or 4,096 columns", id="columns without an end"),
    ],
)
def test_invalid_list_of_boxes_is_refused(content, complaint, tmp_path):
    """With the line, so that it can be mended."""
    path = tmp_path / "boxes.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as caught:
        read_boxes(path)
    assert complaint in str(caught.value)


def test_an_absent_list_is_named(tmp_path):
    """A typing error is the usual reason."""
    with pytest.raises(InputError, match=r"no such file, got `.*none\.csv`"):
        read_boxes(tmp_path / "none.csv")
    with pytest.raises(InputError, match="cannot read boxes: it is not a regular file"):
        read_boxes(tmp_path)


def test_pipe_is_refused_as_a_list_of_boxes(tmp_path):
    """Whoever opens it waits until somebody writes."""
    os.mkfifo(tmp_path / "boxes.csv")
    with pytest.raises(InputError, match="it is not a regular file"):
        read_boxes(tmp_path / "boxes.csv")


def test_boxes_of_vindr_are_in_pixels_unless_the_size_is_there(tmp_path):
    """Images of the set have many sizes."""
    path = tmp_path / "train.csv"
    header = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max"
    rows = ["a,No finding,14,R1,,,,", "a,Cardiomegaly,3,R2,100,200,300,600"]
    path.write_text("\n".join([header, *rows]))
    (box,) = read_boxes(path)
    assert (box.image, box.finding, box.in_pixels) == ("a", "Cardiomegaly", True)
    assert (box.left, box.top, box.right, box.bottom) == (100, 200, 300, 600)
    path.write_text("\n".join([f"{header},width,height", *(f"{row},400,800" for row in rows)]))
    (box,) = read_boxes(path)
    assert not box.in_pixels
    assert (box.left, box.top, box.right, box.bottom) == (0.25, 0.25, 0.75, 0.75)
    path.write_text(f"{header}\na,Cardiomegaly,3,R2,300,200,100,600\nb,Nodule/Mass,8,R1,,,,\n")
    with pytest.raises(InputError, match="line 2: no box within its image"):
        read_boxes(path)


def test_boxes_of_the_rsna_challenge(tmp_path):
    """In pixels of 1024 x 1024, with a row for each image without a box."""
    path = tmp_path / "stage_2_train_labels.csv"
    path.write_text("patientId,x,y,width,height,Target\na,,,,,0\nb,256.0,512.0,256.0,128.0,1\n")
    (box,) = read_boxes(path)
    assert (box.image, box.finding) == ("b", "Pneumonia")
    assert (box.left, box.top, box.right, box.bottom) == (0.25, 0.5, 0.5, 0.625)


@pytest.mark.parametrize(("name", "boxes"), [("vinbigdata-train.csv.gz", 36_096), ("rsna", 9_555)])
def test_the_whole_published_tables_are_read(shared, tmp_path, name, boxes):
    """All rows but those of images or readers without a box."""
    path = shared / "data/public-labels" / name
    if name == "rsna":
        with zipfile.ZipFile(shared / "data/public-labels/kaggle_stage_2_train_labels.csv.zip") as archive:
            path = tmp_path / archive.extract(archive.namelist()[0], tmp_path)
    assert len(read_boxes(path)) == boxes
