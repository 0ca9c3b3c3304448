"""The state document of the runtime spec (runtime.md, "State"), with the fields that `runc state` adds."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPEC_VERSION = "1.3.0"
"""The version of the runtime spec that we implement."""


def state(
    *,
    container_id: str,
    pid: int,
    status: str,
    bundle: str,
    rootfs: str,
    created: str,
    annotations: "dict[str, str]",
    owner: str = "",
) -> "dict[str, Any]":
    """The document that `state` prints, and of which `list --format json` is a list: runc's keys in runc's order.

    `pid` is 0 for a stopped container; `created` is RFC 3339 in UTC.
    """
    document: dict[str, Any] = {
        "ociVersion": SPEC_VERSION,
        "id": container_id,
        "pid": pid,
        "status": status,
        "bundle": bundle,
        "rootfs": rootfs,
        "created": created,
    }
    if annotations:
        document["annotations"] = annotations
    document["owner"] = owner
    return document


def for_hooks(container_id: str, pid: int, status: str, bundle: str, annotations: "dict[str, str]") -> "dict[str, Any]":
    """The spec's own state, as hooks and seccomp agents receive it (no `pid` once stopped)."""
    document: dict[str, Any] = {"ociVersion": SPEC_VERSION, "id": container_id, "status": status}
    if pid:
        document["pid"] = pid
    document["bundle"] = bundle
    if annotations:
        document["annotations"] = annotations
    return document
