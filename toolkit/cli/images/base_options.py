"""The options of commands that put a container or a build on an image."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from toolkit.cli.images import options

if TYPE_CHECKING:
    from toolkit.image.transfer.pull_options import PullOptions

_IMAGE = "The image"


@dataclass(frozen=True, slots=True)
class BaseOptions:
    """How an image is brought here that a container or a build lies on."""

    pull: Annotated[str, options.within(_IMAGE, options.PULL)] = "missing"
    plain_http: Annotated[list[str] | None, options.within(_IMAGE, options.PLAIN_HTTP)] = None
    lock_file: Annotated[str, options.within(_IMAGE, options.LOCK_FILE)] = ""
    update_lock: Annotated[bool, options.within(_IMAGE, options.UPDATE_LOCK)] = False
    policy: Annotated[str, options.within(_IMAGE, options.POLICY)] = ""
    squash_ids: Annotated[bool, options.within(_IMAGE, options.SQUASH_IDS)] = False
    devices: Annotated[bool, options.within(_IMAGE, options.DEVICES)] = False

    def given(self) -> "PullOptions":
        """As the pull takes them. Raises Usage."""
        from toolkit.image.transfer.pull_options import PullOptions

        found = PullOptions(
            self.pull,
            tuple(self.plain_http or ()),
            self.lock_file,
            self.update_lock,
            self.policy,
            self.squash_ids,
            self.devices,
        )
        found.check()
        return found


@dataclass(frozen=True, slots=True)
class ImageOptions(BaseOptions):
    """The same, and which image it is."""

    platform: Annotated[str, options.within(_IMAGE, options.PLATFORM)] = ""
