"""`trainer explain`: what it writes, prints and refuses."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from trainer import devices
from trainer.__main__ import main
from trainer.data.image_files import ImageFile, image_files
from trainer.data.labels import FINDINGS
from trainer.data.packs.records import to_square
from trainer.explanation import explainer
from trainer.explanation.cam import activate
from trainer.explanation.explain import CHECKED_IMAGES
from trainer.explanation.explainer import open_explainer
from trainer.models import forward_threads
from trainer.models.architectures import build
from trainer.models.load import load_model
from trainer.report.picture_files import stems

BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"


def _save(path, *, head="linear", loss="bce", findings=FINDINGS, fit="crop"):
    """A tiny network that was never trained, told as an exported one is: its maps have 4 x 4 cells."""
    torch.manual_seed(2)
    network = build("densenet_tiny", head, len(findings))
    header = {
        "format": "1",
        "name": "tiny",
        "step": "7",
        "model": "densenet_tiny",
        "head": head,
        "loss": loss,
        "findings": json.dumps(list(findings)),
        "pack_side": "144",
        "pack_fit": fit,
        "crop_px": "128",
    }
    save_file(network.state_dict(), path, metadata=header)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return _save(tmp_path_factory.mktemp("model") / "model.safetensors")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three images of 160 x 120 pixels, one of them in a folder of its own."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    rng = np.random.default_rng(0)
    for name in ("00000001_000.png", "00000002_000.png", "more/00000003_000.png"):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8), np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(folder / name)
    return folder


@pytest.fixture
def explain(model, tmp_path, capsys):
    """Run it on the processor: exit code, stdout's lines, stderr, and the folder it wrote to."""

    def run(*argv, model=model):
        out = tmp_path / "out"
        code = main(["explain", *map(str, argv), "--model", str(model), "--out", str(out), "--device", "cpu"])
        stdout, stderr = capsys.readouterr()
        return code, stdout.splitlines(), stderr, out

    return run


def test_explain_writes_an_overlay_and_a_line_for_the_most_probable_finding(explain, images, model):
    """What is printed is what is written, in pixels of the image."""
    code, stdout, _, out = explain(images)
    assert code == 0
    assert (out / "maps.jsonl").read_text().splitlines() == stdout
    lines = [json.loads(line) for line in stdout]
    trained = load_model(str(model))
    for line, name in zip(lines, ["00000001_000.png", "00000002_000.png", "more/00000003_000.png"], strict=True):
        assert line["image"] == str(images / name)
        with Image.open(images / name) as image:
            square = np.asarray(to_square(image, trained.geometry))
        view = open_explainer(trained, devices.find("cpu"), batch=1).view([square])
        logits = trained.network(view).detach().numpy()[0]
        assert line["finding"] == FINDINGS[int(logits.argmax())]
        assert line["probability"] == pytest.approx(1 / (1 + math.exp(-logits.max())), abs=1e-5)
        assert (line["calibrated"], line["width"], line["height"], line["cells"]) == (False, 160, 120, [4, 4])
        assert line["boxes"]
        for box in line["boxes"]:  # the crop of a wide image: what is cut off left and right is never boxed
            assert 26.6 <= box["x"] <= box["x"] + box["width"] <= 133.4
            assert 6.6 <= box["y"] <= box["y"] + box["height"] <= 113.4
            assert 0.7 <= box["score"] <= 1
        with Image.open(out / line["overlay"]) as picture, Image.open(images / name) as image:
            assert (picture.mode, picture.info) == ("RGB", {})
            np.testing.assert_array_equal(picture.crop((0, 0, 160, 120)), image.convert("RGB"))
    assert len(list(out.iterdir())) == 4


def test_ignored_orientation_is_noted(explain, images, tmp_path):
    """The picture of a map lies on its side beside the image in a viewer."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned").mkdir()
    Image.open(images / "00000001_000.png").save(tmp_path / "turned/a.jpg", exif=exif)
    Image.open(images / "00000002_000.png").save(tmp_path / "turned/b.jpg")
    code, _, stderr, _ = explain(tmp_path / "turned")
    assert code == 0
    assert "note: the EXIF orientation of 1 of 2 images is ignored" in stderr


def test_findings_can_be_selected_and_overlays_disabled(explain, images):
    """One line for each image and finding, in that order."""
    code, stdout, stderr, out = explain(
        images / "00000001_000.png", images / "more", "--findings", "Hernia, Mass", "--no-overlays"
    )
    assert code == 0
    lines = [json.loads(line) for line in stdout]
    assert [line["finding"] for line in lines] == ["Hernia", "Mass"] * 2
    assert [line["overlay"] for line in lines] == [None] * 4
    assert [path.name for path in out.iterdir()] == ["maps.jsonl"]
    assert "maps have only 4 x 4 cells" in stderr


def test_batch_size_changes_no_map(explain, images):
    """Neither maps nor probabilities depend on what an image is looked at with."""
    _, whole, _, _ = explain(images, "--top", "2")
    _, single, _, _ = explain(images, "--top", "2", "--batch-size", "1")
    for one, other in zip(map(json.loads, whole), map(json.loads, single), strict=True):
        assert one["finding"] == other["finding"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        assert one["boxes"] == other["boxes"]


def test_several_threads_change_no_map_and_no_order(monkeypatch, explain, images, tmp_path):
    """The random maps are drawn in the order of the images, whichever is ready first."""
    names = ["00000001_000.png", "00000002_000.png", "00000003_000.png"]
    boxes = _list(tmp_path / "boxes.csv", [(name, "Mass", 200, 300, 300, 300) for name in names])
    results = []
    for cores in (1, 4):
        monkeypatch.setattr(forward_threads, "usable_cores", lambda cores=cores: cores)
        torch.set_num_threads(cores)
        code, *_, out = explain(images, "--boxes", boxes, "--batch-size", "2")
        assert code == 0
        lines = [json.loads(line) for line in (out / "maps.jsonl").read_text().splitlines()]
        assert [line["image"].rpartition("/")[2] for line in lines] == names
        assert all((out / line["overlay"]).exists() for line in lines)
        results.append(((out / "localisation.json").read_text(), [line["boxes"] for line in lines]))
    assert results[0] == results[1]


def test_maps_in_bf16_are_close_to_fp32(monkeypatch, images, model):
    """What follows the last feature maps is computed in fp32."""
    monkeypatch.setattr(devices.load("cpu"), "check_precision", lambda _precision: None)  # torch emulates bf16
    trained, findings = load_model(str(model)), [0, 5]
    maps = {}
    for precision in ("fp32", "bf16"):
        opened = open_explainer(trained, devices.find("cpu"), precision=precision)
        seen = list(opened.explain(image_files([images]), findings, lambda one: one))
        assert [one.precision for one in seen] == [precision] * 3
        maps[precision] = np.stack([one.maps[finding] for one in seen for finding in findings])
    ranges = np.ptp(maps["fp32"], axis=(1, 2), keepdims=True)
    assert maps["fp32"].shape == (6, 4, 4)
    assert (ranges > 0).all()
    error = np.abs(maps["bf16"] - maps["fp32"]) / ranges
    assert 0 < error.max() < 0.05


@pytest.mark.parametrize(("cores", "sizes"), [(1, [2, 1]), (2, [1, 1, 1])])
def test_threads_share_the_pixels_that_may_be_in_memory(monkeypatch, explain, images, cores, sizes):
    """Each would otherwise hold as many as one alone may."""
    monkeypatch.setattr(forward_threads, "usable_cores", lambda: cores)
    torch.set_num_threads(cores)
    monkeypatch.setattr(explainer, "MOST_PIXELS", 2 * 160 * 120 - 2)
    seen, view = [], explainer.Explainer.view
    monkeypatch.setattr(
        explainer.Explainer, "view", lambda self, squares: seen.append(len(squares)) or view(self, squares)
    )
    assert explain(images)[0] == 0
    assert sorted(seen, reverse=True) == sizes


def test_model_of_classes_explains_its_predicted_class(explain, images, tmp_path):
    """By gradient, of the class's log-odds: its probability is softmax's."""
    model = _save(tmp_path / "two.safetensors", head="hidden", loss="cross_entropy", findings=("NORMAL", "PNEUMONIA"))
    code, stdout, _, _ = explain(images, "--top", "2", model=model)
    assert code == 0
    lines = [json.loads(line) for line in stdout]
    for first, second in zip(lines[::2], lines[1::2], strict=True):
        assert {first["finding"], second["finding"]} == {"NORMAL", "PNEUMONIA"}
        assert first["probability"] >= second["probability"]
        assert first["probability"] + second["probability"] == pytest.approx(1, abs=1e-5)


def test_overlays_of_two_images_with_one_name_do_not_collide(explain, images, tmp_path):
    """Nothing is overwritten unseen."""
    (tmp_path / "again").mkdir()
    (tmp_path / "again/00000001_000.jpg").write_bytes((images / "00000001_000.png").read_bytes())
    code, stdout, _, out = explain(images / "00000001_000.png", tmp_path / "again", "--findings", "Mass")
    assert code == 0
    names = [json.loads(line)["overlay"] for line in stdout]
    assert names == ["00000001_000.Mass.png", "00000001_000-2.Mass.png"]
    assert all((out / name).is_file() for name in names)


def test_overlay_of_an_image_with_any_name_has_a_valid_file_name(tmp_path):
    """A name may be as long as file systems let it; the finding's comes on top. Many a series calls all its files alike."""
    paths = [tmp_path / str(number) / f"{'ä' * 120}.png" for number in range(3)] + [tmp_path / "a\nb.png"]
    names = list(stems([ImageFile(path) for path in paths]).values())
    assert [len(name.encode()) for name in names[:3]] == [150, 152, 152]
    assert len(set(names)) == 4
    assert names[3] == "a_b"
    many = [ImageFile(tmp_path / str(number) / "1-1.dcm") for number in range(300)]
    assert len(set(stems(many).values())) == 300


def test_unreadable_images_are_listed_and_the_rest_is_explained(explain, images, tmp_path):
    """One bad file must not cost a night's work, nor go unnoticed."""
    (tmp_path / "bad.png").write_text("no image")
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    code, stdout, stderr, _ = explain(tmp_path, images, tmp_path / "none.png")
    assert code == 2
    assert len(stdout) == 3
    assert "cannot explain 3 images, the others are explained" in stderr
    assert f"{tmp_path / 'bad.png'}: it is not a PNG, JPEG or DICOM image" in stderr
    assert f"{tmp_path / 'dot.png'}: it has 1 x 1 pixels" in stderr
    assert f"{tmp_path / 'none.png'}: there is no such file" in stderr
    code, stdout, stderr, _ = explain(tmp_path / "bad.png", "--check-randomisation")
    assert (code, stdout) == (2, [])
    assert "cannot explain 1 images:\n" in stderr


def _list(path, rows):
    path.write_text(BOXES + "".join(f"{','.join(map(str, row))},,,\n" for row in rows))
    return path


def test_localisation_is_compared_with_uninformed_baselines(explain, images, tmp_path, model):
    """A list drawn around the model's own boxes is found whole; the same list moved away is not."""
    trained = load_model(str(model))
    _, stdout, _, _ = explain(images, "--findings", "Nodule,Pneumonia")
    first = [(json.loads(line), json.loads(line)["boxes"][0]) for line in stdout]
    own = [
        (line["image"].rpartition("/")[2], line["finding"], box["x"] * 6.4, box["y"] * 1024 / 120, box["width"] * 6.4, box["height"] * 1024 / 120)
        for line, box in first
    ]  # fmt: skip
    assert trained.findings == FINDINGS
    code, stdout, stderr, out = explain(
        images, "--boxes", _list(tmp_path / "own.csv", [*own, ("99.png", "Mass", 1, 1, 9, 9)])
    )
    assert code == 0
    assert "6 of 7 boxes are used, on 3 of 3 images" in stderr
    document = json.loads((out / "localisation.json").read_text())
    assert "/" not in document["model"], "it is passed on, and names no place of this machine"
    model_row, random_row, centre_row = document["methods"]
    assert (document["boxes"], document["boxes_listed"], document["images"]) == (6, 7, 3)
    assert (document["trained_on_known"], document["trained_on_images"]) == (False, None)
    assert "training images are unknown" in " ".join(document["notes"])
    assert [row["finding"] for row in model_row["findings"]] == ["Nodule", "Pneumonia"]
    assert model_row["mean"]["iou"] == [1.0] * 7
    assert model_row["mean"]["pointing"] == 1.0
    assert (random_row["name"], random_row["draws"], centre_row["name"]) == ("random map", 10, "image centre")
    assert 0 < random_row["mean"]["iou"][0] < 1
    assert document["published"][0]["comparable"] is False
    assert any(line.startswith("Wang et al. 2017 (official split, 984 boxes") for line in stdout)
    assert (out / "localisation.png").read_bytes().startswith(b"\x89PNG")
    assert sum(path.name.endswith((".Nodule.png", ".Pneumonia.png")) for path in out.iterdir()) == 6
    corner = [(image, finding, 0, 0, 20, 20) for image, finding, *_ in own]  # outside of what the model sees
    _, _, _, out = explain(images, "--boxes", _list(tmp_path / "corner.csv", corner), "--no-overlays")
    moved = json.loads((out / "localisation.json").read_text())
    assert moved["methods"][0]["mean"]["iou"] == [0.0] * 7
    assert moved["methods"][0]["mean"]["pointing"] == 0.0


def test_random_maps_are_the_same_with_the_same_seed(explain, images, tmp_path):
    """A table that is printed again must say the same."""
    boxes = _list(tmp_path / "boxes.csv", [("00000001_000.png", "Mass", 200, 200, 500, 500)])
    documents = []
    for seed in (1, 1, 2):
        *_, out = explain(images, "--boxes", boxes, "--seed", seed, "--no-overlays")
        documents.append(json.loads((out / "localisation.json").read_text())["methods"])
    assert documents[0] == documents[1]
    assert documents[0][0] == documents[2][0]
    assert documents[0][1] != documents[2][1]


def test_sanity_check_reports_how_maps_change_as_weights_are_randomised(explain, images):
    """A table, and the same as a file; the images are explained as well."""
    code, stdout, _, out = explain(images, "--findings", "Mass,Edema", "--check-randomisation")
    assert code == 0
    document = json.loads((out / "randomisation.json").read_text())
    assert (document["images"], document["maps"], document["draws"]) == (3, 6, 3)
    assert [stage["redrawn"] for stage in document["stages"]][:3] == ["-", "classifier", "denseblock4"]
    assert document["stages"][0]["similarity"] == pytest.approx(1)
    assert document["stages"][-1]["similarity"] < 0.5
    assert stdout[0].startswith("randomised down to")
    assert len(stdout) == 1 + len(document["stages"])
    assert len((out / "maps.jsonl").read_text().splitlines()) == 6
    assert len(image_files([images])) < CHECKED_IMAGES


def test_images_of_the_training_split_are_refused_for_localisation(explain, finished_run, tmp_path):
    """The check reads which images a run was trained on; with --force the result says how many those are."""
    trained = load_model(str(finished_run.root))
    assert trained.trained_on
    (name, _), *_ = [item for item in trained.trained_on.items() if item[1] == "train"]
    boxes = _list(tmp_path / "boxes.csv", [(name, "Mass", 200, 200, 500, 500)])
    code, _, stderr, out = explain(finished_run.data, "--boxes", boxes, model=finished_run.root)
    assert code == 2
    assert "cannot evaluate the model on 1 of 1 images with a box: their patients are in its training set" in stderr
    assert not out.exists()
    code, _, stderr, out = explain(finished_run.data, "--boxes", boxes, "--force", model=finished_run.root)
    assert code == 0
    assert json.loads((out / "localisation.json").read_text())["trained_on_images"] == 1
    assert "1 images are of patients in the training set" in stderr
    assert "maps have one cell" in stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        pytest.param(["--findings", "Mass,Flu"], "cannot explain `Flu`: the model has no such finding", id="finding"),
        pytest.param(["--findings", ""], "cannot explain ``: the model has no such finding", id="no finding"),
        pytest.param(["--top", "0"], "cannot use --top 0", id="top"),
        pytest.param(["--batch-size", "0"], "cannot use --batch-size 0", id="batch size"),
        pytest.param(
            ["--box-threshold", "1.5"],
            "cannot use a box threshold of 1.5: it must be above 0 and at most 1",
            id="threshold",
        ),
        pytest.param(["--boxes", "/none.csv"], "cannot read boxes: no such file", id="no list"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_written(explain, images, flags, complaint):
    """With what to do instead."""
    code, stdout, stderr, out = explain(images, *flags)
    assert (code, stdout) == (2, [])
    assert complaint in stderr
    assert not out.exists()


def test_output_that_cannot_be_written_is_named(explain, images, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "out").write_text("")
    code, _, stderr, _ = explain(images)
    assert code == 2
    assert "cannot write to" in stderr
    assert "from `--out`" in stderr


def test_boxes_of_unreadable_images_are_not_counted(explain, images, tmp_path):
    """Boxes of images that can't be read are not counted as missed."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/00000009_000.png").write_text("no image")
    rows = [("00000001_000.png", "Mass", 200, 200, 500, 500), ("00000009_000.png", "Mass", 200, 200, 500, 500)]
    code, _, stderr, out = explain(images, tmp_path / "bad", "--boxes", _list(tmp_path / "boxes.csv", rows))
    document = json.loads((out / "localisation.json").read_text())
    assert code == 2
    assert (document["boxes"], document["images"]) == (1, 1)
    assert "00000009_000.png: it is not a PNG, JPEG or DICOM image" in stderr
    code, _, stderr, _ = explain(tmp_path / "bad", "--boxes", tmp_path / "boxes.csv")
    assert code == 2
    assert "cannot use any image with a box" in stderr


def test_maps_do_not_depend_on_dropout(tmp_path, images):
    """The hidden head drops half of its features in training; a map must not be drawn by lot."""
    trained = load_model(str(_save(tmp_path / "m.safetensors", head="hidden")))
    with Image.open(images / "00000001_000.png") as image:
        square = np.asarray(to_square(image, trained.geometry))
    view = open_explainer(trained, devices.find("cpu"), batch=2).view([square])
    first, second = (activate(trained.network.train(), view, [0]).maps_NMhw for _ in range(2))
    np.testing.assert_array_equal(first, second)
