"""kubectl's configuration files: which contexts they hold, and the namespace of one; read without a client."""

import base64
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from launcher.cluster import yaml_file
from trainer.errors import InputError, on_one_line
from trainer.limits import CREDENTIAL_BYTES, LimitError, in_words, parsed_yaml, read_at_most
from trainer.redaction import learn, learn_document

Document = Mapping[str, Any]


def are_named(kubeconfig: str | None) -> bool:
    """Whether the user says which files to read."""
    return bool(kubeconfig or os.environ.get("KUBECONFIG"))


def files(kubeconfig: str | None) -> list[Path]:
    """The files that count, the first of them the most: what is named, else what KUBECONFIG names, else kubectl's own place."""
    named = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return [Path(path).expanduser() for path in named.split(os.pathsep) if path]


def documents(paths: Iterable[Path]) -> list[Document]:
    """What the files hold, of those that exist. Raises: InputError when one can't be read."""
    return [document(path) for path in paths if path.exists()]


def document(path: Path) -> Document:
    """What a file holds. Raises: InputError; its message quotes nothing, for there are keys in it."""
    try:
        text = yaml_file.read(path)
    except UnicodeDecodeError:
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not YAML") from None
    except (OSError, LimitError) as problem:
        raise InputError(f"cannot read the kubeconfig `{path}`: {yaml_file.why_unread(problem)}") from None
    import yaml  # noqa: PLC0415 - a tenth of the time that `render` takes, and there may be no file

    try:
        content = parsed_yaml(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except LimitError as problem:
        raise InputError(f"cannot read the kubeconfig `{path}`: {problem}") from None
    except (ValueError, yaml.YAMLError) as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not YAML{place}") from None
    if not isinstance(content, dict):
        raise InputError(f"cannot read the kubeconfig `{path}`: it is no mapping")
    _check_token_files(content, path)
    _learn_secrets(content, path.parent)
    return content


def _check_token_files(content: Document, path: Path) -> None:
    """Raises: InputError for a `tokenFile` that the client would read for ever, or into all memory."""
    for entry in entries_of(content, "users"):
        user = entry.get("user")
        named = user.get("tokenFile") if isinstance(user, dict) else None
        try:
            found = (path.parent / str(named)).stat()
        except (OSError, ValueError):  # who uses that user is told
            continue
        if named and (not stat.S_ISREG(found.st_mode) or found.st_size > CREDENTIAL_BYTES):
            raise InputError(
                f"cannot read the kubeconfig `{path}`: its `tokenFile` `{on_one_line(str(named))}` is no regular file of at most "
                f"{in_words(CREDENTIAL_BYTES)}"
            )


def _learn_secrets(content: Document, folder: Path) -> None:
    """Learn what must be in no message: tokens and passwords, keys, those in files, and logins of servers and proxies."""
    learn_document(content)
    for entry in content.get("users") or ():
        user = (entry.get("user") if isinstance(entry, dict) else None) or {}
        if isinstance(user, dict) and "tokenFile" in user:
            _learn_token(folder / str(user["tokenFile"]))
        with suppress(ValueError, TypeError, AttributeError):
            learn(base64.b64decode(user.get("client-key-data", "")).decode())


def _learn_token(path: Path) -> None:
    from trainer.storage.files import open_regular  # noqa: PLC0415 - loads the storage, which few commands need

    with suppress(OSError, ValueError), open_regular(path) as file:
        learn(read_at_most(file, CREDENTIAL_BYTES).decode())


def contexts(found: Iterable[Document]) -> dict[str, str | None]:
    """Each context's namespace, None where it says none; of two that have one name the first counts."""
    namespaces: dict[str, str | None] = {}
    for each in found:
        for entry in entries_of(each, "contexts"):
            context = entry.get("context")
            namespace = context.get("namespace") if isinstance(context, dict) else None
            namespaces.setdefault(str(entry.get("name")), str(namespace) if namespace else None)
    return namespaces


def entries_of(document: Document, key: str) -> list[Document]:
    """The named entries of a list in a kubeconfig; what is none is left out, as nobody could name it."""
    entries = document.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def current(found: Iterable[Document]) -> str | None:
    """The name of the current context."""
    return next((str(each["current-context"]) for each in found if each.get("current-context")), None)


def chosen(kubeconfig: str | None, context: str | None) -> tuple[str, str | None]:
    """The context that commands mean, and its namespace.

    Raises: InputError when a file can't be read, no context is chosen, or there is none of that name.
    """
    found = documents(files(kubeconfig))
    known = contexts(found)
    name = context or current(found)
    hint = f"--context NAME, of {', '.join(sorted(known))}" if known else "--kubeconfig FILE, or KUBECONFIG=FILE"
    if name is None:
        raise InputError("cannot choose a cluster: the kubeconfig has no current context", hint=hint)
    if name not in known:
        origin = "`--context`" if context else "its `current-context`"
        raise InputError(
            f"cannot use the context `{on_one_line(name)}`: the kubeconfig has no such context (from {origin})",
            hint=hint,
        )
    return name, known[name]


def namespace_of(kubeconfig: str | None, context: str | None) -> str | None:
    """The namespace of a context, the current one unless named; None where nothing says one.

    Several files in KUBECONFIG are looked through in their order, as kubectl does; what can't be read says nothing here, and
    is refused by name when the cluster is opened.
    """
    found = list(_readable(files(kubeconfig)))
    return contexts(found).get(context or current(found) or "")


def _readable(paths: Iterable[Path]) -> Iterator[Document]:
    for path in paths:
        with suppress(InputError):
            yield document(path)
