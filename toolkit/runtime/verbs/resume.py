"""`resume`: thaw a paused container."""

from toolkit.runtime import lifecycle, removal
from toolkit.runtime import record as records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Thaw. Raises NotFound, CtkError ("container not paused")."""
    container = records.load(options.root, options.id)
    removal.lock(container)
    lifecycle.require(container, "resume")
    from toolkit.runtime import cgroups

    cgroups.from_facts(container.cgroups).thaw()
    return 0
