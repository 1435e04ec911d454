"""Print the entries of requirement files for `pip install --require-hashes`, but for what the base image keeps.

torch, NumPy and what is the vendor's own stay what they are in the base: pip then meets them as installed, and refuses to
fetch another. Run it with the Python of the environment that is installed into.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

KEPT: Final = re.compile(r"torch.*|numpy|habana.*")


def normal(name: str) -> str:
    """The name as indexes compare it. Source: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> Iterator[str]:
    """Each requirement with its hashes, as it is written: a line, and those that follow it indented."""
    return (match[0] for match in re.finditer(r"^[^\s#].*\n(?:[ \t]+.*\n)*", text, re.MULTILINE))


def chosen(text: str, installed: Iterable[str]) -> str:
    """The entries that are to be installed beside what is there."""
    kept = {name for name in map(normal, installed) if KEPT.fullmatch(name)}
    return "".join(entry for entry in entries(text) if normal(re.split(r"[\s=;\[]", entry)[0]) not in kept)


def main() -> None:
    installed = [name for each in distributions() for name in each.metadata.get_all("Name") or []]
    for path in sys.argv[1:]:
        sys.stdout.write(chosen(Path(path).read_text(encoding="utf-8"), installed))


if __name__ == "__main__":
    main()
