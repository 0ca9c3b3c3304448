"""`features`: print the supported features as the runtime spec's features document (features.md).

Each entry is read from the table or the module that implements it, so that nothing is claimed that does not exist.
"""

import os

import toolkit
from toolkit.kernel import capabilities, namespaces
from toolkit.kernel import seccomp as kernel_seccomp
from toolkit.oci.check_process import HOOK_KINDS
from toolkit.oci.json_text import dumps
from toolkit.oci.state import SPEC_VERSION
from toolkit.runtime import identity, log, mount_options
from toolkit.runtime.seccomp import profile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolkit.runtime.options import Options


def run(options: "Options") -> int:  # noqa: ARG001 (every verb is called alike)
    """Print the document."""
    log.out(dumps(document(), "    ") + "\n")
    return 0


def document() -> "dict[str, Any]":
    """The features document."""
    options = {
        *mount_options.FLAGS,
        *mount_options.PROPAGATION,
        *mount_options.RECURSIVE,
        *mount_options.EXTENSIONS,
    }
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(HOOK_KINDS),
        "mountOptions": sorted(options),
        "linux": {
            "namespaces": sorted(namespaces.NAMESPACES),
            "capabilities": list(capabilities.NAMES[: capabilities.last() + 1]),
            "cgroup": _cgroup(),
            "seccomp": _seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "memoryPolicy": {"modes": list(identity.MEMORY_MODES), "flags": list(identity.MEMORY_FLAGS)},
            "mountExtensions": {"idmap": {"enabled": "idmap" in mount_options.EXTENSIONS}},
            "netDevices": {"enabled": _has("net_devices")},
        },
        "annotations": {
            "io.github.ctk.version": toolkit.__version__,
            # The name that docker and readers of crun's features look for; crun writes it, too.
            "org.opencontainers.runc.checkpoint.enabled": "true" if _has("verbs/checkpoint") else "false",
        },
        "potentiallyUnsafeConfigAnnotations": [
            "org.systemd.property.",
            "run.oci.hooks.",
            "run.oci.keep_original_groups",
        ],
    }


def _has(module: str) -> bool:
    """Whether this build has a module of the runtime."""
    return os.path.exists(os.path.join(os.path.dirname(os.path.dirname(__file__)), module + ".py"))


def _cgroup() -> "dict[str, bool]":
    systemd = _has("cgroups/systemd")
    return {
        "v1": _has("cgroups/v1"),
        "v2": _has("cgroups/v2"),
        "systemd": systemd,
        "systemdUser": systemd,
        "rdma": True,
    }


def _seccomp() -> "dict[str, Any]":
    known = kernel_seccomp.available_flags()
    return {
        "enabled": bool(kernel_seccomp.available_actions()),
        "actions": sorted(profile.ACTIONS),
        "operators": sorted(profile.OPERATORS),
        "archs": sorted(profile.ARCHITECTURES),
        "knownFlags": sorted(profile.FLAGS),
        "supportedFlags": sorted(name for name, flag in profile.FLAGS.items() if known & flag),
    }
