"""What this host can do: a list of findings. Each check asks the kernel, a file or a mirror directly.

`examine` runs all checks or those for one command; `after` runs those that may explain a failure.
"""

from collections.abc import Callable, Iterator, Sequence

from toolkit.care import host_checks, image_checks, kernel_checks, registry_checks
from toolkit.care.finding import BAD, NOTE, OK, WARN, Finding
from toolkit.errors import CtkError, HostLacks, SystemCall, Unreachable, Untrusted, Usage
from toolkit.image import name
from toolkit.kernel.host import HostFacts

Check = Callable[[HostFacts], Iterator[Finding]]

# The checks that each command needs, in the order in which their findings are shown.
CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (kernel_checks.kernel, ("run", "rootless", "bootstrap")),
    (kernel_checks.namespace_kinds, ("run", "rootless")),
    (kernel_checks.user_namespaces, ("rootless",)),
    (host_checks.subordinate_ids, ("rootless",)),
    (host_checks.cgroups, ("run", "limits")),
    (kernel_checks.confinement, ("run", "rootless")),
    (kernel_checks.overlay, ("ephemeral",)),
    (image_checks.store, ("images",)),
    (image_checks.layers, ("images",)),
    (registry_checks.logins, ("images",)),
    (kernel_checks.emulation, ("arch",)),
    (host_checks.criu, ("checkpoint",)),
    (host_checks.room, ("bootstrap",)),
    (host_checks.clock, ("bootstrap",)),
    (host_checks.libraries, ("bootstrap", "mirrors")),
    (host_checks.mirrors, ("bootstrap", "mirrors")),
)
TOPICS = tuple(sorted({name for _, names in CHECKS for name in names}))
MARKS = {OK: "✓", NOTE: "·", WARN: "!", BAD: "✗"}

_EPERM, _ENOENT, _EACCES, _EINVAL, _ENOSPC, _ENOSYS, _EDQUOT = 1, 2, 13, 22, 28, 38, 122


def examine(topic: str = "", *, offline: bool = False, registries: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield the findings of all checks, or of those for `topic` (one of TOPICS), each as soon as it is known.

    For the topic images `registries` are asked, or those that there are logins for. With `offline` nobody is contacted.
    Raises Usage for an unknown topic, for registries and another topic, and for what is no registry.
    """
    if topic and topic not in TOPICS:
        raise Usage(f"examine the host for {topic!r}", because="there is no such topic", hint=", ".join(TOPICS))
    if registries and topic != "images":
        raise Usage("ask a registry", because="the topic is another one", hint="ctk doctor --for images REGISTRY")
    hosts = [name.registry(one) for one in registries]
    facts = HostFacts()
    for check, topics in CHECKS:
        if (not topic or topic in topics) and not (offline and check is host_checks.mirrors):
            yield from check(facts)
    if topic == "images" and not offline:
        yield from registry_checks.registries(hosts)


def after(error: CtkError) -> list[Finding]:
    """Problems of the host that may have caused this error; empty if the error has nothing to do with the host."""
    facts = HostFacts()
    found: list[Finding] = []
    for check in _suspects(error):
        found += [finding for finding in check(facts) if finding.state in (WARN, BAD)]
    return found


def _suspects(error: CtkError) -> tuple[Check, ...]:
    words = f"{error} {error.hint}".lower()
    number = getattr(error, "errno", 0)
    if isinstance(error, Unreachable):
        return (host_checks.clock,)
    if isinstance(error, Untrusted):
        return (host_checks.clock, host_checks.mirrors) if "date" in words or "expire" in words else ()
    # clone(2) also fails with ENOSPC at a limit of namespaces, so its words are checked before the disks.
    if "without root" in words or "user namespace" in words or "newuidmap" in words or "uid_map" in words:
        return (kernel_checks.user_namespaces, host_checks.subordinate_ids)
    if "no space left" in words or number in (_ENOSPC, _EDQUOT):
        return (host_checks.room,)
    if "cgroup" in words or "limit the container" in words:
        return (host_checks.cgroups,)
    if isinstance(error, SystemCall) and number in (_EPERM, _EACCES, _EINVAL, _ENOSYS):
        return (kernel_checks.kernel, kernel_checks.namespace_kinds, kernel_checks.user_namespaces)
    if isinstance(error, HostLacks):
        return (kernel_checks.kernel, kernel_checks.namespace_kinds, kernel_checks.confinement, kernel_checks.overlay)
    return ()


def lines(found: list[Finding]) -> list[str]:
    """The findings as text: what was found, which command needs it, the command that fixes it."""
    output = []
    for one in found:
        needed = f"  (for: {one.needed_by})" if one.needed_by and one.state != OK else ""
        output.append(f"{MARKS[one.state]} {one.topic}: {one.what}{needed}")
        if one.fix and one.state != OK:
            output.append(f"    {one.fix}")
    return output


def advice(error: CtkError) -> str:
    """A short section for the end of an error message; "" if the host is not at fault."""
    output = lines(after(error))
    return "".join(f"{line}\n" for line in ["doctor:", *(f"  {line}" for line in output)]) if output else ""
