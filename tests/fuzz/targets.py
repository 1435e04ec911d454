"""What is tried: by kind, inputs as the program itself or its users write them, and the reader that must not be brought down.

A reader ends in one of three ways: the input is accepted, it is refused by a known error, or what is raised is a fault. Where a
hash or a stamp guards the content, it is a fault too to accept content that has changed.
"""

import gzip
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from mutations import (
    Dice,
    spoiled_bytes,
    spoiled_dicom,
    spoiled_gzip,
    spoiled_jpeg,
    spoiled_json,
    spoiled_png,
    spoiled_text,
    spoiled_yaml,
    spoiled_zip,
    zeroed,
)
from PIL import Image

from trainer.errors import KnownError

REFUSED: Final = (0, 2)
"""Exit codes of a command that has read its input, or has refused it."""

_BIDI: Final = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


class FaultError(AssertionError):
    """What must not happen."""


@dataclass(frozen=True)
class Bench:
    """Folders of one run of the fuzzer."""

    corpus: Path
    """Inputs as they should be; nothing changes them."""
    work: Path
    """Where a try lays its spoiled copy; emptied before each."""


@dataclass(frozen=True)
class Kind:
    """A kind of input."""

    attempt: Callable[[Bench, Dice], bool]
    """Lay a spoiled input and read it: whether it was accepted."""
    files: Callable[[Path], Iterator[tuple[str, bytes]]] = field(default=lambda _: iter(()))
    """What the corpus needs besides the run: names and contents, given the corpus."""


def prepare(corpus: Path) -> None:
    """Write the corpus: a finished run of a tiny network with its data set, and what each kind needs besides."""
    from trainer.config import from_argv
    from trainer.data.synthetic import write_phantoms
    from trainer.runs.rank_log import RankLog
    from trainer.runtime.console import Reporter
    from trainer.runtime.world import World
    from trainer.training.loop import train

    write_phantoms(corpus / "data", images=60, side=48)
    recipe = "--preset smoke --model densenet_tiny --pack-side 36 --crop-px 32 --epochs 1 --batch-size 8 --device cpu"
    places = (
        f"--split patients:50/25/25 --data {corpus / 'data'} --output {corpus} --cache-dir {corpus / 'cache'} --name r"
    )
    train(from_argv([*recipe.split(), *places.split()]), World(), Reporter(0), RankLog(0))
    complete(corpus)


def complete(corpus: Path) -> None:
    """Add to a corpus that has `r`, `data` and `cache` what the kinds need besides."""
    for kind in KINDS.values():
        for name, content in kind.files(corpus):
            path = corpus / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def command(main: Callable[[list[str]], int], *argv: str) -> bool:
    """Whether the command has done its work; what it says holds no character that a terminal would obey.

    Raises: FaultError for an exit code that says anything else than "done" or "bad input".
    """
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(list(argv))
    check_said(said.getvalue())
    if code not in REFUSED:
        raise FaultError(f"`{' '.join(argv)}` ended with {code}: {said.getvalue()[-600:]}")
    return code == 0


def check_said(text: str) -> None:
    """Raises: FaultError for control characters, and for advice to load what may be code."""
    odd = {char for char in text if (unicodedata.category(char) == "Cc" and char not in "\n\t") or char in _BIDI}
    if odd:
        raise FaultError(f"control characters {sorted(map(ascii, odd))} in what was said: {text[-300:]!a}")
    if "weights_only" in text or "Traceback (most recent call last)" in text:
        raise FaultError(f"the words of a library reach the user: {text[-600:]}")


def said_by(problem: KnownError) -> None:
    """Check the text of an error that no command printed."""
    text = str(problem)
    if "weights_only" in text or "bug:" in text:
        raise FaultError(f"the words of a library reach the user: {text[-600:]}")


def is_accepted(read: Callable[[], object]) -> bool:
    """Whether the reader takes its input; a known error is a refusal, anything else goes on."""
    try:
        read()
    except KnownError as problem:
        said_by(problem)
        return False
    return True


# Images


def _image_files(_: Path) -> Iterator[tuple[str, bytes]]:
    gradient = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint8)
    gray = Image.fromarray(gradient)
    modes: dict[str, Image.Image] = {
        "gray.png": gray,
        "rgba.png": gray.convert("RGBA"),
        "palette.png": gray.convert("P"),
        "wide.png": Image.fromarray(gradient.astype(np.uint16) * 300),
        "bits.png": gray.convert("1"),
        "gray.jpg": gray,
        "colour.jpg": gray.convert("RGB"),
        "cmyk.jpg": gray.convert("CMYK"),
    }
    for name, image in modes.items():
        buffer = io.BytesIO()
        image.save(buffer, "PNG" if name.endswith("png") else "JPEG")
        yield f"images/{name}", buffer.getvalue()
    buffer = io.BytesIO()
    gray.save(buffer, "JPEG", progressive=True)
    yield "images/progressive.jpg", buffer.getvalue()
    for name, size, arguments in (
        ("strip.png", (1_500_000, 8), {}),
        ("large.jpg", (2_500, 2_500), {"progressive": True}),
    ):
        buffer = io.BytesIO()
        Image.new("L", size, 90).save(buffer, name[-3:].replace("jpg", "jpeg"), **arguments)
        yield f"images/{name}", buffer.getvalue()


def _try_image(bench: Bench, dice: Dice) -> bool:
    seed = dice.choice(sorted((bench.corpus / "images").iterdir()))
    content = seed.read_bytes()
    is_as_it_is = dice.random() < 0.2  # some of them ask for much without being spoiled
    spoil = spoiled_png if seed.suffix == ".png" else spoiled_jpeg
    return _read_image(_laid(bench, seed.name, content if is_as_it_is else spoil(dice, content)), dice)


def _read_image(path: Path, dice: Dice) -> bool:
    from trainer.data.decode import BadImageError, open_xray
    from trainer.data.packs.records import Geometry, to_gray_square

    fit = dice.choice(("crop", "pad", "squash"))

    def read() -> None:
        try:
            square = to_gray_square(path, Geometry(side=320, fit=fit))
        except BadImageError as problem:
            said_by(KnownError(str(problem)))
            raise KnownError(str(problem)) from problem
        if square.shape != (320, 320) or square.dtype != np.uint8:
            raise FaultError(f"a record of {square.shape} {square.dtype}")
        if dice.random() < 0.5:
            try:
                open_xray(path)
            except BadImageError as problem:
                raise KnownError(str(problem)) from problem

    return is_accepted(read)


# DICOM


def _dicom_files(_: Path) -> Iterator[tuple[str, bytes]]:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, generate_uid

    pixels = np.add.outer(np.arange(60), np.arange(50)).astype(np.uint16)
    encoded = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(encoded, "JPEG")
    syntaxes = {"plain": ExplicitVRLittleEndian, "deflated": DeflatedExplicitVRLittleEndian, "jpeg": JPEGBaseline8Bit}
    for name, syntax in syntaxes.items():
        header = Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = syntax
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        header.Rows, header.Columns, header.SamplesPerPixel = 60, 50, 1
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
        header.WindowCenter, header.WindowWidth = "50", "100"
        bits = 8 if name == "jpeg" else 16
        header.BitsAllocated, header.BitsStored, header.HighBit = (
            bits,
            bits if bits == 8 else 12,
            bits - 1 if bits == 8 else 11,
        )
        if name == "jpeg":
            header.PixelData = pydicom.encaps.encapsulate([encoded.getvalue()])
            header["PixelData"].VR = "OB"
        else:
            header.PixelData = pixels.tobytes()
            header["PixelData"].VR = "OW"
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, header, enforce_file_format=True)
        yield f"dicom/{name}.dcm", buffer.getvalue()


def _try_dicom(bench: Bench, dice: Dice) -> bool:
    seed = dice.choice(sorted((bench.corpus / "dicom").iterdir()))
    return _read_image(_laid(bench, seed.name, spoiled_dicom(dice, seed.read_bytes())), dice)


# Tables


def _label_files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    from trainer.data.labels import FINDINGS

    entries = (corpus / "data/Data_Entry_2017.csv").read_bytes()
    yield "labels/nih/Data_Entry_2017.csv", entries
    for name in ("train_val_list.txt", "test_list.txt"):
        yield f"labels/nih/{name}", (corpus / "data" / name).read_bytes()
    names = [f"{patient:08d}_{image:03d}.png" for patient in range(12) for image in range(2)]
    parts = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    flags = ["01"[(number // 3) % 2] for number in range(len(names))]
    header = ",".join(["Image Index", "Patient ID", *FINDINGS, "split"])
    rows = [
        ",".join([name, name[:8], *[flag] * len(FINDINGS), part])
        for name, flag, part in zip(names, flags, parts, strict=True)
    ]
    yield "labels/csv/labels.csv", "\n".join([header, *rows]).encode()
    for part in ("train", "val", "test"):
        lines = [
            " ".join([name, *[flag] * len(FINDINGS)])
            for name, flag, mine in zip(names, flags, parts, strict=True)
            if mine == part
        ]
        yield f"labels/lists/{part}_list.txt", "\n".join(lines).encode()

    yield from _tables_of_sets(corpus)


_SETS: Final = ("chexpert", "mimic-cxr", "padchest", "vindr", "rsna")


def _tables_of_sets(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """The tables of phantoms in the layouts of other sets, uncompressed."""
    from trainer.data.synthetic import write_phantoms
    from trainer.formats.tables import content_of

    for layout in _SETS:
        drawn = corpus / f"drawn-{layout}"
        write_phantoms(drawn, images=30, side=32, layout=layout)
        for path in sorted(drawn.glob("*.csv*")):
            yield f"labels/{layout}/{path.name.removesuffix('.gz')}", content_of(path)
        shutil.rmtree(drawn)


def _try_labels(bench: Bench, dice: Dice) -> bool:
    from trainer.__main__ import main

    layout = dice.choice(("nih", "csv", "lists", *_SETS))
    folder = bench.work / "d"
    shutil.copytree(bench.corpus / "labels" / layout, folder)
    path = dice.choice(sorted(folder.iterdir()))
    content = path.read_bytes()
    if dice.random() < 0.25:
        path.unlink()
        path.with_name(f"{path.name}.gz").write_bytes(spoiled_gzip(dice, content))
    else:
        path.write_bytes(spoiled_text(dice, content, separator=" " if layout == "lists" else ","))
    split = dice.choice((("--split", "patients:60/20/20"), ()))
    return command(main, "stats", "--data", str(folder), *split, "--format", dice.choice(("table", "csv", "json")))


def _prediction_files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    content = (corpus / "r/predictions/test.csv").read_bytes()
    yield "predictions/test.csv", content
    lines = content.decode().splitlines()
    names = [line.partition(",")[0] for line in lines[1:]]
    from trainer.data.labels import FINDINGS

    header = ",".join(["Image Index", "Patient ID", *FINDINGS])
    rows = [
        ",".join([name, str(number // 2), *["01"[number % 2]] * len(FINDINGS)]) for number, name in enumerate(names)
    ]
    yield "predictions/labels.csv", "\n".join([header, *rows]).encode()


def _try_predictions(bench: Bench, dice: Dice) -> bool:
    from trainer.__main__ import main

    folder = bench.work / "p"
    shutil.copytree(bench.corpus / "predictions", folder)
    path = folder / dice.choice(("test.csv", "test.csv", "labels.csv"))
    content = path.read_bytes()
    if dice.random() < 0.2:
        path.unlink()
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(spoiled_gzip(dice, content))
    else:
        path.write_bytes(spoiled_text(dice, content))
    given = {name: next(folder.glob(f"{name}*")) for name in ("test", "labels")}
    return command(
        main,
        *("evaluate", "--predictions", str(given["test"]), "--labels", str(given["labels"])),
        *("--resamples", "2", "--format", dice.choice(("table", "csv", "json"))),
    )


def _box_files(_: Path) -> Iterator[tuple[str, bytes]]:
    header = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    rows = [f"{number:08d}_000.png,Mass,{number}.5,{number + 1},100.25,{number + 30},,," for number in range(20)]
    yield "boxes/BBox_List_2017.csv", "\n".join([header, *rows]).encode()


def _try_boxes(bench: Bench, dice: Dice) -> bool:
    from trainer.explanation.boxlist import read_boxes

    content = (bench.corpus / "boxes/BBox_List_2017.csv").read_bytes()
    path = _laid(bench, "BBox_List_2017.csv", spoiled_text(dice, content))
    return is_accepted(lambda: read_boxes(path))


# Runs

_DOCUMENTS: Final = (
    "run.json",
    "starts.json",
    "results.json",
    "metrics.jsonl",
    "evaluation/metrics.json",
    "model/calibration.json",
)


def _run_copy(bench: Bench) -> Path:
    """A copy of the run with what is read of it here; its report is not."""
    run = bench.work / "r"
    shutil.copytree(bench.corpus / "r", run, ignore=shutil.ignore_patterns("tensorboard", "logs", "*.html", "*.png"))
    return run


def _try_documents(bench: Bench, dice: Dice) -> bool:
    """A document of a run, read by the report and as a run that is gone on with."""
    from trainer.__main__ import main
    from trainer.models.load import load_model
    from trainer.storage import LocalStorage

    run = _run_copy(bench)
    path = run / dice.choice([*_DOCUMENTS, "split.csv.gz"])
    content = path.read_bytes()
    if path.suffix == ".gz":
        path.write_bytes(spoiled_gzip(dice, gzip.decompress(content)))
    elif path.suffix == ".jsonl":
        lines = content.splitlines()
        lines[dice.randrange(len(lines))] = spoiled_json(dice, dice.choice(lines))
        path.write_bytes(b"\n".join(lines))
    else:
        path.write_bytes(spoiled_json(dice, content))
    reported = command(main, "report", str(run), "--out", str(bench.work / "out"), "--gallery", "off")
    if path.name in {"starts.json", "run.json"}:
        from trainer.runs import attempts

        is_accepted(lambda: attempts.first_s(LocalStorage(str(run))))
    if path.name in {"run.json", "calibration.json", "split.csv.gz"}:
        return is_accepted(lambda: load_model(str(run))) and reported
    return reported


def _try_pulls(bench: Bench, dice: Dice) -> bool:
    """A document of a run, read by the launcher."""
    from launcher.__main__ import main

    run = _run_copy(bench)
    document = dice.choice(["run.json", "starts.json", "results.json", "manifest.json"])
    path = next(run.rglob(document))
    path.write_bytes(spoiled_json(dice, path.read_bytes()))
    there = ("r", "--output", str(bench.work))
    listed = command(main, "checkpoints", *there, "-o", dice.choice(("table", "json", "yaml", "name")))
    what = dice.choice(("checkpoint", "model", "report", "all"))
    return command(main, "pull", *there, "--what", what, "--to", str(bench.work / "pulled")) and listed


def _try_manifests(bench: Bench, dice: Dice) -> bool:
    """The manifest of a checkpoint: whatever it says, what goes on is the state that was written."""
    from trainer.runs import checkpoints
    from trainer.storage import LocalStorage

    run = _run_copy(bench)
    path = next(run.glob("checkpoints/*/manifest.json"))
    state = path.with_name("state.pt").read_bytes()
    path.write_bytes(spoiled_json(dice, path.read_bytes()))

    def read() -> None:
        found = checkpoints.newest(LocalStorage(str(run)), check_said)
        if found is None:
            raise FaultError("a checkpoint is lost without a word")
        manifest, content = found
        if content != state:
            raise FaultError("another state than was written")
        if f"{manifest.step:08d}" != path.parent.name.removeprefix("step-"):
            raise FaultError(f"step {manifest.step} in {path.parent.name}")

    return is_accepted(read)


def _try_states(bench: Bench, dice: Dice) -> bool:
    """A training state, with a hash that is right, as whoever may write to the bucket can make it, or not."""
    from trainer.models.load import load_model

    run = _run_copy(bench)
    path = next(run.glob("checkpoints/*/state.pt"))
    written = path.read_bytes()
    spoiled = spoiled_zip(dice, written)
    path.write_bytes(spoiled)
    has_right_hash = dice.random() < 0.7
    if has_right_hash:
        manifest = path.with_name("manifest.json")
        document: dict[str, Any] = json.loads(manifest.read_bytes())
        document |= {"bytes": len(spoiled), "sha256": hashlib.sha256(spoiled).hexdigest()}
        manifest.write_text(json.dumps(document))
    accepted = is_accepted(lambda: load_model(str(run), step="last"))
    if accepted and not has_right_hash and spoiled != written:
        raise FaultError("a state that is not what its manifest says was taken")
    return accepted


def _weight_files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    import torch
    from safetensors.torch import load

    exported = (corpus / "r/model/model.safetensors").read_bytes()
    yield "weights/model.safetensors", exported
    for name, arguments in {"new.pt": {}, "old.pth.tar": {"_use_new_zipfile_serialization": False}}.items():
        buffer = io.BytesIO()
        torch.save({"state_dict": load(exported)}, buffer, **arguments)
        yield f"weights/{name}", buffer.getvalue()


def _try_weights(bench: Bench, dice: Dice) -> bool:
    from trainer.models.load import load_model
    from trainer.models.pretrained import first_weights

    seed = dice.choice(sorted((bench.corpus / "weights").iterdir()))
    spoil = spoiled_zip if seed.name == "new.pt" else spoiled_bytes
    content = seed.read_bytes()
    if seed.suffix == ".safetensors" and dice.random() < 0.7:
        size = int.from_bytes(content[:8], "little")
        header = spoiled_json(dice, content[8 : 8 + size])
        spoiled = len(header).to_bytes(8, "little") + header + content[8 + size :]
    else:
        spoiled = spoil(dice, content)
    path = _laid(bench, seed.name, spoiled)
    if dice.random() < 0.5:
        return is_accepted(lambda: first_weights(str(path), "densenet_tiny", bench.work))
    return is_accepted(lambda: load_model(str(path)))


def _try_packs(bench: Bench, dice: Dice) -> bool:
    """A pack of decoded images: what is opened is, to the pixel, what was written."""
    from trainer.data.packs.damage import DamagedPackError
    from trainer.data.packs.records import Geometry
    from trainer.data.packs.verify import open_pack

    (seed,) = (path for path in (bench.corpus / "cache/packs").iterdir() if not path.name.startswith("."))
    folder = bench.work / seed.name
    shutil.copytree(seed, folder)
    path = dice.choice(sorted(folder.iterdir()))
    content = path.read_bytes()
    if path.suffix == ".json":
        spoiled = spoiled_json(dice, content)
    else:
        spoiled = dice.choice((zeroed, spoiled_bytes))(dice, content)
    path.write_bytes(spoiled)
    names, geometry = (seed / "names.txt").read_text().splitlines(), Geometry(side=36, fit="crop")
    try:
        opened = open_pack(folder, names, geometry)
    except DamagedPackError:
        return False
    whole = open_pack(seed, names, geometry)
    assert opened is not None
    assert whole is not None
    rows = np.arange(whole.index.count, dtype=np.int64)
    mine, theirs = (np.empty((len(rows), 36, 36), np.uint8) for _ in range(2))
    opened.gather(rows, mine)
    whole.gather(rows, theirs)
    if opened.index.count != whole.index.count or not np.array_equal(mine, theirs):
        raise FaultError(f"a pack with another {path.name} is opened, and its images are others")
    return True


def _archive_files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """Six images in each kind of archive."""
    paths = sorted((corpus / "data/images").iterdir())[:6]
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in paths:
            member = tarfile.TarInfo(f"{'long/' * 30}images/{path.name}")
            member.size = path.stat().st_size
            archive.addfile(member, io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.writestr(f"images/{path.name}", path.read_bytes())
    yield "archives/a.tar", tar.getvalue()
    yield "archives/a.tar.gz", gzip.compress(tar.getvalue(), mtime=0)
    yield "archives/a.zip", packed.getvalue()


def _try_archives(bench: Bench, dice: Dice) -> bool:
    """Archives of images: what is damaged is refused, and nothing is read outside of memory's bounds."""
    from trainer.data.names import Names
    from trainer.data.preparing.archives import Archive, Ignored
    from trainer.storage import LocalStorage

    seed = dice.choice(sorted((bench.corpus / "archives").iterdir()))
    content = seed.read_bytes()
    if seed.suffix == ".gz" and dice.random() < 0.7:
        spoiled = gzip.compress(spoiled_bytes(dice, gzip.decompress(content)), mtime=0)
    else:
        spoiled = spoiled_bytes(dice, content)
    _laid(bench, seed.name, spoiled)
    storage = LocalStorage(str(bench.work))
    names = Names(path.name for path in (bench.corpus / "data/images").iterdir())

    def read() -> None:
        archive = Archive(storage, seed.name, storage.stat(seed.name))
        for piece in archive.pieces(3):
            for _ in piece.images(names.find, frozenset(), Ignored()):
                pass

    return is_accepted(read)


def _set_files(corpus: Path) -> Iterator[tuple[str, bytes]]:
    """The data set, prepared."""
    from trainer.data.preparing.prepare import prepare as prepare_set
    from trainer.prepare_config import PrepareConfig
    from trainer.runtime.console import Reporter

    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        out = Path(folder) / "set"
        config = PrepareConfig(data=str(corpus / "data"), out=str(out), pack_side=36, workers=1)
        prepare_set(config, Reporter(None))
        for path in sorted(out.iterdir()):
            yield f"set/{path.name}", path.read_bytes()


def _try_sets(bench: Bench, dice: Dice) -> bool:
    """A prepared set: what is opened is, to the pixel and the label, what was written."""
    from trainer.data.layouts import read_labels
    from trainer.data.packs.open_prepared import open_prepared

    seed, folder = bench.corpus / "set", bench.work / "set"
    shutil.copytree(seed, folder)
    path = dice.choice(sorted(folder.iterdir()))
    content = path.read_bytes()
    if path.suffix == ".json":
        path.write_bytes(spoiled_json(dice, content))
    else:
        path.write_bytes(dice.choice((zeroed, spoiled_bytes))(dice, content))
    opened: list[Any] = []

    def read() -> None:
        table = read_labels(folder, layout="prepared").table
        opened.extend((table, open_prepared(folder, table.images)))

    if not is_accepted(read):
        return False
    table, pack = opened
    whole, expected = read_labels(seed), open_prepared(seed, read_labels(seed).table.images)
    rows = np.arange(len(whole.table), dtype=np.int64)
    mine, theirs = (np.empty((len(rows), 36, 36), np.uint8) for _ in range(2))
    pack.gather(rows, mine)
    expected.gather(rows, theirs)
    if not np.array_equal(mine, theirs) or table.labels_sha256() != whole.table.labels_sha256():
        raise FaultError(f"a prepared set with another {path.name} is opened, and its images or labels are others")
    return True


# Settings

_RENDER: Final = (
    "render",
    "--accelerator",
    "cpu",
    "--image",
    "r/i:1",
    "--data",
    "s3://b/d",
    "--output",
    "s3://b/o",
    "--name",
    "n",
)


_SETTINGS: Final = {
    "launcher.yaml": """
workers: 2
image: r/c:1.10
data: s3://b/d
output: s3://b/o
env: [A=b, C=d]
label: [team=x]
toleration: [a=b:NoSchedule]
train_flags: [--epochs, 3]
overlay: {spec: {priority: 3}}
deadline: 3h
""",
    "overlay.yaml": """
metadata:
  annotations: {a: b}
spec:
  containers:
  - name: pytorch
    env:
    - {name: A, value: b}
    resources: {limits: {memory: 64Gi}}
  volumes:
  - name: v
    emptyDir: {}
""",
    "kubeconfig": """
apiVersion: v1
kind: Config
current-context: c
contexts:
- name: c
  context: {cluster: k, user: u, namespace: n}
clusters:
- name: k
  cluster: {server: 'https://127.0.0.1:9'}
users:
- name: u
  user: {token: abc}
""",
}


def _settings_files(_: Path) -> Iterator[tuple[str, bytes]]:
    for name, text in _SETTINGS.items():
        yield f"settings/{name}", text.lstrip().encode()


def _try_settings(bench: Bench, dice: Dice) -> bool:
    return _rendered(bench, dice, "launcher.yaml", lambda path: ("-f", str(path)))


def _try_overlays(bench: Bench, dice: Dice) -> bool:
    return _rendered(bench, dice, "overlay.yaml", lambda path: ("--overlay", str(path)))


def _rendered(bench: Bench, dice: Dice, name: str, flags: Callable[[Path], tuple[str, ...]]) -> bool:
    from launcher.__main__ import main

    content = (bench.corpus / "settings" / name).read_bytes()
    return command(main, *_RENDER, *flags(_laid(bench, name, spoiled_yaml(dice, content))))


def _try_kubeconfigs(bench: Bench, dice: Dice) -> bool:
    from launcher.cluster.kubeconfig import chosen, namespace_of

    content = (bench.corpus / "settings/kubeconfig").read_bytes()
    path = _laid(bench, "kubeconfig", spoiled_yaml(dice, content))
    is_accepted(lambda: namespace_of(str(path), None))
    return is_accepted(lambda: chosen(str(path), None))


def _laid(bench: Bench, name: str, content: bytes) -> Path:
    path = bench.work / name
    path.write_bytes(content)
    return path


KINDS: Final[Mapping[str, Kind]] = {
    "images": Kind(_try_image, _image_files),
    "dicom": Kind(_try_dicom, _dicom_files),
    "labels": Kind(_try_labels, _label_files),
    "predictions": Kind(_try_predictions, _prediction_files),
    "boxes": Kind(_try_boxes, _box_files),
    "documents": Kind(_try_documents),
    "pulls": Kind(_try_pulls),
    "manifests": Kind(_try_manifests),
    "states": Kind(_try_states),
    "weights": Kind(_try_weights, _weight_files),
    "packs": Kind(_try_packs),
    "archives": Kind(_try_archives, _archive_files),
    "sets": Kind(_try_sets, _set_files),
    "settings": Kind(_try_settings, _settings_files),
    "overlays": Kind(_try_overlays),
    "kubeconfigs": Kind(_try_kubeconfigs),
}
"""By name, in the order of the table."""

if sys.flags.optimize:
    raise SystemExit("the fuzzer's assertions are off")
