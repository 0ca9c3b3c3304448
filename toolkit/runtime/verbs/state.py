"""`state`: print the state document of a container."""

from toolkit.oci.json_text import dumps
from toolkit.oci.state import state
from toolkit.runtime import lifecycle, log, record
from toolkit.text import in_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.options import Options


def run(options: "Options") -> int:
    """Print the state of the container. Raises NotFound."""
    answer = document(record.load(options.root, options.id))
    if answer["status"] == "creating":
        answer = _after_creation(options, answer)
    log.out(in_json(dumps(answer, "  ")))
    return 0


def _after_creation(options: "Options", answer: "dict[str, Any]") -> "dict[str, Any]":
    """The state after the creation, if that ends soon: "creating" confuses callers that poll.

    For runc and crun a container does not exist until it is created, so their callers poll until they get a state, and
    expect "created" in it. A hook that asks gets "creating" after the wait.
    """
    import time

    end = time.monotonic() + _CREATION_S
    while answer["status"] == "creating" and time.monotonic() < end:
        time.sleep(0.005)
        answer = document(record.load(options.root, options.id))
    return answer


_CREATION_S = 1.0


def document(container: "record.Record", owner: str = "") -> "dict[str, Any]":
    """The current state document of a record."""
    status = lifecycle.status(container)
    return state(
        container_id=container.id,
        pid=0 if status == "stopped" else container.pid,
        status=status,
        bundle=container.bundle,
        rootfs=container.rootfs,
        created=container.created,
        annotations=container.annotations,
        owner=owner,
    )
