"""The commands of the documentation on a real cluster: as they stand there, one after the other."""

import re
import shlex
from pathlib import Path

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

DOCS = Path(__file__).parents[2] / "docs"


def commands(page, heading):
    """Arguments of the launcher's lines in one section of a page."""
    section = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [shlex.split(line)[3:] for line in re.findall(r"^    (python -m launcher .*)$", section, re.MULTILINE)]


def test_commands_of_the_cluster_page_work_in_their_order(stored, phantoms):
    """What is shown must work when it is pasted."""
    settings = {"LAUNCHER_DATA": phantoms, "LAUNCHER_DATA_ACCESS": "api"}
    walk = commands("cluster.md", "Submit and watch")
    assert [words[0] for words in walk] == ["submit", "status", "logs", "list", "events", "wait", "clone", "delete"]
    said = {words[0]: stored.launcher(*words, **settings) for words in walk}
    assert said["submit"].stdout == "pytorchjob.kubeflow.org/cpu-1\n"
    assert "mean AUROC" in said["logs"].stdout
    assert said["wait"].stdout == "Succeeded\n"
    assert "cpu-1" in said["list"].stdout
    assert "SuccessfulCreatePod" in said["events"].stdout
    assert said["clone"].stdout == "pytorchjob.kubeflow.org/cpu-2\n"
    assert "pytorchjob.kubeflow.org/cpu-1" in said["delete"].stdout
    stored.launcher("delete", "cpu-2", "-y")
