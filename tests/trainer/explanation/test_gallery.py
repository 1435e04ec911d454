"""The gallery of a report: which images, of which data sets, and how."""

import gzip
import io
import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from report_samples import entry, record, results, write_run
from safetensors.torch import save

from trainer import __main__ as program
from trainer.config import from_argv
from trainer.data.labels import FINDINGS
from trainer.data.layouts import read_labels
from trainer.data.locate import locate_images
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.public import public_name
from trainer.data.synthetic import write_phantoms
from trainer.evaluation.calibration import Calibrator
from trainer.explanation.gallery import Mistake, _truth, make, mistakes, wanted
from trainer.models.architectures import build
from trainer.models.spec import describe
from trainer.report import Documents, html, pictures


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, images=40, side=64)
    return folder


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("densenet_tiny", "linear", 14).eval()


def test_most_confident_errors_of_each_finding_are_found():
    """Highest without it and lowest with it: what a reader would ask to see first."""
    log_odds = np.array([[3.0, -1], [2, 0], [-5, 1], [-1, 2]])
    labels = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert mistakes(log_odds, labels, classes=False) == [
        Mistake(0, 0, "highest score without it"),
        Mistake(2, 0, "lowest score with it"),
    ]


def test_finding_separated_perfectly_or_of_one_class_has_no_examples():
    """No error is made up where there is none."""
    log_odds = np.array([[1.0, 5, 5], [2.0, 6, 6]])
    labels = np.array([[0, 0, 1], [1, 0, 1]])
    assert mistakes(log_odds, labels, classes=False) == []


def test_misclassified_images_are_ordered_by_confidence():
    """With one class an image there is a decision, and it is wrong or right."""
    log_odds = np.array([[2.0, -2], [-3, 3], [4, -4], [-1, 1]])
    labels = np.array([[0, 1], [1, 0], [1, 0], [1, 0]])
    assert mistakes(log_odds, labels, classes=True) == [
        *(Mistake(1, 1, "wrong class"), Mistake(0, 0, "wrong class"), Mistake(3, 1, "wrong class")),
    ]
    assert len(mistakes(log_odds, labels, classes=True, most=1)) == 1


@pytest.mark.parametrize("classes", [False, True])
def test_pictures_are_the_image_beside_its_map(network, classes):
    """What is shown must be what the model sees, and of the finding that is named."""
    rng = np.random.default_rng(0)
    records = rng.integers(0, 255, (6, 72, 72), np.uint8)
    labels = np.eye(14, dtype=np.uint8)[[0, 0, 0, 1, 1, 1]]
    made = make(
        network,
        names=[f"{n}.png" for n in range(6)],
        log_odds_NK=rng.normal(size=(6, 14)),
        labels_NK=labels,
        findings=FINDINGS,
        classes=classes,
        record_of=lambda position: records[position],
        crop_px=64,
        most=3,
    )
    assert 0 < len(made) <= 3
    for one in made:
        pair = Image.open(io.BytesIO(one.jpeg))
        assert pair.size == (404, 200)
        left = np.asarray(pair.convert("L"), np.float64)[:, :200]
        seen = Image.fromarray(records[int(one.image[0])][4:68, 4:68]).resize((200, 200), Image.Resampling.BICUBIC)
        assert np.corrcoef(left.ravel(), np.asarray(seen, np.float64).ravel())[0, 1] > 0.9
        assert np.asarray(pair)[:, 210:].std(axis=2).max() > 20  # the map is in colour
        assert len(one.jpeg) < 40_000


def test_probabilities_are_calibrated_where_the_run_has_a_calibration(network):
    """They stood beside calibrated ones on the page, on another scale."""
    rng = np.random.default_rng(0)
    log_odds = rng.normal(size=(6, 14))
    calibrator = Calibrator(FINDINGS, (2.0,) * 14, (-1.0,) * 14, {}, "val, 6 images", "0")

    def pictured(calibrator):
        return make(
            network,
            names=[f"{n}.png" for n in range(6)],
            log_odds_NK=log_odds,
            labels_NK=np.eye(14, dtype=np.uint8)[[0, 0, 0, 1, 1, 1]],
            findings=FINDINGS,
            classes=False,
            record_of=lambda position: np.full((72, 72), 7 * position, np.uint8),
            crop_px=64,
            calibrator=calibrator,
            most=2,
        )

    for one, raw in zip(pictured(calibrator), pictured(None), strict=True):
        assert (one.calibrated, raw.calibrated) == (True, False)
        value = log_odds[int(one.image[0]), FINDINGS.index(one.finding)]
        assert raw.probability == pytest.approx(1 / (1 + np.exp(-value)))
        assert one.probability == pytest.approx(1 / (1 + np.exp(1 - 2 * value)))
        words = [
            html(Documents(run=record(), entries=[], pictures=shown)).count("Probabilities are before calibration")
            for shown in ([one], [raw])
        ]
        assert words == [0, 1]


def test_gallery_of_an_earlier_version_is_not_called_calibrated():
    """Its file does not say so, and its probabilities are not."""
    new = pictures.Picture(
        image="a.png", finding="Mass", kind="k", truth="t", probability=0.2, calibrated=True, jpeg=b"\xff\xd8\xff"
    )
    document = json.loads(pictures.to_bytes([new]))
    del document["pictures"][0]["calibrated"]
    (old,) = pictures.from_bytes(json.dumps(document).encode())
    assert not old.calibrated


def test_gallery_survives_being_written_and_read():
    """The page is written again from them."""
    one = pictures.Picture(
        image="a.png",
        finding="Mass",
        kind="lowest score with it",
        truth="labelled Mass",
        probability=0.25,
        calibrated=True,
        jpeg=b"\xff\xd8\xff rest",
    )
    assert pictures.from_bytes(pictures.to_bytes([one])) == (one,)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b'{"pictures": [{}]}',
        json.dumps(
            {
                "pictures": [
                    {"image": "a", "finding": "b", "kind": "c", "truth": "d", "probability": 1, "jpeg": "PHN2Zz4="}
                ]
            }
        ).encode(),
    ],
    ids=["empty", "list", "no fields", "no JPEG"],
)
def test_unreadable_images_are_left_out_of_the_gallery(content):
    """A page without pictures is still a page; and nothing but pictures gets onto it."""
    assert pictures.from_bytes(content) == ()


def test_phantoms_are_recognised_as_public(phantoms, tmp_path):
    """By the labels that their seed draws: a set of other labels is not taken for one."""
    assert public_name(read_labels(phantoms)) == "synthetic phantoms"
    other = tmp_path / "other"
    shutil.copytree(phantoms, other)
    table = other / "Data_Entry_2017.csv"
    table.write_text(table.read_text().replace(",PA,", ",AP,", 1))
    assert public_name(read_labels(other)) is None
    shutil.copy(phantoms / "Data_Entry_2017.csv", table)
    assert public_name(read_labels(other)) == "synthetic phantoms"
    (other / "phantoms.json").unlink()
    assert public_name(read_labels(other)) is None


def test_edition_that_is_not_read_does_not_hide_a_public_set(shared, tmp_path):
    """A directory may have both; pictures depend on the one that is read."""
    table = gzip.decompress((shared / "data/nih-labels/Data_Entry_2017_v2020.csv.gz").read_bytes())
    (tmp_path / "Data_Entry_2017_v2020.csv").write_bytes(table)
    for name in ("train_val_list.txt", "test_list.txt"):
        shutil.copy(shared / "data/nih-labels/official" / name, tmp_path)
    assert public_name(read_labels(tmp_path)) == "ChestX-ray14"
    (tmp_path / "Data_Entry_2017.csv").write_bytes(table[:5000])
    assert public_name(read_labels(tmp_path)) == "ChestX-ray14"


def test_chestxray14_is_recognised_by_its_label_files(shared, tmp_path):
    """Byte for byte, packed or not: a file that somebody has changed may name anybody's images."""
    labels = shared / "data/nih-labels"
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}_list.txt").write_bytes(gzip.decompress((labels / f"{name}_list.txt.gz").read_bytes()))
    assert public_name(read_labels(tmp_path, layout="lists")) == "ChestX-ray14"
    os.mkfifo(tmp_path / "test_list.txt.pipe")  # called like one of them: nobody waits for what comes through it
    assert public_name(read_labels(tmp_path, layout="lists")) is None
    (tmp_path / "test_list.txt.pipe").unlink()
    shutil.copy(labels / "test_list.txt.gz", tmp_path)
    (tmp_path / "test_list.txt").unlink()
    assert public_name(read_labels(tmp_path, layout="lists")) == "ChestX-ray14"
    with (tmp_path / "val_list.txt").open("a") as file:
        file.write("\n99999999_000.png 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")
    assert public_name(read_labels(tmp_path, layout="lists")) is None


def folders(root, normal, ill):
    for part in ("train", "val", "test"):
        for name, files in (("NORMAL", normal), ("PNEUMONIA", ill)):
            (root / part / name).mkdir(parents=True)
            for file in files:
                (root / part / name / file.replace("#", str(1 + len(part)))).touch()
    return read_labels(root)


@pytest.mark.parametrize(
    ("normal", "ill", "known"),
    [
        pytest.param(
            ["IM-011#-0001.jpeg", "NORMAL2-IM-022#-0001.jpeg"], ["person#_virus_7.jpeg"], True, id="its names"
        ),
        pytest.param(["IM-011#-0001.jpeg", "smith#.jpeg"], ["person#_virus_7.jpeg"], False, id="one other name"),
        pytest.param(["IM-011#-0001.jpeg"], ["IM-022#-0001.jpeg"], False, id="names that viewers give"),
        pytest.param(["person#_virus_7.jpeg"], ["person#_bacteria_7.jpeg"], False, id="names of the other class"),
    ],
)
def test_pneumonia_set_is_recognised_by_all_its_file_names(normal, ill, known, tmp_path):
    """Viewers export IM-0001-0001 too, so that alone is nobody's sign."""
    assert (public_name(folders(tmp_path, normal, ill)) is not None) is known


def test_gallery_shows_images_of_public_sets_or_with_the_gallery_flag(phantoms, tmp_path):
    """The report of a hospital's own images must not carry them along unasked."""
    public = read_labels(phantoms)
    private = folders(tmp_path, ["a#.png"], ["b#.png"])
    assert wanted("auto", public) == (True, "the data set is public: synthetic phantoms")
    assert wanted("off", public)[0] is False
    assert wanted("on", private)[0] is True
    shown, why = wanted("auto", private)
    assert shown is False
    page = html(Documents(run=record(), entries=[], why_none=why))
    assert "No images are shown: the images and labels are not recognised as a whole public data set" in page
    assert "data:image/jpeg" not in page


def test_report_command_rebuilds_the_gallery_on_request(phantoms, network, tmp_path, capsys):
    """Of a run whose report was written without it: from its predictions, its model and the images."""
    source = read_labels(phantoms)
    table = source.table.used()
    rows = table.rows("test").tolist()
    lines = [",".join(["Image Index", *(f"prob_{name}" for name in FINDINGS)])]
    rng = np.random.default_rng(0)
    lines += [",".join([table.images[row], *(f"{value:.6f}" for value in rng.random(14))]) for row in rows]
    run = write_run(
        tmp_path / "run-1",
        run=record(data=str(phantoms), split="given", layout="auto"),
        entries=[entry(1)],
        outcome=results(),
    )
    (run / "predictions").mkdir()
    (run / "predictions/test.csv").write_text("\n".join(lines) + "\n")

    flags = [
        "--pack-side",
        "72",
        "--crop-px",
        "64",
        "--model",
        "densenet_tiny",
        "--name",
        "run-1",
        "--data",
        "d",
        "--output",
        "o",
    ]
    header = describe(from_argv(flags), FINDINGS, step=16)
    (run / "model").mkdir()
    (run / "model/model.safetensors").write_bytes(save(network.state_dict(), header))
    assert program.main(["report", str(run), "--gallery", "on"]) == 0
    kept = pictures.from_bytes((run / "report/gallery.json").read_bytes())
    assert {one.finding for one in kept} <= set(FINDINGS)
    paths = dict(zip(source.table.images, locate_images(source), strict=True))
    shown = Image.open(io.BytesIO(kept[0].jpeg)).convert("L").crop((0, 0, 200, 200))
    seen = Image.fromarray(to_gray_square(paths[kept[0].image], Geometry(side=72, fit="crop"))[4:68, 4:68]).resize(
        (200, 200)
    )
    assert np.corrcoef(np.asarray(shown).ravel(), np.asarray(seen).ravel())[0, 1] > 0.98
    assert kept[0].uri in (run / "report/index.html").read_text()
    capsys.readouterr()
    assert program.main(["report", str(run), "--gallery", "on", "--data", str(tmp_path / "nowhere")]) == 2
    assert "no such directory" in capsys.readouterr().err


def test_image_whose_finding_is_unknown_is_no_error_of_it():
    """The highest score may well be right there."""
    nan = float("nan")
    log_odds = np.array([[9.0], [2.0], [1.0], [-9.0]])
    labels = np.array([[nan], [0], [1], [nan]], np.float32)
    assert mistakes(log_odds, labels, classes=False) == [
        Mistake(1, 0, "highest score without it"),
        Mistake(2, 0, "lowest score with it"),
    ]
    assert mistakes(log_odds, np.where(labels == 0, nan, labels), classes=False) == []


def test_caption_counts_unknown_labels():
    labels = np.array([1, float("nan"), 0.2, 0.5], np.float32)
    assert _truth(labels, ["A", "B", "C", "D"]) == "labelled A, D, 1 unknown"
    assert _truth(labels[1:3], ["B", "C"]) == "labelled without a finding, 1 unknown"
