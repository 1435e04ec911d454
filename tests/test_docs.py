"""Documentation and programs agree.

`make golden` rewrites docs/reference.md from the programs' own help.
"""

import io
import os
import re
import shlex
from pathlib import Path
from typing import get_type_hints

import cyclopts
import pytest
import yaml
from rich.console import Console

import launcher.commands
import trainer.__main__
from launcher.__main__ import arguments
from launcher.commands.completion import script
from launcher.spec.job import JobSpec
from trainer import __version__
from trainer.card_file import FIELDS
from trainer.config import from_argv
from trainer.errors import EXIT_CODES
from trainer.evaluation.document import Evaluation
from trainer.formats.documents import Record

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference.md"
SUBJECTS = ("install", "data", "training", "cluster", "apis", "results", "evaluation", "faults")
PAGES = [f"docs/{subject}.md" for subject in SUBJECTS]
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "k8s/README.md", "docs/reference.md"]
DOCUMENTS += [*PAGES, "docs/evidence.md", "docs/security.md", "docs/benchmarks.md"]
PROGRAMS = {"trainer": trainer.__main__.app, "launcher": launcher.commands.app}

HEAD = """# Reference

Every command and flag, as `--help` shows them. Written by `make golden`.
"""


def commands():
    for program, app in PROGRAMS.items():
        for name in app:
            if not name.startswith("-") and app[name].show:
                yield program, name, app[name]


def help_text(app, *argv):
    out = io.StringIO()
    app(
        [*argv, "--help"],
        console=Console(file=out, width=110, force_terminal=False, no_color=True),
        exit_on_error=False,
    )
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def test_reference_is_rewritten_by_make_golden():
    """Only when asked: `make golden`."""
    if "UPDATE_GOLDEN" not in os.environ:
        pytest.skip("UPDATE_GOLDEN is not set")
    parts = [HEAD]
    for program, app in PROGRAMS.items():
        parts.append(f"## python -m {program}\n\n```text\n{help_text(app)}\n```\n")
        parts += [
            f"### python -m {program} {name}\n\n```text\n{help_text(app, name)}\n```\n"
            for owner, name, _ in commands()
            if owner == program
        ]
    REFERENCE.write_text("\n".join(parts), encoding="utf-8")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_knows_every_command_and_flag(shell):
    text = script(shell)
    for owner, name, app in commands():
        if owner == "launcher":
            assert name in text
            flags = {
                flag for argument in app.assemble_argument_collection() if argument.show for flag in argument.names
            }
            assert {flag for flag in flags if flag.startswith("--")} <= set(re.findall(r"--[a-z0-9-]+", text)) | {
                f"--{word}" for word in re.findall(r"-l '?([a-z0-9-]+)", text)
            }


@pytest.mark.parametrize(
    ("program", "name", "app"), [pytest.param(*one, id=f"{one[0]} {one[1]}") for one in commands()]
)
def test_every_command_and_flag_is_in_the_reference(program, name, app):
    """A flag that is not documented is found by accident only."""
    section = (
        REFERENCE.read_text(encoding="utf-8").partition(f"### python -m {program} {name}\n")[2].partition("\n### ")[0]
    )
    assert section, f"no section for `{program} {name}`"
    flags = {flag for argument in app.assemble_argument_collection() if argument.show for flag in argument.names}
    assert flags
    missing = sorted(flag for flag in flags if not re.search(rf"(?<![-\w]){re.escape(flag)}(?![-\w])", section))
    assert missing == []


def test_exit_codes_are_documented():
    """Scripts depend on them."""
    page = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in page


def shell_lines(text):
    """Commands in indented blocks, continuation lines joined, comments removed."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        if line.startswith("    python -m "):
            yield shlex.split(line.strip(), comments=True)[2:]


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        *(f"docs/{page}.md" for page in ("data", "training", "cluster", "apis", "results", "evaluation", "evidence")),
    ],
)
def test_commands_in_the_documents_are_understood(document, monkeypatch, tmp_path):
    """What is shown must work when it is pasted: each line goes through the program's own parser."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "card.yaml").write_text("owner: Example Hospital\n")
    for name, value in {"IMAGE": "i", "DATA": "s3://cxr/chestxray14", "OUTPUT": "s3://cxr/runs"}.items():
        monkeypatch.setenv(f"LAUNCHER_{name}", value)  # as the settings file of docs/install.md does
    lines = list(shell_lines((ROOT / document).read_text(encoding="utf-8")))
    assert len(lines) >= 2
    for program, *argv in lines:
        assert program in PROGRAMS, program
        if program == "launcher":
            _, bound, _ = PROGRAMS[program].parse_args(arguments(argv), exit_on_error=False, print_error=False)
            if argv[0] in {"render", "submit", "doctor"}:
                assert isinstance(bound.arguments["job"], JobSpec)
        elif argv[0] == "train":
            from_argv(argv[1:])
        else:
            PROGRAMS[program].parse_args(argv, exit_on_error=False, print_error=False)


def test_documents_show_every_command():
    """What is not shown is found by accident only."""
    shown = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    missing = [f"{program} {name}" for program, name, _ in commands() if f"{program} {name}" not in shown]
    assert missing == []


def test_reasons_shown_are_what_status_says():
    """The sentences of docs/cluster.md are those of recorded clusters, word for word."""
    shown = (ROOT / "docs/cluster.md").read_text(encoding="utf-8").partition("```text\n")[2].partition("```")[0]
    recorded = {
        line.strip().removeprefix("sentence:").strip().strip("'").replace("''", "'")
        for case in (ROOT / "tests/launcher/status/snapshots").glob("*.yaml")
        for line in case.read_text(encoding="utf-8").splitlines()[:6]
    }
    assert len(shown.splitlines()) >= 3
    assert [line for line in shown.splitlines() if line not in recorded] == []


def places(text):
    """Rows of the checklists of docs/evidence.md: kind of place, such as `card`, and name in it."""
    for row in re.findall(r"^\| \d.*\|(.*)\|$", text, re.MULTILINE):
        for place in re.sub(r"\([^)]*\)", "", row).split(";"):
            kind, _, names = place.partition(":")
            yield from ((kind.strip(), name.strip(" `")) for name in names.split(","))


def test_checklists_name_what_there_is():
    """A reviewer looks there; a field that no item asks for is not needed."""
    text = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    titles = {
        kind: set(
            re.findall(r'"([A-Z][\w -]+)"', "".join(path.read_text() for path in (ROOT / "trainer/report").glob(files)))
        )
        for kind, files in {"card": "model_card.py", "page": "*.py"}.items()
    }
    known = titles | {
        "metrics.json": set(get_type_hints(Evaluation)),
        "run.json": {*get_type_hints(Record), "config", "identity"},
        "only you": set(FIELDS),
    }
    named = list(places(text))
    assert [(kind, name) for kind, name in named if name not in known.get(kind, ())] == []
    assert {name for kind, name in named if kind == "only you"} | {"owner", "contact", "competing_interests"} == set(
        FIELDS
    )
    explained = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`\w+`.*?) \|", text, re.MULTILINE)))
    assert explained == list(FIELDS)
    example = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    assert set(example) <= set(FIELDS)


def anchors(text):
    """What links to headings may name, as forges make it of them."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    """To a file, and to a heading of it."""
    text = (ROOT / document).read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        name, _, heading = link.partition("#")
        path = ROOT / document if not name else (ROOT / document).parent / name
        if not path.exists() or (heading and heading not in anchors(path.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_pictures_of_the_readme_are_there_and_small():
    """`docs/pictures.py` takes them; a README must load quickly."""
    shown = re.findall(r'src="(docs/pictures/[^"]+)"', (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {Path(name).stem for name in shown} == {"report", "status"}
    for name in shown:
        content = (ROOT / name).read_bytes()
        assert len(content) < 200_000, name
        assert content.startswith((b"RIFF", b"\x89PNG")), name


def test_citation_has_the_version():
    """Who cites a release must find its number."""
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation


@pytest.mark.parametrize("app", PROGRAMS.values(), ids=PROGRAMS)
def test_help_names_the_exit_codes(app):
    """Who writes a script looks there."""
    assert isinstance(app, cyclopts.App)
    shown = " ".join(help_text(app).split())
    for meaning in EXIT_CODES.values():
        assert meaning in shown
