"""Where the images of a data set are: names with and without folders, missing images, other suffixes."""

from pathlib import Path

import pytest

from tests.trainer.data.test_layouts import image, values, write_csv, write_folders, write_lists, write_nih
from trainer.data.labels import FINDINGS
from trainer.data.layouts import read_labels
from trainer.data.locate import locate_images, missing_images, share_present, without_missing
from trainer.errors import InputError

FOLDER = "images_006/"


def relative(source):
    return [path.relative_to(source.root).as_posix() for path in locate_images(source)]


def nih(root, *, in_table, in_lists):
    write_nih(root, train_val=range(1, 17), test=range(17, 21))
    for path in filter(Path.is_file, root.iterdir()):
        folder = FOLDER if (in_table if path.suffix == ".csv" else in_lists) else ""
        path.write_text("\n".join(folder + line if line[:1] == "0" else line for line in path.read_text().splitlines()))
    return read_labels(root)


@pytest.mark.parametrize(("in_table", "in_lists"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("place", ["images_006/", "images_006/images/", "images/", "images/deep/"])
def test_nih_names_may_have_folders_in_table_and_lists(tmp_path, in_table, in_lists, place):
    write_folders(tmp_path, [f"{place}{image(n)}" for n in range(1, 21)])
    source = nih(tmp_path, in_table=in_table, in_lists=in_lists)
    assert [len(source.table.rows(split)) for split in ("train", "val", "test")] == [14, 2, 4]
    assert sorted(relative(source)) == sorted(f"{place}{image(n)}" for n in range(1, 21))


def test_names_in_lists_may_have_folders(tmp_path):
    write_folders(tmp_path, [f"images_001/{image(n)}" for n in (1, 2, 3)])
    lines = [f"images_001/{image(n)} {values()}" for n in (1, 2, 3)]
    source = read_labels(write_lists(tmp_path, *([line] for line in lines)))
    assert relative(source) == [f"images_001/{image(n)}" for n in (1, 2, 3)]


@pytest.mark.parametrize("prefix", ["scans/", "scans\\", "./scans/"])
def test_names_in_a_csv_may_have_folders_of_their_own(tmp_path, prefix):
    """Folders decide between images of one file name."""
    names = [f"{prefix}{folder}/{n}.png" for folder in "ab" for n in (1, 2, 3)]
    write_folders(tmp_path, [f"scans/{folder}/{n}.png" for folder in "ab" for n in (1, 2, 3)])
    rows = [
        [name, *values().split(), split, f"p{n}"]
        for n, (name, split) in enumerate(zip(names, ["train", "val", "test"] * 2, strict=True))
    ]
    source = read_labels(write_csv(tmp_path, rows, ("Image Index", *FINDINGS, "split", "patient_id")))
    assert relative(source) == [f"scans/{folder}/{n}.png" for folder in "ab" for n in (1, 2, 3)]


def test_missing_images_are_left_out_and_counted_by_split(tmp_path):
    write_nih(tmp_path)
    write_folders(tmp_path, [f"images/{image(n)}" for n in range(1, 46)])
    source = read_labels(tmp_path)
    missing = missing_images(source)
    assert missing == [image(n) for n in range(46, 51)]
    assert share_present(source, missing) == [
        "train 35 of 35 (100.0 %)",
        "val 5 of 5 (100.0 %)",
        "test 5 of 10 (50.0 %)",
    ]
    assert len(without_missing(source, missing).table.used()) == 45


def test_split_without_any_image_is_refused_with_the_shares(tmp_path):
    write_nih(tmp_path)
    write_folders(tmp_path, [f"images/{image(n)}" for n in range(1, 41)])
    source = read_labels(tmp_path)
    with pytest.raises(
        InputError, match=r"all images in test are missing, got train 35 of 35 .*, test 0 of 10 .0.0 %."
    ) as refused:
        without_missing(source, missing_images(source))
    assert "--split patients:70/10/20" in str(refused.value)


def test_image_with_another_suffix_is_named(tmp_path):
    """The table has the names of the release, and the files were converted."""
    source = read_labels(write_lists(tmp_path, [(1,)], [(2,)], [(3,)]))
    write_folders(tmp_path, [f"images/{image(n)}" for n in (1, 2)] + [f"images/{image(3)[:-4]}.jpg"])
    with pytest.raises(InputError, match=f"{image(3)}: missing, but there is `{image(3)[:-4]}.jpg`"):
        locate_images(source)


def test_image_of_another_patient_in_a_folder_of_its_own_is_not_taken(tmp_path):
    rows = [
        [f"p{n}/study1/v3.png", *values().split(), split, f"p{n}"] for n, split in enumerate(["train", "val", "test"])
    ]
    write_csv(tmp_path, rows, ("Image Index", *FINDINGS, "split", "patient_id"))
    write_folders(tmp_path, ["images/p0/study1/v3.png", "images/p1/study1/v3.png", "images/p99/study1/v3.png"])
    assert missing_images(read_labels(tmp_path)) == ["p2/study1/v3.png"]


def test_names_may_begin_with_the_folder_of_the_data_set(tmp_path):
    root = tmp_path / "rooted"
    names = [f"rooted/imgs/{n}.png" for n in range(3)]
    write_folders(tmp_path, names)
    rows = [[name, *values().split(), split, name] for name, split in zip(names, ["train", "val", "test"], strict=True)]
    write_csv(root, rows, ("Image Index", *FINDINGS, "split", "patient_id"))
    assert missing_images(read_labels(root)) == []


def test_links_to_files_that_are_not_there_are_missing(tmp_path):
    """As files of git-annex that have not been fetched."""
    source = read_labels(write_lists(tmp_path, [(1,)], [(2,)], [(3,)]))
    write_folders(tmp_path, [f"images/{image(n)}" for n in (1, 2)])
    (tmp_path / "images" / image(3)).symlink_to("../.git/annex/objects/x")
    assert missing_images(source) == [image(3)]
    write_folders(
        tmp_path / "set",
        [f"{split}/{name}/{split}-{n}.png" for split in ("train", "test") for name in "ab" for n in range(9)],
    )
    (tmp_path / "set/train/a/gone.png").symlink_to("nowhere")
    assert missing_images(read_labels(tmp_path / "set", split="patients:70/10/20")) == ["train/a/gone.png"]


def test_two_links_to_one_folder_of_images_are_one(tmp_path):
    write_folders(tmp_path, [f"pool/{image(n)}" for n in (1, 2, 3)])
    for name in ("images", "images_001"):
        (tmp_path / name).symlink_to("pool")
    assert len(locate_images(read_labels(write_lists(tmp_path, [(1,)], [(2,)], [(3,)])))) == 3


@pytest.mark.parametrize("kind", ["nih", "folders"])
def test_split_of_the_data_set_is_not_needed_where_another_is_requested(tmp_path, kind):
    """Two archives and the table are what most people have."""
    if kind == "nih":
        write_nih(tmp_path)
        for name in ("train_val_list.txt", "test_list.txt"):
            (tmp_path / name).unlink()
    else:
        write_folders(tmp_path, [f"train/{name}/{n}.png" for name in "ab" for n in range(25)])
    table = read_labels(tmp_path, split="patients:70/10/20").table
    assert len(table.used()) == 50
    with pytest.raises(InputError, match="it has not all files of any layout"):
        read_labels(tmp_path)
