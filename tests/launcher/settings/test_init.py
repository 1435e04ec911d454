"""The settings file that `launcher init` writes."""

import errno
import os

import pytest
import yaml

from launcher.__main__ import main
from launcher.settings import init
from launcher.spec.fields import IS_LIST
from trainer.errors import InputError

GIVEN = ["accelerator=cpu", "image=r/i:1", "data=s3://cxr/nih", "output=s3://cxr/runs"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_file_completes_the_short_submit_command(here, capsys):
    """That is what it is for."""
    assert main(["init", *GIVEN, "namespace=team-a", "s3_secret=keys"]) == 0
    assert capsys.readouterr().out == "launcher.yaml\n"
    assert main(["render", "--workers", "2"]) == 0
    [volume, claim, job] = yaml.safe_load_all(capsys.readouterr().out)
    assert job["metadata"]["namespace"] == claim["metadata"]["namespace"] == "team-a"
    assert volume["spec"]["csi"]["volumeAttributes"]["bucketName"] == "cxr"


def test_init_prompts_and_enter_keeps_the_default():
    """Nobody types what stands there already."""
    asked = []

    def ask(question, usual):
        asked.append((question.partition(" ")[0], usual))
        return usual or f"my-{question.partition(' ')[0]}"

    settings = init.answers(ask, {"image": "r/i:1"}, ["data=s3://a/b"])
    assert [key for key, _ in asked] == list(init.QUESTIONS)
    assert dict(asked)["image"] == "r/i:1"
    assert dict(asked)["data"] == "s3://a/b"
    assert settings["namespace"] == "my-namespace"


def test_empty_answers_are_left_out():
    """An absent setting falls back to its default, an empty one would not."""
    assert init.answers(lambda _question, _usual: "", {}, []) == {}


def test_existing_settings_file_is_kept_without_y(here, capsys):
    """It may hold an afternoon's work."""
    (here / "launcher.yaml").write_text("image: mine\n", encoding="utf-8")
    assert main(["init", *GIVEN]) == 2
    err = capsys.readouterr().err
    assert "it already exists" in err
    assert "use -y to change it" in err
    assert (here / "launcher.yaml").read_text(encoding="utf-8") == "image: mine\n"
    assert main(["init", "-y", *GIVEN]) == 0
    assert yaml.safe_load((here / "launcher.yaml").read_text(encoding="utf-8"))["image"] == "r/i:1"


def test_init_keeps_other_settings_of_the_file_and_copies_no_others(here, monkeypatch):
    """Lists are written by hand; what stands in the environment stays there."""
    (here / "launcher.yaml").write_text("image: mine\ntoleration: [a, b]\nbackoff: 5\n", encoding="utf-8")
    monkeypatch.setenv("LAUNCHER_NAMESPACE", "team-a")
    assert main(["init", "-y", "image=r/i:1"]) == 0
    written = yaml.safe_load((here / "launcher.yaml").read_text(encoding="utf-8"))
    assert written == {"image": "r/i:1", "toleration": ["a", "b"], "backoff": "5"}


@pytest.mark.parametrize("flags", [[], ["-y"]])
def test_init_without_settings_writes_no_file(here, capsys, flags):
    """An empty one would be in the way of the next."""
    assert main(["init", *flags]) == 2
    assert "launcher init KEY=VALUE" in capsys.readouterr().err
    assert not (here / "launcher.yaml").exists()


@pytest.mark.parametrize(
    "assignment",
    ["nonsense", "imgae=x", "env=A=b", "name=x"],
    ids=["no value", "unknown", "list", "name of one job"],
)
def test_init_refuses_unknown_settings_and_those_of_one_job(assignment):
    with pytest.raises(InputError, match="cannot write"):
        init.answers(None, {}, [assignment])


def test_settings_that_make_no_job_are_not_written(here, capsys):
    """The file would fail every later command."""
    assert main(["init", *GIVEN[:-1], "output=nowhere://x"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (here / "launcher.yaml").exists()


def test_every_prompt_is_for_a_setting():
    assert set(init.QUESTIONS) <= set(IS_LIST)


def test_partial_file_of_a_killed_init_is_removed(here):
    """It would be found by whoever lists the directory, for ever."""
    left = here / f".launcher.yaml-{'0' * 32}.partial"
    left.write_text("half")
    os.utime(left, (1, 1))
    assert main(["init", "-y", "image=x"]) == 0
    assert not left.exists()


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_settings_are_not_written_through_links_or_special_files(here, capsys, kind):
    """-y is leave to change the settings, not what a link of that name points to."""
    theirs, path = here / "theirs", here / "launcher.yaml"
    if kind == "link":
        theirs.write_text("image: theirs\n", encoding="utf-8")
    if kind.startswith("link"):
        path.symlink_to(theirs)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert init_write(path) == ("it is a link" if kind.startswith("link") else "it is not a regular file")
    assert theirs.exists() == (kind == "link")
    assert not theirs.exists() or theirs.read_text(encoding="utf-8") == "image: theirs\n"


def init_write(path):
    """What `write` refuses the path for."""
    with pytest.raises(InputError) as refusal:
        init.write(path, "image: mine\n", replace=True)
    return str(refusal.value.args[0]).rpartition(": ")[2]


def test_full_disk_leaves_the_settings_as_they_were(here, monkeypatch):
    """They may hold an afternoon's work."""
    path = here / "launcher.yaml"
    path.write_text("image: mine\n", encoding="utf-8")
    path.chmod(0o600)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        assert init_write(path) == "no space left on device"
    assert path.read_text(encoding="utf-8") == "image: mine\n"
    assert [entry.name for entry in here.iterdir()] == ["launcher.yaml"]
    init.write(path, "image: newer\n", replace=True)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mode & 0o777) == ("image: newer\n", 0o600)
