"""Edits that widen or narrow what a container may do: devices, security options, hooks, --privileged."""

import json
import os
import stat

from toolkit.bundle import process, seccomp
from toolkit.bundle.document import Edit, Spec, edited
from toolkit.errors import Usage, reason
from toolkit.kernel import reading

# config.md, "POSIX-platform Hooks", in the order in which they run.
HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def device(text: str) -> Edit:
    """--device HOST[:CONTAINER[:rwm]]: the node, and the right to use it. Raises Usage if it is not a device."""
    source, _, rest = text.partition(":")
    path, _, access = rest.partition(":")
    doing = f"read --device {text!r}"
    try:
        found = os.stat(source)
    except OSError as error:
        raise Usage(doing, because=reason(error), hint="for example /dev/fuse") from None
    kind = "c" if stat.S_ISCHR(found.st_mode) else "b" if stat.S_ISBLK(found.st_mode) else ""
    if not kind or not set(access) <= set("rwm"):
        because = "it is not a device" if not kind else "the rights are some of r, w and m"
        raise Usage(doing, because=because, hint="for example /dev/fuse or /dev/sda:/dev/xvda:r")
    numbers = {"major": os.major(found.st_rdev), "minor": os.minor(found.st_rdev)}
    node = {"path": path or source, "type": kind, **numbers, "fileMode": stat.S_IMODE(found.st_mode)}
    node |= {"uid": found.st_uid, "gid": found.st_gid}
    rule = {"allow": True, "type": kind, **numbers, "access": access or "rwm"}

    def edit(spec: Spec) -> Spec:
        linux = spec.setdefault("linux", {})
        known = [old for old in linux.get("devices", []) if old.get("path") != node["path"]]
        linux["devices"] = [*known, node]
        linux.setdefault("resources", {}).setdefault("devices", []).append(rule)
        return spec

    return edit


def security_option(text: str) -> Edit:
    """--security-opt as in engines: no-new-privileges[=BOOL], apparmor=…, label=…, seccomp=default|FILE|…"""
    name, _, value = text.replace(":", "=", 1).partition("=")
    if name == "no-new-privileges":
        return process.no_new_privileges(value.lower() not in ("false", "0"))
    if name == "seccomp" and value:
        return seccomp_profile(value)
    if name in ("apparmor", "label") and value:
        field = "apparmorProfile" if name == "apparmor" else "selinuxLabel"

        def edit(spec: Spec) -> Spec:
            spec.setdefault("process", {})[field] = value
            return spec

        return edit
    hint = "no-new-privileges, apparmor=PROFILE, label=LABEL, seccomp=default, seccomp=FILE or seccomp=unconfined"
    raise Usage(f"read --security-opt {text!r}", because="no such option", hint=hint)


def seccomp_profile(value: str) -> Edit:
    """--seccomp: "default" is our profile, "unconfined" is none, else a file with linux.seccomp. Raises Usage."""
    if value == "default":
        return seccomp.default
    profile = None
    if value != "unconfined":
        try:
            profile = json.loads(reading.text(value))
        except OSError as error:
            because = reason(error)
            raise Usage(f"read the seccomp profile {value!r}", because=because) from None
        except (ValueError, RecursionError) as error:
            raise Usage(f"read the seccomp profile {value!r}", because=f"not JSON: {error}") from None
        if not isinstance(profile, dict) or "defaultAction" not in profile:
            raise Usage(
                f"read the seccomp profile {value!r}",
                because="it has no defaultAction",
                hint='it is the value of linux.seccomp: {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": […]}',
            )

    def edit(spec: Spec) -> Spec:
        linux = spec.setdefault("linux", {})
        linux.pop("seccomp", None)
        if profile is not None:
            linux["seccomp"] = profile
        return spec

    return edit


def hook(text: str) -> Edit:
    """--hook NAME=/PATH[,ARG…]. `args` start with the path, as for execv(3). Raises Usage, with similar names."""
    name, _, command = text.partition("=")
    words = command.split(",")
    if name not in HOOKS:
        from difflib import get_close_matches

        near = get_close_matches(name, HOOKS, 1)
        hint = f"did you mean {near[0]}?" if near else "hooks: " + " ".join(HOOKS)
        raise Usage(f"read --hook {text!r}", because="no such hook", hint=hint)
    if not words[0].startswith("/"):
        raise Usage(f"read --hook {text!r}", because="the program's path must be absolute")

    def edit(spec: Spec) -> Spec:
        entry = {"path": words[0], "args": words}
        spec.setdefault("hooks", {}).setdefault(name, []).append(entry)
        return spec

    return edit


def privileged(spec: Spec) -> Spec:
    """All capabilities and devices, nothing masked or read-only, no seccomp: root in it is root on the host."""

    def open_up(inner: Spec) -> Spec:
        linux = inner.setdefault("linux", {})
        for field in ("maskedPaths", "readonlyPaths", "seccomp"):
            linux.pop(field, None)
        linux.setdefault("resources", {})["devices"] = [{"allow": True, "access": "rwm"}]
        for mount in inner.get("mounts", []):
            if mount.get("type") in ("sysfs", "cgroup") or mount.get("source") == "/sys":
                mount["options"] = ["rw" if word == "ro" else word for word in mount.get("options", [])]
        return inner

    return edited(spec, [process.add_capabilities(process.CAPABILITIES), process.no_new_privileges(False), open_up])
