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
    container = record.load(options.root, options.id)
    answer = document(container)
    if container.torn or answer["status"] == "creating":
        answer = _after_creation(options, answer)
    log.out(in_json(dumps(answer, "  ")))
    return 0


def _after_creation(options: "Options", answer: "dict[str, Any]") -> "dict[str, Any]":
    """The state after the creation, if that ends soon: "creating" confuses callers that poll.

    For runc and crun a container does not exist until it is created, so their callers poll until they get a state, and
    expect "created" in it. A hook that asks gets "creating" after the wait. A record that looks like a killed create's
    may be one whose creator has made the folder, and is about to lock it.
    """
    import time

    began = time.monotonic()
    while time.monotonic() - began < (_CREATION_S if answer["status"] == "creating" else _LOCK_S):
        time.sleep(0.005)
        container = record.load(options.root, options.id)
        answer = document(container)
        if not container.torn and answer["status"] != "creating":
            break
    return answer


_CREATION_S, _LOCK_S = 1.0, 0.1


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
