"""Leases: what of the store is in use, and by whom, so that nothing removes it.

A lease is a file: one line of JSON that says who holds it, and a digest a line: of manifests (with all that they name),
of blobs, and diff ids of laid-out layers. It holds as long as its process lives, by pid and start time, or as long as
its bundle is there. So one that a killed process has left is seen to be dead.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import NamedTuple

from toolkit.errors import Invalid
from toolkit.image import digest as digests
from toolkit.image.store.place import LEASES, Place
from toolkit.kernel import atomic, process, reading
from toolkit.oci import json_text

_LIMIT_BYTES = 16 << 20


class Held(NamedTuple):
    """A lease that holds: who has it, on what."""

    path: str
    holder: str
    digests: frozenset[str]


class Lease:
    """A lease of ours. As a context manager it is released at the end of the block."""

    def __init__(self, place: Place, path: str, held: Iterable[str]) -> None:
        self._place = place
        self._held = set(held)
        self.path = path

    def add(self, digest: str) -> None:
        """Hold this too, from now on. Raises CtkError."""
        if digest in self._held:
            return
        with self._place.in_use():
            try:
                fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    atomic.write(fd, f"{digest}\n".encode())
                finally:
                    os.close(fd)
            except OSError as error:
                raise self._place.failed(error) from None
        self._held.add(digest)

    def release(self) -> None:
        """Give it up."""
        try:
            os.unlink(self.path)
        except OSError:
            pass

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def take(place: Place, holder: str, held: Iterable[str] = (), *, pid: int = 0, bundle: str = "") -> Lease:
    """A lease for `holder` (as messages name it: "the container web"). Raises CtkError.

    With `bundle` it holds as long as that folder is there, and a bundle has one; else as long as the process `pid`,
    by default this one, lives.
    """
    held = tuple(held)
    head: dict[str, object] = {"holder": holder}
    if bundle:
        bundle = os.path.abspath(bundle)
        head["bundle"] = bundle
        name = _of_bundle(bundle)
    else:
        pid = pid or os.getpid()
        try:
            head |= {"pid": pid, "start_ticks": process.start_time(pid), "boot": process.boot_id()}
        except OSError as error:
            raise place.failed(error) from None
        name = f"{pid}-{os.urandom(8).hex()}"
    text = "".join(f"{line}\n" for line in (json_text.dumps(head), *held))
    path = place.path(LEASES, name)
    with place.in_use():
        try:
            atomic.replace(path, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            raise place.failed(error) from None
    return Lease(place, path, held)


def of_bundle(place: Place, bundle: str) -> Lease:
    """The lease that a bundle has taken, to be released."""
    return Lease(place, place.path(LEASES, _of_bundle(os.path.abspath(bundle))), ())


def _of_bundle(bundle: str) -> str:
    return "bundle-" + hashlib.sha256(os.fsencode(bundle)).hexdigest()[:32]


def survey(place: Place) -> tuple[list[Held], list[str]]:
    """The leases that hold, and the paths of those that don't any more. Raises CtkError.

    Who goes by the answer holds `place.changing()`: then nobody is just writing one.
    """
    live, dead = [], []
    try:
        names = sorted(os.listdir(place.path(LEASES)))
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise place.failed(error) from None
    for name in names:
        path = place.path(LEASES, name)
        try:
            found = None if name.startswith(".") else _read(path)  # a dot: half-written
        except FileNotFoundError:
            continue  # released just now
        except OSError as error:
            raise place.failed(error) from None
        if found is None:
            dead.append(path)
        else:
            live.append(found)
    return live, dead


def _read(path: str) -> Held | None:
    head, _, rest = reading.read(path, limit_bytes=_LIMIT_BYTES).partition(b"\n")
    try:
        found = json_text.loads(head, path, any_path=True)
    except Invalid:
        return None  # its writer was killed
    if not isinstance(found, dict) or not _holds(found):
        return None
    lines = rest.decode("ascii", "replace").splitlines()
    return Held(path, str(found.get("holder")), frozenset(line for line in lines if digests.is_digest(line)))


def _holds(head: dict[str, object]) -> bool:
    bundle, pid = head.get("bundle"), head.get("pid")
    if isinstance(bundle, str):
        return os.path.isdir(bundle)
    if not isinstance(pid, int) or head.get("boot") != process.boot_id():
        return False
    try:
        fields = process.stat_fields(pid)
    except OSError:
        return False
    return fields[0] not in "ZX" and int(fields[19]) == head.get("start_ticks")


def holder_of(live: Iterable[Held], digest: str) -> str:
    """Who holds this digest; "" if nobody does."""
    return next((one.holder for one in live if digest in one.digests), "")
