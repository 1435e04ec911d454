"""Match of image names with those of the labels: by full name, otherwise by the end of the path.

Predictions of files have paths as they were given; labels have names, some with the folders of their data set.
"""

import re
from collections import Counter
from collections.abc import Sequence

from trainer.errors import InputError, listing


def matched(names: Sequence[str], known: Sequence[str], origin: str) -> list[str]:
    """The known name of each name; a name without one is returned unchanged.

    A path matches the known name that it ends with, or that ends with it; otherwise the only known name with the same
    last component. Raises: InputError that lists names with several matches, or with the match of another name.
    """
    exact = set(known)
    others = [name for name in names if name not in exact]
    if not others:
        return list(names)
    by_file = _by_file(known)
    folders = {folder for name in known for folder in _parts(name)[:-1]}
    found = {name: _candidates(name, by_file, folders) for name in others}
    taken = exact.intersection(names)
    found = {name: [each for each in candidates if each not in taken] for name, candidates in found.items()}
    counts = Counter(candidates[0] for candidates in found.values() if len(candidates) == 1)
    problems = [
        f"`{name}` may be {' or '.join(f'`{each}`' for each in candidates)}"
        for name, candidates in found.items()
        if len(candidates) > 1
    ]
    problems += [
        f"`{name}` and {counts[candidates[0]] - 1:,} more may be `{candidates[0]}`"
        for name, candidates in found.items()
        if len(candidates) == 1 and counts[candidates[0]] > 1
    ]
    if problems:
        raise InputError(
            f"cannot match images by file name: {len(problems):,} are ambiguous, got `{origin}`{listing(problems)}",
            hint="use the image names of the labels, with their folders",
        )
    return [found[name][0] if found.get(name) else name for name in names]


def _by_file(known: Sequence[str]) -> dict[str, list[str]]:
    by_file: dict[str, list[str]] = {}
    for name in known:
        by_file.setdefault(_parts(name)[-1], []).append(name)
    return by_file


def _candidates(name: str, by_file: dict[str, list[str]], folders: set[str]) -> list[str]:
    """Known names that may be this image's.

    Folders that the known names have too must agree: `train/PNEUMONIA/1.png` is not `test/NORMAL/1.png`.
    """
    parts = _parts(name)
    same_file = by_file.get(parts[-1], [])
    ending = [each for each in same_file if _is_end(_parts(each), parts) or _is_end(parts, _parts(each))]
    if ending:
        longest = max(len(_parts(each)) for each in ending)
        return [each for each in ending if len(_parts(each)) == longest] if len(parts) >= longest else ending
    return [] if folders.intersection(parts[:-1]) else same_file


def _is_end(end: Sequence[str], parts: Sequence[str]) -> bool:
    return list(parts[-len(end) :]) == list(end)


def _parts(name: str) -> list[str]:
    """Components of a path of any system; at least one."""
    return [part for part in re.split(r"[/\\]", name) if part not in {"", "."}] or [name]
