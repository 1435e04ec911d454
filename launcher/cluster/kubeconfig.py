"""Kubeconfig files, read and merged as kubectl does, without the Kubernetes client.

Source: client-go v0.37, tools/clientcmd/loader.go.
"""

import base64
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from trainer import yaml_file
from trainer.errors import InputError, on_one_line
from trainer.limits import CREDENTIAL_BYTES, LimitError, in_words, parsed_yaml, read_at_most
from trainer.location import expanded
from trainer.redaction import learn, learn_document

Document = Mapping[str, Any]

_LISTS: Final = {"clusters": "cluster", "contexts": "context", "users": "user"}
"""Lists of a kubeconfig, and the field with the content of an entry."""

_PATHS: Final = frozenset({"certificate-authority", "client-certificate", "client-key", "tokenFile"})
"""Fields with paths of files, relative to the folder of their kubeconfig."""


@dataclass(frozen=True)
class Chosen:
    """The selected context."""

    context: str
    namespace: str | None
    proxy_url: str
    """Of the context's cluster, empty without one."""

    merged: Document = field(repr=False)
    """The content of all files."""


def are_named(kubeconfig: str | None) -> bool:
    """Whether the user names the files to read."""
    return bool(kubeconfig or os.environ.get("KUBECONFIG"))


def files(kubeconfig: str | None) -> list[Path]:
    """Kubeconfig files, the first has precedence: the one of the flag, else the list of KUBECONFIG, else kubectl's default."""
    listed = [kubeconfig] if kubeconfig else (os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)
    return list(dict.fromkeys(Path(expanded(path)) for path in listed if path))


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
    if content is None:  # an empty file, as `touch` makes it
        content = {}
    if not isinstance(content, dict):
        raise InputError(f"cannot read the kubeconfig `{path}`: it is not a mapping")
    _check_names(content, path)
    _check_token_files(content, path)
    _learn_secrets(content, path.parent)
    return content


def _check_names(content: Document, path: Path) -> None:
    """Raises: InputError for two entries of one name, of which kubectl uses neither."""
    for key in _LISTS:
        names = [str(entry.get("name")) for entry in entries_of(content, key)]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise InputError(
                f"cannot read the kubeconfig `{path}`: its `{key}` has several entries named `{on_one_line(repeated)}`",
                hint="remove all but one of them",
            )


def _merged(found: Iterable[tuple[Path, Document]]) -> dict[str, list[Document]]:
    """Entries of all files with absolute paths; of those of one name the first counts, as a whole."""
    entries: dict[str, dict[str, Document]] = {key: {} for key in _LISTS}
    for path, each in found:
        for key, content in _LISTS.items():
            for entry in entries_of(each, key):
                entries[key].setdefault(str(entry.get("name")), _with_absolute_paths(entry, content, path))
    return {key: list(each.values()) for key, each in entries.items()}


def _with_absolute_paths(entry: Document, key: str, path: Path) -> Document:
    content = entry.get(key)
    if not isinstance(content, dict):
        return entry
    base = path.absolute().parent
    known: dict[str, Any] = {
        name: str(base / value) for name, value in content.items() if name in _PATHS and _is_text(value)
    }
    plugin = content.get("exec")
    if isinstance(plugin, dict) and "/" in str(plugin.get("command")):  # others are found by PATH
        known["exec"] = plugin | {"command": str(base / str(plugin["command"]))}
    return {**entry, key: {**content, **known}}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


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


def chosen(kubeconfig: str | None, context: str | None) -> Chosen:
    """The selected context, and the merged files.

    Raises: InputError when a file can't be read, no context is selected, or it does not exist.
    """
    found = [(path, document(path)) for path in files(kubeconfig) if path.exists()]
    known = contexts(each for _, each in found)
    name = context or current(each for _, each in found)
    hint = f"--context NAME, of {', '.join(sorted(known))}" if known else "--kubeconfig FILE, or KUBECONFIG=FILE"
    if name is None:
        raise InputError("cannot select a cluster: the kubeconfig has no current context", hint=hint)
    if name not in known:
        origin = "`--context`" if context else "its `current-context`"
        raise InputError(
            f"cannot use the context `{on_one_line(name)}`: the kubeconfig has no such context (from {origin})",
            hint=hint,
        )
    merged = _merged(found)
    return Chosen(name, known[name], _proxy_url(merged, name), merged)


def _proxy_url(merged: Mapping[str, list[Document]], context: str) -> str:
    """The `proxy-url` of the context's cluster, empty without one."""
    contents = {each.get("name"): each.get("context") for each in merged["contexts"]}
    named = contents.get(context)
    cluster = named.get("cluster") if isinstance(named, dict) else None
    for each in merged["clusters"]:
        if each.get("name") == cluster and isinstance(each.get("cluster"), dict):
            return str(each["cluster"].get("proxy-url") or "")
    return ""


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
