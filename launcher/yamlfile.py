"""Text of YAML files that users name (settings, overlays, kubeconfigs), read in bounded memory."""

from pathlib import Path

from trainer.limits import YAML_BYTES, LimitError, read_at_most


def read(path: Path) -> str:
    """The text of such a file, which may be a pipe. Raises: OSError; LimitError; UnicodeDecodeError."""
    with path.open("rb") as file:
        return read_at_most(file, YAML_BYTES).decode()


def why_unread(problem: OSError | ValueError) -> str:
    """The reason for which `read` failed, as the end of a sentence."""
    if isinstance(problem, OSError):
        return str(problem.strerror)
    return str(problem) if isinstance(problem, LimitError) else "it is no UTF-8 text"
