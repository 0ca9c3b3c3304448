"""Networks and leases on disk.

| file               | contents                                                                      |
|--------------------|-------------------------------------------------------------------------------|
| networks/NAME.json | a network (model.Network)                                                     |
| leases.json        | all leases, of all networks: ports of the host are shared by them             |
| host.json          | the links that were shut when we switched forwarding on, and in which boot    |

Whoever changes something holds the store's lock: flock(2) on the folder, which the kernel releases when the process
ends. Each file is replaced as a whole, so that a killed process leaves the one before or the one after.
"""

import errno
import fcntl
import os

from toolkit import places
from toolkit.errors import CtkError, NotFound, reason
from toolkit.kernel import atomic, ours, reading
from toolkit.network.leases import Lease
from toolkit.network.model import DEFAULT, Network, check_name
from toolkit.oci import json_text
from toolkit.text import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_DOING = "keep networks"


class Store:
    """The store, locked: as a context manager. Raises CtkError, NotOurs if somebody else could write to it."""

    def __init__(self, folder: str = "") -> None:
        self.folder = folder or places.network_store()
        self._fd = -1

    def __enter__(self) -> "Self":
        try:
            os.close(
                ours.open_folder(f"{self.folder}/networks", _DOING, make=True, hint="name another with CTK_NETWORKS")
            )
            self._fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise CtkError(f"{_DOING} in {self.folder!r}", because=reason(error)) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def networks(self) -> "list[Network]":
        """All networks, by name. Raises Invalid for a file that is none."""
        try:
            names = sorted(os.listdir(f"{self.folder}/networks"))
        except FileNotFoundError:
            return []
        files = [name.removesuffix(".json") for name in names if name.endswith(".json")]
        return [found for name in files if (found := self.find(name)) is not None]

    def find(self, name: str) -> "Network | None":
        """The network of that name; None if there is none. Raises Usage, Invalid."""
        document = self._read(f"networks/{check_name(name)}.json")
        return None if document is None else Network.of(document, f"networks/{name}.json")

    def get(self, name: str) -> Network:
        """The network of that name. Raises NotFound, Usage, Invalid."""
        found = self.find(name)
        if found is None:
            hint = "it is made when it is first used" if name == DEFAULT else f"ctk network create {quote(name)}"
            raise NotFound(f"find network {name!r}", because="there is no such network", hint=hint)
        return found

    def save(self, network: Network) -> None:
        """Write a network."""
        self._write(f"networks/{network.name}.json", network.document())

    def forget(self, name: str) -> None:
        """Remove a network's file."""
        try:
            os.unlink(f"{self.folder}/networks/{check_name(name)}.json")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise CtkError(f"{_DOING} in {self.folder!r}", because=reason(error)) from None

    def leases(self) -> "list[Lease]":
        """All leases, those that were touched last at the end. Raises Invalid."""
        return [Lease.of(one, "leases.json") for one in self._read("leases.json") or ()]

    def keep(self, leases: "list[Lease]") -> None:
        """Write all leases."""
        self._write("leases.json", [one.document() for one in leases])

    def shut_links(self, boot: str) -> "list[str]":
        """The links that were shut in this boot."""
        found = self._read("host.json") or {}
        return [str(one) for one in found.get("shut") or ()] if found.get("boot") == boot else []

    def note_shut(self, links: "list[str]", boot: str) -> None:
        """Write them."""
        self._write("host.json", {"boot": boot, "shut": links})

    def _read(self, name: str) -> "Any":
        try:
            text = reading.read(f"{self.folder}/{name}", owners=(0, os.geteuid()))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CtkError(f"read {self.folder + '/' + name!r}", because=reason(error)) from None
        return json_text.loads(text, name)

    def _write(self, name: str, document: "Any") -> None:
        try:
            atomic.replace(f"{self.folder}/{name}", json_text.dumps(document).encode())
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "make room there, or name another folder with CTK_NETWORKS" if full else ""
            raise CtkError(f"{_DOING} in {self.folder!r}", because=reason(error), hint=hint) from None
