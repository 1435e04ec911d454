"""torch.compile with inductor, torch's own backend, for the devices that use it: what it needs, and where it keeps its files."""

import importlib
import importlib.util
import os
import shutil
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

MOST_PROCESSES: Final = 4
"""Compilers that one worker runs at a time. Each is a process that has loaded torch, and inductor's own number, one per core of the
node, would be started by every worker."""

_FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
_PROCESSES: Final = "TORCHINDUCTOR_COMPILE_THREADS"


def lacks_cpp() -> str | None:
    """What is missing to compile for processors; None when nothing is."""
    if _program("CXX", "g++", "clang++") is None:
        return "there is no C++ compiler (g++)"
    return None


def lacks_triton() -> str | None:
    """What is missing to compile for GPUs; None when nothing is."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    if _program("CC", "gcc", "clang") is None:
        return "there is no C compiler (gcc), which triton needs"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's headers (Python.h), which triton needs, are not installed"
    return None


def compiled(module: nn.Module) -> nn.Module:
    """The module, compiled with static shapes at its first call; it shares parameters and buffers.

    One graph, also inside DistributedDataParallel: dynamo's own splitting is for overlapping the reduction of several buckets.
    """
    importlib.import_module("torch._dynamo").config.optimize_ddp = False
    compiled_module: nn.Module = torch.compile(module, dynamic=False)  # type: ignore[assignment]  # of a module it is one
    return compiled_module


def keep_files_in(folder: Path, cores: int) -> None:
    """Keep compiled code in this folder of this user, where a restart finds it, and compile on at most this many cores.

    Inductor's own variables take precedence. Without the call it writes to a folder in the temporary directory, and torch sets the
    variable to that when it is loaded.
    """
    given = os.environ.get(_FOLDER)
    if given is None or given.startswith(str(Path(tempfile.gettempdir()) / "torchinductor_")):
        with suppress(OSError):  # of another user, or a file system without modes: then the temporary directory
            folder.chmod(0o700)  # what is in it is executed
            os.environ[_FOLDER] = str(folder.resolve())
    if _PROCESSES not in os.environ:
        config: Any = importlib.import_module("torch._inductor.config")
        config.compile_threads = max(1, min(MOST_PROCESSES, cores))


def _program(variable: str, *names: str) -> str | None:
    """The program that a variable names, otherwise the first of these names that is installed."""
    named = os.environ.get(variable)
    return named or next(filter(None, map(shutil.which, names)), None)
