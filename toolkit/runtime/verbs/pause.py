"""`pause`: freeze all processes of a container."""

from toolkit.errors import HostLacks
from toolkit.runtime import lifecycle, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Freeze. Raises NotFound, CtkError ("container not running"), HostLacks without a cgroup of its own."""
    container = records.load(options.root, options.id)
    removal.lock(container)
    lifecycle.require(container, "pause")
    if not container.cgroups:
        raise HostLacks(f"pause {options.id}", because="the container has no cgroup of its own")
    from toolkit.runtime import cgroups

    cgroups.from_facts(container.cgroups).freeze()
    return 0
