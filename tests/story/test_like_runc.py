"""The same bundle under runc and under ctk: what the process finds inside is the same, but for what is listed here."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command

pytestmark = pytest.mark.root

LOOK = r"""
echo "== mounts"; cut -d' ' -f4- /proc/self/mountinfo
echo "== status"; grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|Sig(Ign|Blk|Cgt)):' /proc/self/status
echo "== limits"; cat /proc/self/limits
echo "== environment"; env | sort
echo "== devices"; cd /dev; for f in * pts/ptmx; do echo "$(stat -c '%n %F %a %u:%g %t:%T' $f)"; done; cd - >/dev/null
echo "== who"; id; hostname; pwd; cat /proc/self/oom_score_adj; cut -d: -f2- /proc/self/cgroup
echo "== descriptors"; ls /proc/self/fd
echo "== session"; cut -d' ' -f7,19 /proc/self/stat; cut -d: -f1 /proc/net/dev | sort; cat /proc/sys/kernel/domainname
echo "== device rules"; sort /sys/fs/cgroup/devices/devices.list 2>/dev/null
echo "== write"; for f in / /tmp /sys /proc/sys /sys/fs/cgroup/pids
do touch $f/x 2>/dev/null && echo "$f writable" || echo "$f read-only"; done
"""

# What differs on purpose, with the reason; each pattern is cut out of both sides.
ON_PURPOSE = (
    # The name of the test's folder.
    r"(?<= )/\S*/(?=rootfs / )|^/\S*/(?=rootfs / )",
    # The tmpfs under the v1 cgroup mounts obeys `ro` and has a size: runc's can be filled by the container.
    r"^/ /sys/fs/cgroup .*$\n",
    # Masks come from the host's null device, known by its number (CVE-2025-31133), and the empty tmpfs has no room.
    r"(?<=^/null )(\S+) .*$",
    r"(?<= - tmpfs tmpfs ro).*$",
    # In a user namespace, where mknod(2) is refused, runc binds the host's nodes and ctk nodes made for the container;
    # what they are is compared under "devices".
    r"^\S+ /dev/(?:null|zero|full|tty|random|urandom)(?: .*)?\n",
    # The source of a cgroup mount is a word that nobody reads.
    r"(?<= - cgroup )\S+ ",
)


def seen(runtime: Command, bundle: Bundle) -> list[str]:
    container = runtime.id("look")
    text = runtime("run", container, cwd=str(bundle)).ok().out
    text = text.replace(container, "CONTAINER").replace(str(bundle.path), "BUNDLE")
    for pattern in ON_PURPOSE:
        text = re.sub(pattern, lambda m: m.group(1) if m.groups() else "", text, flags=re.MULTILINE)
    # Sorted: in a user namespace the devices are bind mounts, and their order means nothing.
    return sorted(text.splitlines())


def user(config: dict[str, Any]) -> None:
    config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 10], "umask": 0o27}
    config["process"]["capabilities"]["ambient"] = ["CAP_KILL"]
    config["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    config["process"]["noNewPrivileges"] = False
    config["process"]["oomScoreAdj"] = 100


def writable(config: dict[str, Any]) -> None:
    config["root"]["readonly"] = False
    config["process"]["cwd"] = "/made/by/the/runtime"
    config["hostname"] = "other"
    config["process"]["env"] += ["A=1", "HOME=/elsewhere"]


def volumes(config: dict[str, Any]) -> None:
    config["mounts"] += [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "size=1m", "ro"]},
        {"destination": "/mnt/etc", "type": "bind", "source": "/etc", "options": ["rbind", "ro", "nodev"]},
        {"destination": "/mnt/passwd", "source": "/etc/passwd", "options": ["bind", "noexec", "rprivate"]},
    ]
    config["root"]["readonly"] = False


def shared_namespaces(config: dict[str, Any]) -> None:
    kept = ("mount", "ipc", "uts", "pid")
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] in kept]


def devices(config: dict[str, Any]) -> None:
    config["linux"]["devices"] = [
        {"path": "/dev/extra", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]
    config["linux"]["resources"]["devices"] += [
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
    ]


def private_cgroup(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "cgroup"})


def limits(config: dict[str, Any]) -> None:
    config["process"]["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]


def user_namespace(config: dict[str, Any]) -> None:
    config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind] = [{"containerID": 0, "hostID": 0, "size": 65536}]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda config: None, id="as runc spec has it"),
        user,
        writable,
        volumes,
        shared_namespaces,
        devices,
        private_cgroup,
        limits,
        user_namespace,
    ],
)
def test_the_process_finds_the_same(
    change: Callable[[dict[str, Any]], None], ctk: Command, new_bundle: Callable[..., Bundle]
) -> None:
    looks = []
    for name in ("runc", "ctk"):
        bundle = new_bundle(name)
        bundle.edit(change)
        bundle.sh(LOOK)
        looks.append(seen(ctk if name == "ctk" else ctk.like(name), bundle))
    assert "== write" in looks[0]
    assert looks[1] == looks[0]
