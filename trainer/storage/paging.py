"""The pages of a bucket's listing, bounded in number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from trainer.errors import RemoteError
from trainer.limits import LISTED_OBJECTS

_FULL_PAGE: Final = 1000
"""Objects in a page. Source: Amazon S3 API reference, ListObjectsV2; pages may have fewer, and none is of use."""

MOST_SHORT_PAGES: Final = 10_000
"""Pages beyond those that the objects fill: servers skip what was deleted, and may give empty ones."""

_HINT: Final = "the server does not list as S3 does: check the endpoint and the prefix"


def pages(
    what: str, ask: Callable[[Mapping[str, str]], Mapping[str, Any]], tokens: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """Every page of a listing; `ask` requests one, `tokens` names the fields that are passed on to the next request.

    Raises: RemoteError for a listing without an end: too many objects or pages, or a token that comes again; as `ask`.
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
            raise RemoteError(f"{what}: the server announces another page and gives no new token for it", hint=_HINT)
        seen.add(position)
        listed += len(page.get("Contents", ())) + len(page.get("Uploads", ()))
        if listed > LISTED_OBJECTS:
            raise RemoteError(f"{what}: there are more than {LISTED_OBJECTS:,} objects", hint=_HINT)
        if len(seen) - listed // _FULL_PAGE > MOST_SHORT_PAGES:
            raise RemoteError(f"{what}: {len(seen):,} pages have only {listed:,} objects", hint=_HINT)
