"""Turn a spec into the ordered steps of a launch. Pure: opens no file and makes no system call."""

import os

from toolkit.errors import Invalid
from toolkit.kernel import mounts, namespaces
from toolkit.runtime import mount_options
from toolkit.runtime.cgroup_mount import JoinCgroup, MountCgroup
from toolkit.runtime.devices import LinkDevices, MakeDevices
from toolkit.runtime.mounting import FinishReadOnly, Mount
from toolkit.runtime.new_root import EnterRoot, MakeRootReadOnly, OpenRoot, PrepareRoot, SetRootPropagation
from toolkit.runtime.shielding import MakeReadOnly, Mask
from toolkit.runtime.steps import AwaitHooks, MakeWorkingDirectory, SetNames, SetSysctl, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.oci.types import Linux, Namespace, Spec

EARLY_HOOKS = ("prestart", "createRuntime", "createContainer")


class LaunchPlan:
    """The launch that a spec asks for: its namespaces, and the steps of the child in order."""

    __slots__ = ("clone_flags", "joins", "new", "root", "steps", "wants_hooks")

    def __init__(self, root: str) -> None:
        self.root = root
        self.new: "list[str]" = []  # kinds of namespaces to make
        self.joins: "list[tuple[str, str]]" = []  # (kind, path), in the order to join them
        self.clone_flags = 0  # of clone3; the cgroup namespace is unshared later, when the cgroup is joined
        self.steps: "list[Step]" = []
        self.wants_hooks = False

    @property
    def own_mounts(self) -> bool:
        """Whether there is a mount namespace other than the runtime's. Without one nothing is mounted."""
        return "mount" in self.new or any(kind == "mount" for kind, _ in self.joins)


def root_path(spec: "Spec", bundle: str) -> str:
    """The host path of root.path, which is relative to the bundle."""
    path: str = os.path.join(bundle, spec["root"]["path"])
    return os.path.normpath(path)


NAME_ANNOTATION = "ctk.hostname"
"""The annotation that marks the spec's hostname as a placeholder for the container's name, while the two are equal."""


def name_host(spec: "Spec", container_id: str) -> None:
    """Make the container's name its host name if the spec (changed in place) has the placeholder."""
    place = (spec.get("annotations") or {}).get(NAME_ANNOTATION)
    if place and spec.get("hostname") == place:
        spec["hostname"] = container_id[:64]  # the limit of sethostname(2)


def plan(
    spec: "Spec",
    bundle: str,
    root: str,
    *,
    no_pivot: bool = False,
    console: "Step | None" = None,
    over: "Step | None" = None,
    mount_label: str = "",
) -> LaunchPlan:
    """The launch plan of a valid spec. Raises Invalid for combinations that make no sense.

    `over` mounts something over the root before anything is mounted in it. `mount_label`: the SELinux context of new
    mounts.
    """
    result = LaunchPlan(root)
    linux = spec.get("linux") or {}
    _namespaces(result, linux.get("namespaces") or ())
    hooks = spec.get("hooks") or {}
    result.wants_hooks = any(hooks.get(kind) for kind in EARLY_HOOKS)
    steps = result.steps
    propagation = mount_options.PROPAGATION.get(linux.get("rootfsPropagation") or "", 0)
    if result.own_mounts:
        steps.append(_root_prepared(root, propagation))
        if over is not None:
            steps.append(over)
        _mounts(result, spec, bundle, mount_label)
        if not _dev_is_bound(spec):
            steps.append(MakeDevices(linux.get("devices") or (), mounted="/dev" in _destinations(spec)))
            steps.append(LinkDevices())
    else:
        _refuse_host_mounts(linux)
        steps += [OpenRoot(), JoinCgroup("cgroup" in result.new)]
    if console is not None:
        steps.append(console)
    _settings(steps, spec)
    if result.wants_hooks:
        steps.append(AwaitHooks(hooks.get("createContainer") or ()))
    _shields(steps, linux)
    steps.append(EnterRoot("chroot" if not result.own_mounts else "move" if no_pivot else "pivot"))
    if spec["root"].get("readonly") and result.own_mounts:
        steps.append(MakeRootReadOnly())
    if propagation:
        steps.append(SetRootPropagation(propagation))
    return result


def _root_prepared(root: str, propagation: int) -> PrepareRoot:
    early = propagation
    if early & mounts.MS_UNBINDABLE:
        # The root is yet to be bound onto itself; SetRootPropagation says the rest.
        early = mounts.MS_PRIVATE | early & mounts.MS_REC
    return PrepareRoot(root, early or mounts.MS_SLAVE | mounts.MS_REC, "linux.rootfsPropagation" if early else "")


def _settings(steps: "list[Step]", spec: "Spec") -> None:
    """What the program finds set: names, sysctls, its working directory."""
    if spec.get("hostname") or spec.get("domainname"):
        steps.append(SetNames(spec.get("hostname") or "", spec.get("domainname") or ""))
    sysctls = (spec.get("linux") or {}).get("sysctl") or {}
    steps.extend(SetSysctl(key, value) for key, value in sysctls.items())
    cwd = (spec.get("process") or {}).get("cwd") or "/"
    if cwd != "/":
        steps.append(MakeWorkingDirectory(cwd))


def _shields(steps: "list[Step]", linux: "Linux") -> None:
    """What the program must not write or see; after the hooks, which may."""
    if linux.get("readonlyPaths"):
        steps.append(MakeReadOnly(list(dict.fromkeys(linux["readonlyPaths"]))))
    if linux.get("maskedPaths"):
        steps.append(Mask(list(dict.fromkeys(linux["maskedPaths"]))))
    for step in list(steps):
        if isinstance(step, Mount) and step.read_only_at_the_end:
            steps.append(FinishReadOnly(step.field, step.destination))


def _namespaces(result: LaunchPlan, listed: "Sequence[Namespace]") -> None:
    paths = {entry["type"]: entry.get("path") or "" for entry in listed}
    for kind, (flag, _) in namespaces.NAMESPACES.items():
        if kind in paths:
            if paths[kind]:
                result.joins.append((kind, paths[kind]))
            else:
                result.new.append(kind)
                if kind != "cgroup":
                    result.clone_flags |= flag


def _refuse_host_mounts(linux: "Linux") -> None:
    for field in ("maskedPaths", "readonlyPaths"):
        if linux.get(field):
            raise Invalid(
                "linux." + field,
                "unable to restrict anything without a private mount namespace: it would affect the host",
                hint='add {"type": "mount"} to linux.namespaces',
            )


# SELinux labels these itself and refuses an option for it; a bind mount has the label of its source.
_UNLABELLED = ("proc", "sysfs", "mqueue", "bind")


def _mounts(result: LaunchPlan, spec: "Spec", bundle: str, label: str) -> None:
    own_cgroup_namespace = "cgroup" in result.new
    joined = False
    for index, entry in enumerate(spec.get("mounts") or ()):
        options = mount_options.parse(entry.get("options") or [])
        destination = "/" + entry["destination"].lstrip("/")
        if destination.startswith(result.root + "/"):
            destination = destination[len(result.root) :]  # written as a path of the host, which runc accepts, too
        fstype = entry.get("type") or ""
        if fstype in ("cgroup", "cgroup2") and not options.flags & mounts.MS_BIND:
            if not joined:
                result.steps.append(JoinCgroup(own_cgroup_namespace))
                joined = True
            in_namespace = own_cgroup_namespace or any(kind == "cgroup" for kind, _ in result.joins)
            result.steps.append(MountCgroup(index, destination, options, in_namespace))
            continue
        source = entry.get("source") or fstype or "none"
        if options.flags & mounts.MS_BIND or fstype == "bind":
            source = os.path.join(bundle, source)
        elif label and fstype not in _UNLABELLED:
            options.data.append(f'context="{label}"')
        result.steps.append(Mount(index, source, destination, fstype, options))
    if not joined:
        result.steps.append(JoinCgroup(own_cgroup_namespace))


def maps_ids(spec: "Spec") -> bool:
    """Whether a mount asks for an id mapping of its own."""
    return any(
        entry.get("uidMappings")
        or entry.get("gidMappings")
        or any(word.startswith(("idmap", "ridmap")) for word in entry.get("options") or ())
        for entry in spec.get("mounts") or ()
    )


def _destinations(spec: "Spec") -> "list[str]":
    return ["/" + entry["destination"].strip("/") for entry in spec.get("mounts") or ()]


def _dev_is_bound(spec: "Spec") -> bool:
    """Whether /dev is a bind mount, of the host's or another one. Then nothing is made in it (as in runc)."""
    for entry in spec.get("mounts") or ():
        if entry["destination"].rstrip("/") == "/dev" and (
            entry.get("type") == "bind" or {"bind", "rbind"} & set(entry.get("options") or ())
        ):
            return True
    return False
