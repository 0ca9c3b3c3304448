"""The tags of a repository (distribution-spec 1.1, "Listing Tags")."""

from toolkit.errors import CtkError, Untrusted
from toolkit.image import name
from toolkit.image.document import fields
from toolkit.image.registry.connection import Connection
from toolkit.image.registry.pages import Page, pages

MOST_PAGES = 1000
_MOST = 1_000_000
_NEAR = 5
_MOST_COMPARED = 2000  # each costs a fraction of a millisecond


def find(connection: Connection, doing: str) -> list[str]:
    """All tags, in the registry's order; invalid ones are left out. Raises NotFound, CtkError."""
    found: dict[str, None] = {}
    for page in pages(connection, connection.path("tags/list"), doing, {}, MOST_PAGES):
        if page.failure is not None:
            raise page.failure
        found.update((tag, None) for tag in _listed(page, doing))
        if len(found) > _MOST:
            raise Untrusted(doing, because=f"there are more than {_MOST}")
    return list(found)


def near(connection: Connection, wanted: str, doing: str) -> str:
    """A hint that names existing tags of the first page, the most similar first; "" if there are none."""
    import difflib

    try:
        page = next(pages(connection, connection.path("tags/list"), doing, {}, 1))
        tags = _listed(page, doing) if page.failure is None else []
    except CtkError:
        return ""
    if not tags:
        return ""
    shown = difflib.get_close_matches(wanted, tags[:_MOST_COMPARED], _NEAR, 0.4) or tags[:_NEAR]
    return f"the tags there are: {', '.join(shown)}" + (" …" if len(tags) > len(shown) else "")


def _listed(page: Page, doing: str) -> list[str]:
    listed = fields.read(page.data, doing, ("name", "tags")).texts("tags")
    return [tag for tag in listed if name.is_tag(tag)]
