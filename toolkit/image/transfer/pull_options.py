"""How an image gets into the store for a container or a build: when a registry is asked for it, and what is checked.

A module of its own, because `ctk run --image` reads it and the pull itself imports much.
"""

from typing import NamedTuple

from toolkit.errors import Usage
from toolkit.events import Emit
from toolkit.image import name as names
from toolkit.image.store.store import Image
from toolkit.image.trust import lock

MISSING, ALWAYS, NEVER = "missing", "always", "never"
_WHEN = (MISSING, ALWAYS, NEVER)


class PullOptions(NamedTuple):
    """`when` a registry is asked: MISSING, ALWAYS or NEVER. The others are those of PullRequest."""

    when: str = MISSING
    plain_http: tuple[str, ...] = ()
    lock: str = ""
    update_lock: bool = False
    policy: str = ""
    squash_ids: bool = False
    devices: bool = False

    def check(self) -> None:
        """Raises Usage."""
        if self.when not in _WHEN:
            raise Usage(f"read --pull {self.when!r}", because="it is missing, always or never")

    @property
    def asks_first(self) -> bool:
        """Whether the registry decides, even if the store has an image of this name."""
        return self.when == ALWAYS or self.update_lock


def check_stored(name: str, image: Image, how: PullOptions, emit: Emit) -> None:
    """Check an image of the store by the lock file, and by a policy that is named; ctk's own was in force when it came.

    Raises NotFound if the lock file has another digest, and CtkError.
    """
    lock.check(how.lock, name, image.top.digest)
    if not how.policy:
        return
    from toolkit.image.transfer import places
    from toolkit.image.trust import gate

    location = names.Location(names.DOCKER, reference=names.parse(name))
    with places.source(location, places.Access(frozenset(how.plain_http), emit=emit)) as source:
        gate.check(location, source, how.policy, image.top.digest, [image.digest], emit)
