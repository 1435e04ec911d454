"""Pages of a bucket listing, limited in number."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from trainer.errors import RemoteError
from trainer.limits import LISTED_OBJECTS

_FULL_PAGE: Final = 1000
"""Objects per page. Source: Amazon S3 API reference, ListObjectsV2; pages may have fewer, or none."""

MOST_SHORT_PAGES: Final = 10_000
"""Pages beyond those that the objects fill: servers skip deleted objects and may send empty pages."""

_HINT: Final = "the server's listing differs from S3's: check the endpoint and the prefix"


def pages(
    what: str, request_page: Callable[[Mapping[str, str]], Mapping[str, Any]], tokens: Sequence[str]
) -> Iterator[Mapping[str, Any]]:
    """All pages of a listing; `request_page` gets one, `tokens` names the fields passed to the next request.

    Raises: RemoteError for an endless listing (too many objects or pages, or a repeated token); as `request_page`.
    """
    after: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    listed = 0
    while True:
        page = request_page(after)
        yield page
        if not page.get("IsTruncated"):
            return
        after = {name: str(page.get(f"Next{name}") or "") for name in tokens}
        position = tuple(after.values())
        if not position[0] or position in seen:
            raise RemoteError(f"{what}: the server announces another page without a new token", hint=_HINT)
        seen.add(position)
        listed += len(page.get("Contents", ())) + len(page.get("Uploads", ()))
        if listed > LISTED_OBJECTS:
            raise RemoteError(f"{what}: there are more than {LISTED_OBJECTS:,} objects", hint=_HINT)
        if len(seen) - listed // _FULL_PAGE > MOST_SHORT_PAGES:
            raise RemoteError(f"{what}: {len(seen):,} pages have only {listed:,} objects", hint=_HINT)
