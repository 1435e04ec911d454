"""Match of image names with those of the labels: by full name, otherwise by the end of the path.

Predictions of files have paths as they were given; labels have names, some with the folders of their data set.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from trainer.data.class_folders import IMAGE_SUFFIXES
from trainer.data.names import Names, plain
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
    by_name, folders = Names(known), {folder for name in known for folder in PurePosixPath(name).parts[:-1]}
    found = {name: _candidates(plain(name), by_name, folders) for name in others}
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


def _candidates(name: str, known: Names, folders: set[str]) -> list[str]:
    """Known names that may be this image's.

    Folders that the known names have too must agree: `train/PNEUMONIA/1.png` is not `test/NORMAL/1.png`. Known names may be
    ids, without the suffix of the file.
    """
    path = PurePosixPath(name)
    is_elsewhere = bool(folders.intersection(path.parts[:-1]))
    by_id = known.agreeing(str(path.with_suffix(""))) if path.suffix.lower() in IMAGE_SUFFIXES else []
    return known.agreeing(name) or by_id or ([] if is_elsewhere else known.same_file(name))
