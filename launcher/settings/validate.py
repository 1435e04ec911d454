"""Which settings no job could use. Each is tried alone: what goes with what is a job's own matter."""

from collections.abc import Sequence
from typing import Final, get_args

from cyclopts import CycloptsError

from launcher.settings.init import EXAMPLES
from launcher.spec.accelerators import AcceleratorName
from launcher.spec.job import JobSpec
from trainer.errors import InputError

_OF_SEVERAL: Final = frozenset({"workers_per_node", "elastic", "efa"})
"""What they may be depends on the workers, which are given with each job."""


def problem_of(key: str, texts: Sequence[str]) -> str | None:
    """Why no job could use this setting, None when one could."""
    accelerators = get_args(AcceleratorName) if key != "accelerator" else texts
    problems = [_problem(key, texts, accelerator) for accelerator in accelerators]
    return problems[0] if all(problems) else None


def _problem(key: str, texts: Sequence[str], accelerator: str) -> str | None:
    others = {each: (value,) for each, value in (EXAMPLES | {"accelerator": accelerator}).items()}
    try:
        JobSpec.from_settings({**others, key: tuple(texts)})
    except InputError as problem:
        is_decided = key not in _OF_SEVERAL or isinstance(problem.__cause__, CycloptsError)
        return str(problem.args[0]) if is_decided else None
    return None
