"""ARCHITECTURE.md and CONTRIBUTING.md name what is there; `make golden` rewrites the table of rooms from the code."""

import ast
import os
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "ARCHITECTURE.md"
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
BEGIN, END = "<!-- rooms: written by `make golden` -->\n", "<!-- end of rooms -->\n"

DOTTED = re.compile(r"(?:trainer|launcher)(?:\.\w+)+")
A_PATH = re.compile(r"\.?[\w-]+/(?:[\w.-]+/?)*|[\w-]+\.(?:md|py|toml)")

TOP_LEVEL = {
    "trainer": "Start of the program, settings, errors and exit codes, names of a run's files, limits, redaction.",
    "launcher": "Start of the program.",
}
"""Of modules beside the rooms; a room says it itself."""


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(package):
    """Module files by room; those beside the rooms are of the top level."""
    rooms = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).parts
        rooms.setdefault(parts[0] if len(parts) > 1 else "top level", []).append(path)
    return rooms


def imported(path):
    """Package and room of each import of ours, wherever in the file it stands."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        split = (name.split(".") for name in names)
        yield from (tuple(parts[:2]) for parts in split if parts[0] in {"trainer", "launcher"} and len(parts) > 1)


def purpose(package, room):
    """The first sentence of the room's own docstring."""
    if room == "top level":
        return TOP_LEVEL[package]
    text = ast.get_docstring(parsed(ROOT / package / room / "__init__.py"))
    return " ".join(text.partition("\n\n")[0].split())


def layers(package):
    """The rooms as the contract of import-linter lists them: imports point down."""
    text = PYPROJECT.partition(f'containers = ["{package}"]\n')[2]
    listed = ast.literal_eval(re.search(r"^layers = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)[1])
    return [room for room in listed if (ROOT / package / room).is_dir()]


def rows():
    """Of each room, from the top down: path, what belongs there, lines, and the rooms that it imports."""
    for package in ("trainer", "launcher"):
        rooms = modules(package)
        for room in [*layers(package), "top level"]:
            lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in rooms[room])
            others = {one for path in rooms[room] for one in imported(path)} - {(package, room)}
            own = [name for name in layers(package) if (package, name) in others]
            theirs = [
                f"trainer.{name}" for name in layers("trainer") if package != "trainer" and ("trainer", name) in others
            ]
            yield (
                f"`{package}/{'' if room == 'top level' else f'{room}/'}`",
                purpose(package, room),
                lines,
                own + theirs,
            )


def table():
    """The same as Markdown; the top level's modules are imported everywhere, and so not listed."""
    lines = ["| room | what belongs there | lines | imports |", "| --- | --- | --- | --- |"]
    lines += [f"| {room} | {what} | {round(size, -1)} | {', '.join(needs)} |" for room, what, size, needs in rows()]
    return "\n".join(lines) + "\n"


def cells(text):
    """Rows of a table, without the number of lines, and those numbers."""
    split = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return [(room, what, needs) for room, what, _, needs in split], [int(size) for _, _, size, _ in split]


def test_table_of_rooms_is_that_of_the_code():
    """Numbers of lines may be 50, or a tenth, behind: not every change is one of the architecture."""
    head, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    shown, _, tail = rest.partition(END)
    if "UPDATE_GOLDEN" in os.environ:
        shown = table()
        PAGE.write_text(head + BEGIN + shown + END + tail, encoding="utf-8")
    (theirs, old), (ours, new) = cells(shown), cells(table())
    assert theirs == ours, "`make golden` rewrites the table"
    off = [room for (room, *_), was, now in zip(ours, old, new, strict=True) if abs(was - now) > max(50, now // 10)]
    assert off == [], "`make golden` rewrites the table"


def test_every_contract_is_explained():
    """`lint-imports` says which contract broke; why it is there stands in ARCHITECTURE.md."""
    contracts = re.findall(r'^\[\[tool\.importlinter\.contracts\]\]\nname = "(.+)"$', PYPROJECT, re.MULTILINE)
    assert len(contracts) >= 5
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in contracts if f"| {name} |" not in page] == []


def names_in(tree):
    """What a module defines at its top, and methods of its classes as `Class.method`."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef))
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def exists(dotted):
    """Whether a dotted name is that of a package, of a module, or of something that a module defines."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        source = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if source.is_file():
            rest = ".".join(parts[count:])
            return not rest or rest in names_in(parsed(source))
    return False


def quoted(document):
    """What stands between backticks, outside code blocks."""
    text = re.sub(r"^```.*?^```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", text))


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_names_in_the_document_are_there(document):
    """A path, a module or a function that was moved is renamed here too."""
    named = quoted(document)
    dotted = {name for name in named if DOTTED.fullmatch(name)}
    paths = {name for name in named if A_PATH.fullmatch(name)}
    assert len(paths) >= 5
    assert sorted(name for name in dotted if not exists(name)) == [], "no such module, function or class"
    assert sorted(name for name in paths if not (ROOT / name).exists()) == [], "no such path"


@pytest.mark.parametrize(
    ("dotted", "there"),
    [
        ("trainer.data.augment", True),
        ("trainer.data", True),
        ("trainer.runs.checkpoint_writer.CheckpointWriter.queue_state", True),
        ("launcher.spec.accelerators.ACCELERATORS", True),
        ("trainer.data.augment.no_such_function", False),
        ("trainer.no_such_room.module", False),
        ("trainer.runs.checkpoint_writer.CheckpointWriter.no_such_method", False),
    ],
)
def test_a_name_is_looked_up_in_the_source(dotted, there):
    """Else the test above would see nothing."""
    assert exists(dotted) is there
