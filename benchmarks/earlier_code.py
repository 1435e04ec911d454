"""The code of an earlier commit, for benchmarks that compare with it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


@contextmanager
def trees(ref: str | None, folder: Path) -> Iterator[dict[str, Path]]:
    """For the block, folders with code by name: `before`, that of a commit if one is given, and `now`, this one."""
    if ref is None:
        yield {"now": ROOT}
        return
    tree, git = folder / "before", ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), ref], check=True)
    try:
        yield {"before": tree, "now": ROOT}
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)
