"""Data sets on disk: layouts nih, lists, csv and folders, what is refused and how, and where images lie."""

import gzip
import os
import shutil
from pathlib import Path

import pytest

from trainer.data.labels import FINDINGS, SPLITS
from trainer.data.layouts import read_file, read_labels, unread_notes
from trainer.data.locate import locate_images
from trainer.data.prevalence import as_table, prevalence
from trainer.errors import InputError

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
UNQUOTED = "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
QUOTED = '"OriginalImage[Width,Height]","OriginalImagePixelSpacing[x,y]"'

PUBLISHED_PERCENT = """
10.190   9.974  10.788
 2.485   2.139   2.594
11.802  11.516  12.277
17.732  17.987  17.554
 5.082   5.571   5.051
 5.576   5.464   5.951
 1.246   1.185   1.079
 4.722   4.492   4.854
 4.158   3.984   4.266
 2.154   1.783   1.841
 2.293   1.854   2.269
 1.476   1.480   1.614
 2.904   3.316   3.272
 0.184   0.365   0.187
"""


def image(patient, follow_up=0):
    return f"{patient:08d}_{follow_up:03d}.png"


def values(*positive):
    return " ".join("1" if name in positive else "0" for name in FINDINGS)


def write_nih(root, labels=None, *, train_val=range(1, 41), test=range(41, 51), columns=UNQUOTED, ending=""):
    """One image per patient; `labels` overrides the finding labels of some patients."""
    rows = [
        f"{image(n)},{(labels or {}).get(n, 'No Finding')},0,{n},50,M,PA,2500,2048,0.143,0.143{ending}"
        for n in [*train_val, *test]
    ]
    root.mkdir(exist_ok=True)
    (root / "Data_Entry_2017.csv").write_text("\n".join([HEADER + columns + ending, *rows]) + "\n")
    (root / "train_val_list.txt").write_text("\n".join(image(n) for n in train_val))
    (root / "test_list.txt").write_text("\n".join(image(n) for n in test))
    return root


def write_lists(root, train, val, test):
    """Lists of (patient, follow-up) images without findings; text stands for a line of its own."""
    for name, rows in (("train", train), ("val", val), ("test", test)):
        lines = [row if isinstance(row, str) else f"{image(*row)} {values()}" for row in rows]
        (root / f"{name}_list.txt").write_text("\n".join(lines))
    return root


def write_csv(root, rows, header=("Image Index", *FINDINGS, "split")):
    text = [",".join(header), *(",".join(row) for row in rows)]
    (root / "labels.csv").write_text("\n".join(text) + "\n")
    return root


def csv_row(patient, split, *positive):
    return [image(patient), *values(*positive).split(), split]


def write_folders(root, files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def refusal(*args, **kwargs):
    with pytest.raises(InputError) as refused:
        read_labels(*args, **kwargs)
    return str(refused.value)


@pytest.mark.parametrize(
    ("columns", "ending"),
    [
        pytest.param(UNQUOTED, "", id="v2020: commas inside two names"),
        pytest.param(UNQUOTED, ",", id="2017: a comma at the end"),
        pytest.param(QUOTED, "", id="9 names for 11 columns"),
    ],
)
def test_nih_table_is_read_whatever_its_header(tmp_path, columns, ending):
    """A shifted column would take ages for patients without a word."""
    root = write_nih(tmp_path, {3: "Mass|Hernia", 41: "Edema"}, columns=columns, ending=ending)
    table = read_labels(root).table
    assert table.labels_NK[2].tolist() == [int(name in {"Mass", "Hernia"}) for name in FINDINGS]
    assert table.labels_NK.sum() == 3
    assert len(set(table.patients_N.tolist())) == 50
    assert [len(table.rows(split)) for split in SPLITS] == [35, 5, 10]


def test_images_in_neither_nih_list_belong_to_no_split(tmp_path):
    """Leaving images out of the lists is how people leave them out."""
    root = write_nih(tmp_path)
    (root / "test_list.txt").write_text("\n".join(image(n) for n in range(41, 50)))
    table = read_labels(root).table
    assert table.split_N.tolist().count(-1) == 1
    assert len(locate_images_without(root, image(50))) == 50


def locate_images_without(root, absent):
    source = read_labels(root)
    (root / "images").mkdir()
    for name in source.table.images:
        if name != absent:
            (root / "images" / name).touch()
    return locate_images(source)


def test_all_problems_of_nih_files_are_reported_at_once(tmp_path):
    """Correcting one line per attempt would take a day."""
    root = write_nih(tmp_path, {1: "Mass|Mas", 2: "mass", 3: "Mas"})
    (root / "test_list.txt").write_text("\n".join([image(41), image(41), image(5), image(99)]))
    text = refusal(root)
    assert "5 problems" in text
    assert "test_list.txt line 2: `00000041_000.png` is listed twice" in text
    assert "test_list.txt line 3: `00000005_000.png` is also in train_val_list.txt" in text
    assert "Data_Entry_2017.csv: unknown finding `Mas` (images: 2)" in text
    assert "Data_Entry_2017.csv: unknown finding `mass` (images: 1)" in text
    assert "test_list.txt: `00000099_000.png` is not in Data_Entry_2017.csv" in text


def test_val_list_takes_its_images_from_train(tmp_path):
    """A published validation cut can be used as published."""
    root = write_nih(tmp_path)
    with gzip.open(root / "val.txt.gz", "wt") as file:
        file.write("\n".join([image(1), image(2)]))
    table = read_labels(root, val_list="val.txt.gz").table
    assert [table.images[row] for row in table.rows("val")] == [image(1), image(2)]
    assert len(table.rows("train")) == 38


def test_val_list_elsewhere_is_found_too(tmp_path):
    """A data set on a read-only mount takes no further file."""
    root = write_nih(tmp_path / "data")
    (tmp_path / "val.txt").write_text(image(7))
    assert len(read_labels(root, val_list=str(tmp_path / "val.txt")).table.rows("val")) == 1


def test_val_list_outside_train_val_is_refused(tmp_path):
    """Validating on test images would choose the model by its test result."""
    root = write_nih(tmp_path)
    (root / "val.txt").write_text(image(41))
    assert "val.txt line 1: `00000041_000.png` is not in train_val_list.txt" in refusal(root, val_list="val.txt")
    assert "no such file" in refusal(root, val_list="none.txt")


def test_val_list_is_refused_where_nothing_would_use_it(tmp_path):
    """A flag without effect hides a wrong experiment."""
    (tmp_path / "lists").mkdir()
    lists = write_lists(tmp_path / "lists", [(1,)], [(2,)], [(3,)])
    assert "only layout nih takes one, not lists" in refusal(lists, val_list="val.txt")
    nih = write_nih(tmp_path / "nih")
    assert "`--split patients:70/10/20` makes its own" in refusal(nih, split="patients:70/10/20", val_list="val.txt")


def test_lists_keep_order_labels_and_split(tmp_path):
    """The last line has no newline in the published lists, and must count."""
    root = write_lists(tmp_path, [f"{image(1)} {values('Atelectasis', 'Hernia')}", (2,)], [(3,)], [(4,), (4, 1)])
    source = read_labels(root)
    assert source.layout == "lists"
    assert source.table.images == (image(1), image(2), image(3), image(4), image(4, 1))
    assert source.table.labels_NK[0].tolist() == [1] + [0] * 12 + [1]
    assert source.table.split_N.tolist() == [0, 0, 1, 2, 2]
    assert source.table.patients_N.tolist() == [0, 1, 2, 3, 3]


def test_bad_lines_of_lists_are_named_by_number(tmp_path):
    """Labels are made by scripts, and scripts err."""
    short, two = f"{image(5)} 0 1", f"{image(6)} {values()[:-1]}2"
    text = refusal(write_lists(tmp_path, [(1,), short, two, (1,)], [(2,)], [(3,), (2,)]))
    assert "train_list.txt line 2: 2 values instead of 14" in text
    assert "train_list.txt line 3: Hernia must be 0 or 1, got `2`" in text
    assert "train_list.txt line 4: `00000001_000.png` is listed twice, first in train_list.txt line 1" in text
    assert "test_list.txt line 2: `00000002_000.png` is listed twice, first in val_list.txt line 1" in text


def test_patient_in_two_lists_is_refused_by_image(tmp_path):
    """Images of one patient in train and test make results look better than they are."""
    text = refusal(write_lists(tmp_path, [(1,), (2,)], [(3,)], [(1, 4)]))
    assert "00000001_000.png (train) and 00000001_004.png (test)" in text
    assert "--split patients:70/10/20" in text


def test_split_by_patient_replaces_the_given_one(tmp_path):
    """A split that is refused can be replaced without editing files."""
    root = write_lists(tmp_path, [(n,) for n in range(20)], [(20,)], [(1, 4)])
    table = read_labels(root, split="patients:80/0/20").table
    assert prevalence(table).patients == (17, 0, 4)


def test_csv_columns_may_stand_in_any_order(tmp_path):
    """Spreadsheets reorder columns; names decide."""
    header = ("split", *reversed(FINDINGS), "Image Index", "Patient Age")
    rows = [[split, "1", *["0"] * 13, image(n), "40"] for n, split in enumerate(SPLITS)]
    table = read_labels(write_csv(tmp_path, rows, header)).table
    assert table.labels_NK.tolist() == [[0] * 13 + [1]] * 3


def test_patient_column_of_csv_decides(tmp_path):
    """Names of other hospitals say nothing, and those like NIH's may mislead."""
    rows = [["a.png", *values().split(), "train", "x"], ["b.png", *values().split(), "val", "y"]]
    rows += [[image(n), *values().split(), "test", "z"] for n in (1, 2)]
    table = read_labels(write_csv(tmp_path, rows, ("Image Index", *FINDINGS, "split", "Patient ID"))).table
    assert table.patients_N.tolist() == [0, 1, 2, 2]


def test_csv_whose_patients_are_unknown_is_refused(tmp_path):
    """Guessing that every image is of another patient would leak patients across parts."""
    text = refusal(write_csv(tmp_path, [["a.png", *values().split(), "train"]]))
    assert "cannot identify the patients" in text
    assert "add a column `Patient ID`" in text


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param(("Image Index", "Patient ID", "split"), "no column holds a finding", id="no finding"),
        pytest.param(("Image Index", *FINDINGS, "Split"), "no column `split`", id="a name that is no column's"),
        pytest.param((*FINDINGS, "split"), "no column `Image Index`", id="no image"),
        pytest.param(("Image Index", *FINDINGS), "no column `split`", id="no split"),
        pytest.param(("Image Index", *FINDINGS, "Mass", "split"), "column `Mass` more than once", id="twice the same"),
    ],
)
def test_csv_columns_are_checked_by_name(tmp_path, header, expected):
    """A label that is not read would be trained as absent."""
    assert expected in refusal(write_csv(tmp_path, [], header))


def test_bad_rows_of_csv_are_named_by_line(tmp_path):
    """All that must be corrected is told in one go."""
    rows = [csv_row(1, "train"), csv_row(2, "dev"), csv_row(1, "test"), csv_row(3, "val")[:-1]]
    rows.append([image(4), "yes", *["0"] * 13, "val"])
    text = refusal(write_csv(tmp_path, rows))
    assert "labels.csv line 3: `split` must be train, val or test, got `dev`" in text
    assert "labels.csv line 4: `00000001_000.png` is listed twice, first in labels.csv line 2" in text
    assert "labels.csv line 5: 15 columns instead of 16" in text
    assert "labels.csv line 6: Atelectasis must be 1, 0, -1 for uncertain, blank, or between 0 and 1, got `yes`" in text


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (("Patient ID", "Patient ID"), "column `Patient ID` more than once"),
        (("patient_id", "subject_id"), "more than one column of patients: `patient_id`, `subject_id`"),
    ],
)
def test_two_columns_of_patients_are_refused(tmp_path, columns, problem):
    """They may disagree on who is who."""
    rows = [[*csv_row(n, "train"), str(n), str(n)] for n in range(3)]
    root = write_csv(tmp_path, rows, ("Image Index", *FINDINGS, "split", *columns))
    assert problem in refusal(root)


@pytest.mark.parametrize("layout", ["nih", "folders"])
def test_only_files_that_are_needed_are_missing(tmp_path, layout):
    """With a split of its own kind, the lists and test/ are not."""
    needed = {"nih": "no `Data_Entry_2017*.csv`, got", "folders": "no `train/`, got"}
    assert needed[layout] in refusal(tmp_path, layout=layout, split="patients:70/10/20")


def test_csv_needs_no_split_column_when_a_split_is_made(tmp_path):
    """Labels without a split are the usual start."""
    rows = [[image(n), *values("Mass" if n % 2 else "Edema").split()] for n in range(30)]
    table = read_labels(write_csv(tmp_path, rows, ("Image Index", *FINDINGS)), split="patients:70/10/20").table
    assert prevalence(table).images == pytest.approx((21, 3, 6), abs=1)


def test_class_folders_give_classes_and_patients(tmp_path):
    """Names of the paediatric set carry number and kind; both together are the patient."""
    train = [f"train/NORMAL/IM-{n:04d}-0001.jpeg" for n in range(20)]
    train += ["train/PNEUMONIA/person1_bacteria_1.jpeg", "train/PNEUMONIA/person1_bacteria_2.JPEG"]
    train += ["train/PNEUMONIA/person1_virus_3.jpeg", "train/NORMAL/NORMAL2-IM-0001-0001-0002.jpeg"]
    train += ["train/NORMAL/.hidden.png", "train/NORMAL/notes.txt"]
    source = read_labels(write_folders(tmp_path, [*train, "test/NORMAL/a.png", "test/PNEUMONIA/a.png"]))
    table, patient = source.table, dict(zip(source.table.images, source.table.patients_N.tolist(), strict=True))
    assert table.findings == ("NORMAL", "PNEUMONIA")
    assert len(table) == 26
    assert patient[train[20]] == patient[train[21]]
    assert len(set(patient.values())) == 25
    assert table.labels_NK.sum(axis=1).tolist() == [1] * 26
    assert [len(table.rows(split)) > 0 for split in SPLITS] == [True] * 3
    assert locate_images(source) == [tmp_path / name for name in table.images]


def test_class_folders_use_the_val_folder_where_there_is_one(tmp_path):
    """Who made a validation part wants it used."""
    files = [f"{split}/{name}/{split}.png" for split in SPLITS for name in "ab"]
    assert read_labels(write_folders(tmp_path, files)).table.split_N.tolist() == [0, 0, 1, 1, 2, 2]


def test_class_folders_that_differ_between_splits_are_refused(tmp_path):
    """Classes are numbered by name: one more in test would shift the meaning of all."""
    root = write_folders(tmp_path, ["train/a/1.png", "train/b/1.tif", "test/a/2.png", "test/c/3.png"])
    text = refusal(root)
    assert "train/b/1.tif: images must be .png, .jpg, .jpeg, .dcm or .dicom" in text
    assert "train/b/: no image" in text
    assert "test/: class `b` of train/ is missing" in text
    assert "test/: class `c` is not in train/" in text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param(b"train/a/x\xff.png", "train/a/x\\xff.png: its name is not UTF-8", id="image"),
        pytest.param(b"train/a/\xff/x.png", "train/a/\\xff/x.png: its name is not UTF-8", id="folder of images"),
        pytest.param(b"train/c\xe9/x.png", "train/c\\xe9: its name is not UTF-8", id="class"),
    ],
)
def test_file_names_that_are_not_utf_8_are_refused(tmp_path, name, problem):
    """Split, hashes and results are UTF-8: a name from an old archive would fail there, after the training."""
    write_folders(tmp_path, [f"{part}/{label}/{part}{n}.png" for part in SPLITS for label in "ab" for n in range(3)])
    try:
        write_folders(tmp_path, [os.fsdecode(name)])
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    text = refusal(tmp_path)
    assert f": 1 problem\n  {problem}" in text
    text.encode()


def test_files_that_are_no_images_may_have_any_name(tmp_path):
    """Only what is read is checked."""
    files = [f"{split}/{name}/{split}.png" for split in SPLITS for name in "ab"]
    try:
        write_folders(tmp_path, [*files, os.fsdecode(b"train/a/x\xff.txt")])
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert len(read_labels(tmp_path).table) == len(files)


def test_bucket_url_in_place_of_a_directory_is_refused_as_such():
    """Not a missing directory with a slash too few."""
    text = refusal(Path("s3://b/x"))
    assert "it must be a local directory, got `s3://b/x` (from `--data`)" in text
    assert "hint: download or mount it" in text


def test_missing_directory_is_named(tmp_path):
    """A mount that is not there is the first thing to go wrong."""
    assert f"cannot read data set: no such directory, got `{tmp_path / 'x'}` (from `--data`)" in refusal(tmp_path / "x")


def test_error_for_a_directory_without_a_data_set_lists_the_expected_files(tmp_path):
    """Whoever points one level too high must see it."""
    text = refusal(tmp_path)
    assert "nih: Data_Entry_2017*.csv, train_val_list.txt, test_list.txt" in text
    assert "folders: train/, test/" in text
    assert "--layout" in text


def test_directory_with_two_layouts_needs_the_layout_flag(tmp_path):
    """Guessing between two sets of labels would be wrong half of the time."""
    write_lists(tmp_path, [(1,)], [(2,)], [(3,)])
    write_csv(tmp_path, [csv_row(n, split) for n, split in enumerate(SPLITS)])
    assert "more than one layout" in refusal(tmp_path)
    assert read_labels(tmp_path, layout="csv").layout == "csv"


def test_missing_parts_of_a_named_layout_are_named(tmp_path):
    """The user said what it should be; he needs what is not there."""
    write_nih(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    assert "no `test_list.txt`, got" in refusal(tmp_path, layout="nih")


def test_newest_edition_of_two_tables_is_read_and_the_other_named(tmp_path):
    """The 2017 and 2020 tables differ in 181 rows; which was read must be said."""
    write_nih(tmp_path, {1: "Mass"})
    (tmp_path / "Data_Entry_2017.csv").rename(tmp_path / "Data_Entry_2017_v2020.csv")
    write_nih(tmp_path)
    source = read_labels(tmp_path)
    assert source.table.labels_NK.sum() == 1
    assert source.unread == ("Data_Entry_2017.csv",)
    (note,) = unread_notes(source)
    assert note.startswith("labels are read from `Data_Entry_2017_v2020.csv`; not read")
    assert note.endswith("`Data_Entry_2017.csv`")
    shutil.copy(tmp_path / "Data_Entry_2017.csv", tmp_path / "Data_Entry_2017_old.csv")
    (tmp_path / "Data_Entry_2017_v2020.csv").unlink()
    assert "`Data_Entry_2017.csv` and `Data_Entry_2017_old.csv`" in refusal(tmp_path)


def test_label_files_of_another_layout_are_named(shared, tmp_path):
    """The published lists have the labels of 2017, the table beside them those of 2020."""
    (note,) = unread_notes(read_labels(shared / "data/nih-labels"))
    assert "layout lists" in note
    assert note.endswith("`Data_Entry_2017_v2020.csv.gz`")
    write_nih(tmp_path)
    assert unread_notes(read_labels(tmp_path)) == ()
    (tmp_path / "labels.csv.gz").touch()
    (note,) = unread_notes(read_labels(tmp_path, layout="nih"))
    assert note.endswith("`labels.csv.gz`")


def test_damaged_archive_is_named(tmp_path):
    """A broken download must not end in a traceback."""
    write_lists(tmp_path, [(1,)], [(2,)], [])
    (tmp_path / "test_list.txt").unlink()
    (tmp_path / "test_list.txt.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    assert f"cannot read `{tmp_path / 'test_list.txt.gz'}`" in refusal(tmp_path)


def test_images_are_found_in_both_of_the_release_folders(tmp_path):
    """The archives unpack to images/, the Kaggle mirror to images_001/images/ and so on."""
    source = read_labels(write_lists(tmp_path, [(1,)], [(2,)], [(3,)]))
    write_folders(tmp_path, [f"images/{image(1)}", f"images_002/images/{image(2)}", f"images/deep/er/{image(3)}"])
    assert [path.relative_to(tmp_path).as_posix() for path in locate_images(source)] == [
        f"images/{image(1)}",
        f"images_002/images/{image(2)}",
        f"images/deep/er/{image(3)}",
    ]


def test_missing_and_double_images_are_listed(tmp_path):
    """Ten minutes of decoding must not end at a file that was never there."""
    source = read_labels(write_lists(tmp_path, [(1,)], [(2,)], [(3,)]))
    write_folders(tmp_path, [f"images/{image(1)}", f"images_002/images/{image(1)}", f"images/{image(3)}"])
    with pytest.raises(InputError) as refused:
        locate_images(source)
    assert "2 of 3 are missing or duplicated" in str(refused.value)
    assert f"{image(2)}: missing" in str(refused.value)
    assert f"{image(1)}: {tmp_path / 'images' / image(1)} and {tmp_path}/images_002" in str(refused.value)


def test_prevalence_of_the_published_lists_is_the_published_one(shared):
    """All 42 numbers of the reference run's table must come out of the lists it used."""
    table = read_labels(shared / "data" / "nih-labels").table
    rows = [line.split() for line in as_table(prevalence(table)).splitlines()]
    assert [row[1:] for row in rows[1:15]] == [line.split() for line in PUBLISHED_PERCENT.split("\n") if line]
    assert rows[15:] == [["images", "78468", "11219", "22433"], ["patients", "21528", "3090", "6187"]]


@pytest.fixture
def official(shared, tmp_path):
    """NIH's own table and lists, as the release has them in one directory."""
    labels = shared / "data" / "nih-labels"
    for file in [labels / "Data_Entry_2017_v2020.csv.gz", *(labels / "official").iterdir()]:
        (tmp_path / file.name).symlink_to(file)
    return tmp_path


def test_official_split_has_the_published_sizes(official):
    """86,524 images to train and validate on, 25,596 to test on; validation is an eighth of the former's patients."""
    stats = prevalence(read_labels(official).table)
    assert stats.images[0] + stats.images[1] == 86_524
    assert stats.images[2] == 25_596
    assert stats.patients == (24_507, 3_501, 2_797)


def test_official_validation_cut_has_the_published_sizes(official):
    """Results can be compared with the papers that use this cut."""
    stats = prevalence(read_labels(official, val_list="val_names_11212.txt.gz").table)
    assert stats.images == (75_312, 11_212, 25_596)
    assert stats.patients == (24_342, 3_666, 2_797)


def test_sample_whose_images_are_all_for_testing_cannot_be_trained_on(shared):
    """The sample's own split has only test, which must be said before a job starts."""
    text = refusal(shared / "data" / "nih-sample")
    assert "no image in train and val, got 0 in train, 0 in val, 621 in test" in text


def test_every_finding_of_the_sample_reaches_every_part(shared):
    """With 18 patients for Edema, chance alone would leave it out of validation one time in seven."""
    source = read_labels(shared / "data" / "nih-sample", split="patients:70/10/20")
    for split in SPLITS:
        assert source.table.labels_NK[source.table.rows(split)].any(axis=0).all()
    assert len(locate_images(source)) == 621


def test_paediatric_sample_gets_validation_by_patient(shared):
    """The full set's 16 validation images decide nothing; a tenth of the training patients does."""
    source = read_labels(shared / "data" / "pneumonia-sample")
    stats = prevalence(source.table)
    assert stats.images[0] + stats.images[1] == 300
    assert stats.images[2] == 100
    assert stats.patients[1] == pytest.approx((stats.patients[0] + stats.patients[1]) / 10, abs=1)
    assert all(path.is_file() for path in locate_images(source))


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("chexpert_train.csv.gz", "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding"),
        ("vinbigdata-train.csv.gz", "image_id,class_name,class_id,rad_id"),
    ],
)
def test_label_files_of_other_public_sets_are_refused_by_their_first_line(shared, name, first):
    """As lists they would have 223,415 problems, one a line."""
    with pytest.raises(InputError) as refused:
        read_file(shared / "data/public-labels" / name)
    assert "a table without a column `Image Index`" in str(refused.value)
    assert first in str(refused.value)
    assert str(refused.value).count("\n") == 2


def test_list_of_names_is_refused_as_labels(shared):
    """NIH's own lists have no labels, and the name of one that has."""
    with pytest.raises(InputError, match=r"a list of images without labels, got .*test_list\.txt"):
        read_file(shared / "data/nih-labels/official/test_list.txt")
