"""Every document of a run, damaged or made to harm, through every command that reads it: bad input with the file's name."""

import contextlib
import gc
import gzip
import hashlib
import json
import shutil

import pytest
from recipes import tiny

from trainer import report
from trainer.__main__ import main
from trainer.layout import committed_step
from trainer.runs import manifest as manifests
from trainer.storage import LocalStorage, lease


@pytest.fixture(autouse=True, scope="module")
def garbage_is_collected_later():
    """A deep document fills the stack; what the garbage collector calls there to end an object of another test would fail.

    Once for all tests here: among the objects of thousands of other tests it takes half a second.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()


HOSTILE = {
    "deep": b"[" * 100_000,
    "deep mapping": b'{"config":' * 50_000,
    "long number": b'{"step": 1' + b"0" * 5000 + b"}",
    "power": b'{"step": 1e400, "first_s": 1e400}',
    "no number": b'{"step": NaN, "first_s": NaN}',
    "half a character": b'{"name": "\\ud800", "fitted_on": "\\ud800", "first_s": "\\ud800"}',
    "text": b'"text"',
    "list": b"[]",
    "number": b"3",
    "null": b"null",
    "truth": b"true",
    "nothing": b"",
    "order mark": b"\xef\xbb\xbf{}",
    "UTF-16": "{}".encode("utf-16"),
    "twice": b'{"name": "a", "name": "b"}',
}

WRONG_TYPES = {
    "run.json": [
        {"config": 3},
        {"config": [1], "identity": {}},
        {"identity": "x"},
        {"name": [1]},
        {"world_size": "8"},
        {"world_size": -1},
        {"world_size": True},
        {"config": {}, "identity": {"findings": 3}},
        {"config": {}, "identity": {"findings": [3]}},
    ],
    "results.json": [
        {"checkpoint": [1]},
        {"checkpoint": {"step": "2"}},
        {"checkpoint": {"step": -1}},
        {"val": [1]},
        {"val": {"mean_auroc": "1"}},
        {"val": {"mean_auroc": 7}},
        {"val": {"auroc": {"Mass": {}}}},
        {"world_size": 1.5},
        {"training_s": "x"},
        {"peak_device_memory_bytes": {}},
        {"test": {"classes": {"accuracy": 3}}},
    ],
    "evaluation/metrics.json": [{"format": 1}, {"format": [1]}, {"format": "1"}],
    "model/calibration.json": [
        {"format": 1, "findings": 3},
        {
            "format": 1,
            "findings": [],
            "slope_K": [],
            "intercept_K": [],
            "thresholds": 3,
            "fitted_on": "",
            "images_sha256": "",
            "notes": [],
        },
        {"format": 1, "findings": [1], "slope_K": [1], "intercept_K": [1]},
    ],
    "starts.json": [
        {"first_s": "x"},
        {"first_s": True},
        {"first_s": 1e300},
        {"step": "1"},
        {"without_progress": -1},
        {"without_progress": "x"},
    ],
}

READERS = {
    "run.json": ["report", "predict", "explain", "export"],
    "results.json": ["report", "export"],
    "evaluation/metrics.json": ["report", "export"],
    "model/calibration.json": ["predict", "export"],
    "starts.json": ["train"],
}

CASES = [
    pytest.param(command, key, content, id=f"{command}-{key}-{name}")
    for key, commands in READERS.items()
    for command in commands
    for name, content in [
        *HOSTILE.items(),
        *((f"type {number}", json.dumps(one).encode()) for number, one in enumerate(WRONG_TYPES[key])),
    ]
]


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    """A copy of a finished run, to be spoiled one document at a time."""
    root = tmp_path_factory.mktemp("hostile") / "r"
    shutil.copytree(finished_run.root, root)
    return root


@pytest.fixture
def spoil(run):
    """Put other content in the place of a document, for the test."""
    with contextlib.ExitStack() as after:

        def put(key, content):
            path = run / key
            after.callback(path.write_bytes, path.read_bytes())
            path.write_bytes(content)

        yield put


@pytest.fixture
def command(run, finished_run, tmp_path, capsys):
    """Run a command on the run: its exit code, and what it says."""
    image = next((finished_run.data / "images").iterdir())
    argv = {
        "report": ["report", str(run), "--out", str(tmp_path / "out")],
        "predict": ["predict", "--model", str(run), str(image), "--device", "cpu"],
        "explain": ["explain", "--model", str(run), str(image), "--out", str(tmp_path / "maps"), "--device", "cpu"],
        "export": ["export", str(run), "--out", str(tmp_path / "out"), "--to", "torch"],
        "train": [
            "train",
            *tiny(1, "--split", "patients:50/25/25", "--data", str(finished_run.data)),
            *("--output", str(run.parent), "--cache-dir", str(finished_run.cache), "--name", "r"),
        ],
    }

    def start(name):
        code = main(argv[name])
        return code, capsys.readouterr().err

    return start


@pytest.mark.parametrize(("name", "key", "content"), CASES)
def test_invalid_document_is_bad_input_with_its_name(command, spoil, name, key, content):
    """Whoever pulled it from somewhere must learn which file it is, and never meet a bug."""
    spoil(key, content)
    code, said = command(name)
    assert "bug" not in said
    assert "Traceback" not in said
    assert code == 2, said
    assert key in said


SPLITS = {
    "no gzip": b"nothing",
    "cut off": gzip.compress(b"Image Index,split\na.png,train\n" * 99)[:-9],
    "no text": gzip.compress(b"Image Index,split\n\xff,train\n"),
    "one column": gzip.compress(b"Image Index\na.png\n"),
    "other part": gzip.compress(b"Image Index,split\na.png,other\n"),
    "long cell": gzip.compress(b'Image Index,split\n"' + b"x" * 200_000 + b'",train\n'),
}


@pytest.mark.parametrize("content", SPLITS.values(), ids=SPLITS)
def test_invalid_split_file_is_bad_input_with_its_name(command, spoil, content):
    """It decides what may be scored."""
    spoil("split.csv.gz", content)
    code, said = command("predict")
    assert (code, "split.csv.gz" in said, "bug" in said) == (2, True, False), said


def test_split_file_that_expands_to_gigabytes_is_not_decompressed(command, spoil, in_memory):
    """2 MB were 6 GB."""
    spoil("split.csv.gz", gzip.compress(b"Image Index,split\n" + b"x" * (4 << 20)))
    code, said = command("predict")
    assert (code, "split.csv.gz" in said, "characters" in said) == (2, True, True), said


@pytest.mark.parametrize(
    "content", [b"PK\3\4", b"\x80\x02]q\x00.", b"", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."]
)
@pytest.mark.parametrize("name", ["train", "predict", "export"])
def test_invalid_state_with_a_matching_hash_is_bad_input_with_its_name(command, spoil, run, name, content):
    """torch's own words were to load it without its guard."""
    (state,) = run.glob("checkpoints/*/state.pt")
    manifest = json.loads(state.with_name("manifest.json").read_bytes())
    manifest |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    spoil(state.relative_to(run), content)
    spoil(state.with_name("manifest.json").relative_to(run), json.dumps(manifest).encode())
    code, said = command(name)
    assert (code, "state.pt" in said, "bug" in said, "weights_only" in said) == (2, True, False, False), said


MANIFESTS = {
    "step as text": {"step": "10"},
    "step as truth": {"step": True},
    "another step": {"step": 11},
    "step below 0": {"step": -1},
    "epoch as text": {"epoch": "1"},
    "epoch below 0": {"epoch": -1.0},
    "ranks as text": {"world_size": "2"},
    "no bytes": {"bytes": -1},
    "short hash": {"sha256": "ab"},
    "hash of a number": {"sha256": 3},
    "auroc as text": {"val_auroc": "0.9"},
    "auroc above 1": {"val_auroc": 5},
    "loss as list": {"val_loss": [1]},
    "validated as number": {"validated": 1},
    "more": {"more": 1},
}


@pytest.mark.parametrize(
    "content", [*HOSTILE.values(), *({"format": 2} | one for one in MANIFESTS.values())], ids=[*HOSTILE, *MANIFESTS]
)
def test_invalid_manifest_commits_nothing_and_is_named(tmp_path, content):
    """The one before it does; whoever compares them must not meet text for a number."""
    storage = LocalStorage(str(tmp_path))
    whole = {"format": 2, "step": 10, "epoch": 1.0, "world_size": 1, "bytes": 3, "sha256": 64 * "0", "val_auroc": 0.5}
    told = []
    storage.write("checkpoints/step-00000010/manifest.json", json.dumps(whole).encode())
    assert [one.step for one in manifests.committed(storage, told.append)] == [10]
    spoiled = content if isinstance(content, bytes) else json.dumps(whole | content).encode()
    storage.write("checkpoints/step-00000010/manifest.json", spoiled)
    assert manifests.committed(storage, told.append) == []
    assert "step-00000010/manifest.json" in told[0]


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 19, 8 * "\u0661", "000000001", "1"])
def test_keys_with_unusual_step_numbers_commit_nothing(digits):
    """Python refuses to read 5,000 digits, with an error of its own."""
    assert committed_step(f"checkpoints/step-{digits}/manifest.json") is None


@pytest.mark.parametrize("step", ["9" * 5000, "\u0663", "-1", "1e3", "0x1", ""])
def test_invalid_step_numbers_are_bad_input(run, capsys, step):
    """Also in the name of a folder."""
    assert main(["predict", "--model", str(run), f"--step={step}", "x.png"]) == 2
    assert main(["predict", "--model", f"{run}/checkpoints/step-{step}", "x.png"]) == 2
    said = capsys.readouterr().err
    assert "bug" not in said


def test_invalid_lines_of_metrics_are_left_out(run, spoil):
    """A curve with a gap is better than no report."""
    whole = (run / "metrics.jsonl").read_bytes()
    odd = [
        *HOSTILE.values(),
        b'{"step": "1"}',
        b'{"step": 1, "val": 3}',
        b'{"step": 1, "epoch": "x"}',
        b'{"step": 1, "val": {"auroc": [1]}}',
    ]
    spoil("metrics.jsonl", b"\n".join(odd) + b"\n" + whole)
    assert report.read(LocalStorage(str(run))).entries == [json.loads(line) for line in whole.splitlines()]


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_invalid_owner_record_is_treated_as_an_unknown_owner(tmp_path, content):
    """A lease is waited for and then taken, whatever stands in it."""
    storage = LocalStorage(str(tmp_path))
    storage.write("owner.json", content)
    told = []
    now = 1000.0

    def sleep(seconds):
        nonlocal now
        now += seconds

    one = lease.Lease(storage, "a", server_time=lambda: None, clock=lambda: now, sleep=sleep)
    one.take(told.append)
    one.check()
    assert told


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"Image Index,prob_a\nx,2\n",
        b"Image Index\n" + b"," * 300_000,
        b"Image Index,prob_a\nx," + b"1" * 200_000,
    ],
)
def test_invalid_predictions_are_bad_input_with_their_name(run, spoil, capsys, finished_run, content):
    """The gallery shows what they have most wrong."""
    spoil("predictions/test.csv", content)
    code = main(["report", str(run), "--gallery", "on", "--data", str(finished_run.data)])
    said = capsys.readouterr().err
    assert (code, "predictions/test.csv" in said, "bug" in said) == (2, True, False), said
