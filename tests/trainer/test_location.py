"""Home directories in paths: replaced as a shell does, wherever a shell did not."""

import pytest

from trainer.__main__ import main
from trainer.config import parse_flags
from trainer.location import expanded, expanded_words


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("path", ["~nosuchuser/x", "a/~/x", "s3://b/~/x", "", "x~", "/~"])
def test_only_a_known_home_directory_at_the_start_is_replaced(path):
    """What else has a `~` is a name."""
    assert expanded(path) == path


def test_words_of_a_command_line_are_expanded_alone_and_behind_a_flag(home):
    """bash leaves `--data=~/x` as it is."""
    words = ["train", "--data=~/cxr", "--out", "~/o", "~", "~nosuchuser", "--name=a~b", "--x", "k=~/x"]
    assert expanded_words(words) == [
        *("train", f"--data={home}/cxr", "--out", f"{home}/o", str(home), "~nosuchuser", "--name=a~b", "--x", "k=~/x"),
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["stats", "--data=~/absent"],
        ["train", "--data=~/absent", "--output=~/o", "--name=a"],
        ["evaluate", "--predictions=~/absent", "--labels=~/absent"],
        ["predict", "--model=~/absent", "~/x.png"],
        ["export", "--model=~/absent", "--out=~/o", "--to=onnx"],
        ["report", "~/absent", "--out=~/o"],
        ["explain", "--model=~/absent", "~/x.png", "--out=~/o"],
    ],
    ids=lambda argv: argv[0],
)
def test_every_command_of_the_trainer_looks_in_the_home_directory(argv, home, capsys, monkeypatch, tmp_path_factory):
    """A folder named `~` must not arise either."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    assert main(argv) == 2
    assert f"{home}/absent" in capsys.readouterr().err


def test_flags_of_the_trainer_in_settings_of_a_job_are_expanded(home):
    """A settings file is read by no shell."""
    config, _ = parse_flags(["--data=/d", "--output=/o", "--name=a", "--val-list=~/val.txt", "--weights", "~/w.pt"])
    assert (config.val_list, config.weights) == (f"{home}/val.txt", f"{home}/w.pt")
