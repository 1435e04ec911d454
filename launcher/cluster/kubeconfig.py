"""Kubeconfig files: contexts and their namespaces, read without the Kubernetes client."""

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
    """Whether the user names the files to read."""
    return bool(kubeconfig or os.environ.get("KUBECONFIG"))


def files(kubeconfig: str | None) -> list[Path]:
    """Kubeconfig files, the first has precedence: those named, else those of KUBECONFIG, else kubectl's default."""
    named = kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return [Path(path).expanduser() for path in named.split(os.pathsep) if path]


def documents(paths: Iterable[Path]) -> list[Document]:
    """Contents of the existing files. Raises: InputError when one can't be read."""
    return [document(path) for path in paths if path.exists()]


def document(path: Path) -> Document:
    """Content of a file. Raises: InputError; its message quotes nothing from the file, which holds keys."""
    try:
        text = yaml_file.read(path)
    except UnicodeDecodeError:
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not YAML") from None
    except (OSError, LimitError) as problem:
        raise InputError(f"cannot read the kubeconfig `{path}`: {yaml_file.why_unread(problem)}") from None
    import yaml  # noqa: PLC0415 - a tenth of the time of `render`, and there may be no file

    try:
        content = parsed_yaml(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except LimitError as problem:
        raise InputError(f"cannot read the kubeconfig `{path}`: {problem}") from None
    except (ValueError, yaml.YAMLError) as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark else ""
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not YAML{place}") from None
    if not isinstance(content, dict):
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not a mapping")
    _check_token_files(content, path)
    _learn_secrets(content, path.parent)
    return content


def _check_token_files(content: Document, path: Path) -> None:
    """Raises: InputError for a `tokenFile` whose reading would not end or would exhaust memory."""
    for entry in entries_of(content, "users"):
        user = entry.get("user")
        named = user.get("tokenFile") if isinstance(user, dict) else None
        try:
            file = (path.parent / str(named)).stat()
        except (OSError, ValueError):  # reported when that user logs in
            continue
        if named and (not stat.S_ISREG(file.st_mode) or file.st_size > CREDENTIAL_BYTES):
            raise InputError(
                f"cannot read the kubeconfig `{path}`: its `tokenFile` `{on_one_line(str(named))}` is not a regular file of at most "
                f"{in_words(CREDENTIAL_BYTES)}"
            )


def _learn_secrets(content: Document, folder: Path) -> None:
    """Register secrets for redaction: tokens, passwords, keys, token files, and logins of servers and proxies."""
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
    """Namespace of each context, None without one; of contexts with the same name the first counts."""
    namespaces: dict[str, str | None] = {}
    for each in found:
        for entry in entries_of(each, "contexts"):
            context = entry.get("context")
            namespace = context.get("namespace") if isinstance(context, dict) else None
            namespaces.setdefault(str(entry.get("name")), str(namespace) if namespace else None)
    return namespaces


def entries_of(document: Document, key: str) -> list[Document]:
    """Entries of a list in a kubeconfig; malformed ones are left out, as nothing can refer to them."""
    entries = document.get(key)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def user_of(found: Iterable[Document], context: str) -> Document:
    """The entry of a context's user, empty without one; of entries with the same name the first counts."""
    documents = list(found)
    named = _first(documents, "contexts", context).get("context")
    return _first(documents, "users", named.get("user") if isinstance(named, dict) else None).get("user") or {}


def _first(found: Iterable[Document], key: str, name: object) -> Document:
    entries = (entry for each in found for entry in entries_of(each, key))
    return next((entry for entry in entries if name is not None and entry.get("name") == name), {})


def current(found: Iterable[Document]) -> str | None:
    """The name of the current context."""
    return next((str(each["current-context"]) for each in found if each.get("current-context")), None)


def chosen(kubeconfig: str | None, context: str | None) -> tuple[str, str | None]:
    """The selected context and its namespace.

    Raises: InputError when a file can't be read, no context is selected, or it does not exist.
    """
    found = documents(files(kubeconfig))
    known = contexts(found)
    name = context or current(found)
    hint = f"--context NAME, of {', '.join(sorted(known))}" if known else "--kubeconfig FILE, or KUBECONFIG=FILE"
    if name is None:
        raise InputError("cannot select a cluster: the kubeconfig has no current context", hint=hint)
    if name not in known:
        origin = "`--context`" if context else "its `current-context`"
        raise InputError(
            f"cannot use the context `{on_one_line(name)}`: the kubeconfig has no such context (from {origin})",
            hint=hint,
        )
    return name, known[name]


def namespace_of(kubeconfig: str | None, context: str | None) -> str | None:
    """Namespace of the named or current context; None without one.

    Several files in KUBECONFIG are read in order, as kubectl does. Unreadable files are skipped here, and reported when the
    cluster is opened.
    """
    found = list(_readable(files(kubeconfig)))
    return contexts(found).get(context or current(found) or "")


def _readable(paths: Iterable[Path]) -> Iterator[Document]:
    for path in paths:
        with suppress(InputError):
            yield document(path)
