"""Prepared sets: their index, their use in place of the source, and how other programs read them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prepared_sets import SIDE, archived, images_of, inline, run  # noqa: F401 - a fixture

from trainer.data.dataset import Place, labelled
from trainer.data.decoded_images import decoded
from trainer.data.layouts import read_labels
from trainer.data.layouts.rsna import MAPPING
from trainer.data.locate import locate_images, missing_images
from trainer.data.packs import prepared
from trainer.data.packs.labels_csv import as_bytes, parsed
from trainer.data.packs.prepared import read
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.synthetic import write_phantoms
from trainer.errors import InputError, TryAgainError
from trainer.label_choices import LabelChoices
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import join
from trainer.runtime.watchdog import Watchdog
from trainer.runtime.world import World

DOCS = Path(__file__).parents[3] / "docs/packs.md"
GEOMETRY = Geometry(side=SIDE, fit="crop")


@pytest.fixture
def made(tmp_path, inline):  # noqa: F811
    write_phantoms(tmp_path / "data", images=30, side=32)
    archived(tmp_path / "data", tmp_path / "archives")
    run(tmp_path / "archives", tmp_path / "p")
    return tmp_path / "p"


def opened(folder, **changes):
    place = Place(
        data=str(folder),
        layout="auto",
        split="given",
        val_list=None,
        geometry=replace(GEOMETRY, **changes.pop("geometry", {})),
        cache=folder.parent / "cache",
        **changes,
    )
    source = labelled(place)
    reporter = Reporter(None)
    with join(World(), "gloo") as group:
        return source, decoded(place, source, group, reporter, Watchdog(float("inf"), reporter.line))


def test_training_gets_the_records_of_its_rows_and_decodes_nothing(made):
    """Rows of the table are in another order than records where images are in no split."""
    (made.parent / "archives").rename(made.parent / "gone")
    source, pack = opened(made)
    names = source.table.images
    records = np.empty((len(names), SIDE, SIDE), np.uint8)
    pack.gather(np.arange(len(names)), records)
    for name, record in zip(names, records, strict=True):
        np.testing.assert_array_equal(record, to_gray_square(made.parent / "data/images" / name, GEOMETRY))
    assert not (made.parent / "cache").exists()
    assert missing_images(source) == []
    with pytest.raises(InputError, match="holds records and no image files"):
        locate_images(source)


def test_rows_without_a_split_are_skipped_over(made):
    """Then row numbers and record numbers differ."""
    source, pack = opened(made)
    rest = replace(source, table=source.table.without(source.table.images[:7]))
    rest = replace(rest, table=rest.table.used())
    with join(World(), "gloo") as group:
        place = Place(
            data=str(made), layout="auto", split="given", val_list=None, geometry=GEOMETRY, cache=made.parent / "cache"
        )
        fewer = decoded(place, rest, group, Reporter(None), Watchdog(float("inf"), lambda _: None))
    ours, theirs = np.empty((1, SIDE, SIDE), np.uint8), np.empty((1, SIDE, SIDE), np.uint8)
    fewer.gather(np.array([2]), ours)
    pack.gather(np.array([9]), theirs)
    np.testing.assert_array_equal(ours, theirs)
    assert fewer.sha256 == pack.sha256


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"geometry": {"side": 24}}, "--pack-side 16 (requested 24)"),
        ({"geometry": {"fit": "pad"}}, "--pack-fit crop (requested pad)"),
    ],
)
def test_set_of_another_geometry_is_refused_with_the_flags_to_use(made, changes, text):
    with pytest.raises(InputError, match="it was prepared with") as caught:
        opened(made, **changes)
    assert text in str(caught.value)
    assert "prepare the data set again" in caught.value.hint


def test_gray_range_does_not_matter_without_16_bit_images(made):
    assert opened(made, gray_range="12")[1].index.geometry.gray_bits == 12
    assert opened(made)[1].index.geometry.gray_bits is None


@pytest.mark.parametrize("name", ["names.txt", "labels.csv", "sizes.bin", "checksums.bin", "shard-0001-0000.bin"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "gone"])
def test_damaged_file_is_named(made, name, damage):
    """There is nothing to build it again from."""
    path = made / name
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content if damage == "flipped" else content[:-1])
    with pytest.raises(InputError, match="it is damaged") as caught:
        opened(made)
    assert name in str(caught.value)
    assert "trainer prepare" in caught.value.hint


def test_record_that_changes_while_it_is_used_is_noticed(made):
    _, pack = opened(made)
    shard = made / "shard-0000-0000.bin"
    content = bytearray(shard.read_bytes())
    content[3] ^= 8
    shard.write_bytes(content)
    with pytest.raises(TryAgainError, match="record 0 has changed"):
        pack.gather(np.array([0]), np.empty((1, SIDE, SIDE), np.uint8))


SPOILT = {
    "no JSON": lambda index: "{",
    "a list": lambda index: "[]",
    "no parts": lambda index: index | {"parts": []},
    "a file outside": lambda index: index | {"files": index["files"] | {"../x": [1, "0" * 64]}},
    "a shard elsewhere": lambda index: index | {"parts": [index["parts"][0] | {"shards": ["../shard-0000-0000.bin"]}]},
    "negative side": lambda index: index | {"geometry": index["geometry"] | {"side": -1}},
    "huge side": lambda index: index | {"geometry": index["geometry"] | {"side": 1 << 40}},
    "unknown filter": lambda index: index | {"geometry": index["geometry"] | {"filter": "lanczos"}},
    "other count": lambda index: index | {"count": 31},
    "no hash": lambda index: index | {"files": index["files"] | {"names.txt": [510, "x"]}},
    "parts that overlap": lambda index: index | {"parts": [part | {"first": 0} for part in index["parts"]]},
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_index_that_contradicts_itself_is_refused(made, spoil):
    """It may come from anywhere: no name in it may lead out of the folder, and no number to unbounded memory."""
    path = made / "manifest.json"
    spoilt = SPOILT[spoil](json.loads(path.read_text()))
    path.write_text(spoilt if isinstance(spoilt, str) else json.dumps(spoilt))
    with pytest.raises(InputError, match="it is damaged"):
        read(made)


def test_higher_format_is_refused(made):
    path = made / "manifest.json"
    path.write_text(path.read_text().replace('"format": 3', '"format": 4'))
    with pytest.raises(InputError, match="another format than 3"):
        read(made)


def test_ten_lines_of_the_guide_read_a_prepared_set(made):
    """A format that only this program reads would hold the images captive."""
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[1]
    lines = [line for line in code.splitlines() if line]
    assert len(lines) <= 10
    names = {}
    exec(code.replace("/data/cxr256", str(made)), names)
    source, _ = opened(made)
    row_of = {name: row for row, name in enumerate(source.table.images)}
    assert len(names["images"]) == 30
    for record, labels, row in zip(names["images"], names["labels"], names["rows"], strict=True):
        name = row["Image Index"]
        np.testing.assert_array_equal(record, to_gray_square(made.parent / "data/images" / name, GEOMETRY))
        np.testing.assert_array_equal(labels, source.table.labels_NK[row_of[name]])


def test_guide_describes_every_key_and_file(made):
    text = DOCS.read_text(encoding="utf-8")
    index = json.loads((made / "manifest.json").read_text())
    assert [key for key in index if f"| `{key}` |" not in text] == []
    assert [name for name in index["files"] if not name.startswith("shard") and f"| `{name}` |" not in text] == []


def test_uncertain_blank_and_soft_labels_survive(made):
    """What a layout said must not be decided when the set is prepared."""
    table = labelled(
        Place(data=str(made), layout="auto", split="given", val_list=None, geometry=GEOMETRY, cache=made)
    ).table
    labels_NK = table.labels_NK.copy()
    labels_NK[0, :4] = [-1, np.nan, np.float32(2 / 3), 1]
    changed = replace(table, labels_NK=labels_NK, views=("PA",) * 29 + ("",), unidentified=frozenset(table.images[:1]))
    nih_names = {changed.images[3]: "00000099_000.png"}
    content = as_bytes(changed, range(30), nih_names)
    again, same_names = parsed(content, changed.findings)
    assert same_names == nih_names
    np.testing.assert_array_equal(again.labels_NK, labels_NK)
    assert again.views == changed.views
    assert again.unidentified == changed.unidentified
    assert content.splitlines()[0] == as_bytes(again, range(30), nih_names).splitlines()[0]
    assert b"nih_name" not in as_bytes(again, range(30), {})


@pytest.mark.usefixtures("inline")
def test_set_of_rsna_keeps_the_names_in_chestxray14(tmp_path):
    """Otherwise images that a model was trained on would not be found among them."""
    pytest.importorskip("pydicom")
    write_phantoms(tmp_path / "rsna", images=30, side=32, layout="rsna")
    images = read_labels(tmp_path / "rsna").table.images
    pairs = [{"subset_img_id": name, "img_id": f"{row:08d}_000.png"} for row, name in enumerate(images[:29], start=1)]
    (tmp_path / "rsna" / MAPPING).write_text(json.dumps(pairs))
    run(tmp_path / "rsna", tmp_path / "p")
    ours, theirs = read_labels(tmp_path / "p"), read_labels(tmp_path / "rsna")
    assert ours.nih_names == theirs.nih_names
    assert len(ours.nih_names) == 29
    assert ours.table.unidentified == theirs.table.unidentified == {images[29]}


def test_images_of_the_set_are_named_without_patients(made):
    """Only what the label files name an image is kept."""
    assert {path.name for path in made.iterdir()} == {
        *("NOTICE.txt", "checksums.bin", "labels.csv", "manifest.json", "names.txt", "sizes.bin"),
        *("shard-0000-0000.bin", "shard-0001-0000.bin", "shard-0002-0000.bin"),
    }
    assert "NIH Clinical Center" in (made / "NOTICE.txt").read_text()
    assert prepared.is_prepared(made)
    assert not prepared.is_prepared(made.parent / "data")
    assert len(images_of(made.parent / "data")) == 30


def test_choices_of_labels_are_made_by_who_trains(tmp_path, inline):  # noqa: F811
    """CheXpert's uncertain and blank labels, from one prepared set in two ways, equal those from the original."""
    write_phantoms(tmp_path / "data", layout="chexpert", images=40, side=32)
    run(tmp_path / "data", tmp_path / "p")
    for choices in (LabelChoices(), LabelChoices(uncertain=("ones",), blank="zeros"), LabelChoices(findings="Edema")):
        ours, theirs = (read_labels(place, choices=choices) for place in (tmp_path / "p", tmp_path / "data"))
        assert ours.table.findings == theirs.table.findings
        assert ours.table.labels_sha256() == theirs.table.labels_sha256()
        assert ours.table.split_sha256() == theirs.table.split_sha256()
        assert ours.policy == theirs.policy
    with pytest.raises(InputError, match="cannot use --valid-as with a prepared set"):
        read_labels(tmp_path / "p", choices=LabelChoices(valid_as="test"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            lambda text: text.replace('"format": 3', '"format": 4'),
            "manifest.json has another format than 3, of a newer version",
        ),
        (lambda text: text[:-20], "manifest.json cannot be read"),
        (lambda _: "{}", "manifest.json cannot be read"),
        (lambda _: "", "manifest.json cannot be read"),
    ],
)
def test_set_whose_index_is_damaged_is_not_taken_for_another_layout(made, content, reason):
    path = made / "manifest.json"
    path.write_text(content(path.read_text()))
    with pytest.raises(InputError, match=f"it is damaged: {reason}"):
        opened(made)


def test_set_without_an_index_is_not_taken_for_another_layout(made):
    (made / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"it is damaged: manifest\.json: no such file"):
        opened(made)
