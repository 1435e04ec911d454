"""Listings that come in pages, however many a server claims to have."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from trainer.errors import RemoteError
from trainer.limits import LISTED_OBJECTS

_FULL_PAGE: Final = 1000
"""Objects in a page. Source: Amazon S3 API reference, ListObjectsV2; pages may have fewer, and none is of use."""

_HINT: Final = "the server does not list as S3 does: is the endpoint right, and the prefix no other's?"


def pages(
    what: str, ask: Callable[[Mapping[str, str]], Mapping[str, Any]], tokens: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Every page of a listing; `ask` gets one, `tokens` name what is passed on from one to the next.

    Raises: RemoteError for a listing without an end: with too many objects or pages, or that comes back to where it was; as `ask`.
    """
    after: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    listed = 0
    while True:
        page = ask(after)
        yield page
        if not page.get("IsTruncated"):
            return
        after = {name: str(page.get(f"Next{name}") or "") for name in tokens}
        position = tuple(after.values())
        if not position[0] or position in seen:
            raise RemoteError(f"{what}: the server says that there is more, and not where", hint=_HINT)
        seen.add(position)
        listed += len(page.get("Contents", ())) + len(page.get("Uploads", ()))
        if listed > LISTED_OBJECTS:
            raise RemoteError(f"{what}: there are more than {LISTED_OBJECTS:,} objects", hint=_HINT)
        if len(seen) - listed // _FULL_PAGE > MOST_SHORT_PAGES:
            raise RemoteError(f"{what}: {len(seen):,} pages have only {listed:,} objects", hint=_HINT)


MOST_SHORT_PAGES: Final = 10_000
"""Pages beyond those that the objects fill: servers skip what was deleted, and may give empty ones."""
