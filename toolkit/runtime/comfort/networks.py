"""`run --net` and `-p`: the container's network namespace, and what is put into it (toolkit/network).

The namespace is the container's own, made with it. It is wired up at the moment at which linux.netDevices are moved:
the container's process exists by then, and its program does not.
"""

import os

from toolkit import preload
from toolkit.errors import CtkError, HostLacks, LaunchFailed, NotFound, Usage
from toolkit.kernel import process
from toolkit.network import model
from toolkit.oci import json_text
from toolkit.runtime import lifecycle, log, stops
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.network.model import Published
    from toolkit.oci.types import Spec
    from toolkit.runtime.launch import Launch
    from toolkit.runtime.options import Options
    from toolkit.runtime.record import Record

KEPT = "networks"
"""What a record keeps in `extra` of the networks that its container is on."""


class Networking:
    """The network that a launch asks for; `extra` is what its record keeps.

    Raises Usage, HostLacks, NotFound (another container).
    """

    def __init__(self, options: "Options", extra: "dict[str, Any]") -> None:
        self.choice = model.parse_choice(options.net or model.DEFAULT)
        self.ports: "list[Published]" = [one for text in options.publish for one in model.parse_publication(text)]
        self._other: "Record | None" = None
        self._attached = False
        if self.choice.kind == "network":
            if os.geteuid() != 0:
                raise HostLacks(
                    f"put the container on network {self.choice.name!r}",
                    because="that takes root",
                    hint="run as root, or share the host's network: --net host",
                )
            # Before anything is made: whatever kills us, `delete` looks for it.
            extra[KEPT] = [{"network": self.choice.name}]
        elif self.ports:
            because = f"with --net {self.choice.kind} there is no network of ctk's to publish it on"
            raise Usage("publish a port", because=because, hint="--net bridge")
        if self.choice.kind == "container":
            self._other = _running(options.root, self.choice.name)

    def choose(self, spec: "Spec") -> bytes:
        """Give `spec` the network namespace that was asked for; returns its text."""
        kind = self.choice.kind
        linux: "Any" = spec.setdefault("linux", {})
        entries: "list[Any]" = [one for one in linux.get("namespaces") or () if one["type"] != "network"]
        if kind == "container" and self._other is not None:
            entries.append({"type": "network", "path": f"/proc/{self._other.pid}/ns/net"})
        elif kind == "ns":
            entries.append({"type": "network", "path": os.path.abspath(self.choice.name)})
        elif kind != "host":
            entries.append({"type": "network"})
        linux["namespaces"] = entries
        return json_text.dumps(spec).encode()

    def attach(self, under_way: "Launch") -> None:
        """Wire the container up: its process is there, and waits. Raises CtkError."""
        container = under_way.record
        assert container is not None
        if self._other is not None and not lifecycle.alive(self._other):
            # Since its namespace was opened: another process may have got its pid before that.
            raise LaunchFailed(f"share the network of container {self._other.id!r}", because="it has just ended")
        if self.choice.kind != "network":
            return
        preload.load(preload.NETWORK)
        from toolkit.network import attach
        from toolkit.network.leases import Holder

        holder = Holder(
            os.path.abspath(container.root), container.id, container.pid, container.start_time, process.boot_id()
        )
        namespace = f"/proc/{container.pid}/ns/net"
        self._attached = True
        try:
            found = attach.attach(self.choice, self.ports, holder, namespace, stops.passed)
        except CtkError:
            if lifecycle.alive(container):
                raise
            return  # its process has failed, and says why when the launch hears of it
        under_way.extra[KEPT] = [found.facts()]
        if os.isatty(2):
            for one in found.lease.ports:
                who = "this host" if one["host"].startswith("127.") else "everybody who reaches this host"
                log.say(f"ctk: {model.told(one)}: {who}\n")

    def undo(self, under_way: "Launch") -> None:
        """Take it off again: the launch has failed."""
        if self._attached and under_way.record is not None:
            release(under_way.record)


def _running(root: str, container_id: str) -> "Record":
    """The container whose network another one shares. Raises NotFound, CtkError."""
    found = records.load(root, container_id)
    if not lifecycle.alive(found):
        doing = f"share the network of container {container_id!r}"
        raise NotFound(doing, because="it does not run", hint="start it first; its network ends with it")
    return found


def release(record: "Record") -> None:
    """Take the container off its networks; errors become warnings, because a dead lease is in nobody's way."""
    preload.load(preload.NETWORK)
    from toolkit.network import attach

    try:
        attach.release(os.path.abspath(record.root), record.id)
    except (CtkError, OSError) as error:
        log.warning(f"take {record.id} off its network: {error}")
