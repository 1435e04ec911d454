"""Which settings no job could use. Each is tried alone: what goes with what is a job's own matter."""

from collections.abc import Callable, Sequence
from typing import Final, get_args

from cyclopts import CycloptsError

from launcher.settings.init import EXAMPLES
from launcher.spec.accelerators import AcceleratorName
from launcher.spec.job import JobSpec
from trainer.errors import InputError
from trainer.flags import flag_of

_OF_SEVERAL: Final = frozenset({"workers_per_node", "elastic", "efa"})
"""What they may be depends on the workers, which are given with each job."""


def problem_of(key: str, texts: Sequence[str], parse: Callable[[list[str]], JobSpec]) -> str | None:
    """Why no job could use this setting, None when one could. `parse` makes a job of flags."""
    found = [
        _problem(key, texts, parse, accelerator)
        for accelerator in (get_args(AcceleratorName) if key != "accelerator" else texts)
    ]
    return found[0] if all(found) else None


def _problem(key: str, texts: Sequence[str], parse: Callable[[list[str]], JobSpec], accelerator: str) -> str | None:
    others = {each: value for each, value in (EXAMPLES | {"accelerator": accelerator}).items() if each != key}
    try:
        parse(
            [
                *(f"{flag_of(each)}={value}" for each, value in others.items()),
                *(f"{flag_of(key)}={text}" for text in texts),
            ]
        )
    except InputError as problem:
        is_judged = key not in _OF_SEVERAL or isinstance(problem.__cause__, CycloptsError)
        return str(problem.args[0]) if is_judged else None
    return None
