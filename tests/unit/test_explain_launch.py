"""A launch told: the plan's own steps and what surrounds them, each with its field, calls and shell lines."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.specs import rich_spec
from toolkit.errors import HostLacks, Invalid
from toolkit.explain import fields, launch, script
from toolkit.explain.act import Act
from toolkit.oci.defaults import default_spec
from toolkit.runtime import mount_options, mounting, plan, shell_words
from toolkit.runtime.cgroups import layout
from toolkit.text import quote

Tell = Callable[..., launch.Launch]


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    (tmp_path / "b/rootfs/etc").mkdir(parents=True)
    (tmp_path / "b/rootfs/etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu:x:7:7::/home/u:/bin/sh\n")

    def of(spec: dict[str, Any], **keywords: Any) -> launch.Launch:
        (tmp_path / "b/config.json").write_text(json.dumps(spec))
        return launch.of(str(tmp_path / "b"), "told", **keywords)

    return of


@pytest.fixture
def unified(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with cgroup v2 alone."""
    monkeypatch.setattr(layout, "hierarchies", lambda: [("", "/sys/fs/cgroup", "/")])
    monkeypatch.setattr(layout, "own", lambda *_: {"": "/user/shell"})


@pytest.fixture
def separate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with cgroup v1."""
    names = ("cpu", "cpuset", "memory", "pids", "devices", "name=systemd")
    listed = [(name, f"/sys/fs/cgroup/{name.removeprefix('name=')}", "/") for name in names]
    monkeypatch.setattr(layout, "hierarchies", lambda: listed)
    monkeypatch.setattr(layout, "own", lambda *_: dict.fromkeys(names, "/"))


def by_field(told: launch.Launch) -> dict[str, list[Act]]:
    found: dict[str, list[Act]] = {}
    for act in told.acts:
        found.setdefault(act.field, []).append(act)
    return found


def limits(**resources: Any) -> dict[str, Any]:
    spec = default_spec()
    spec["linux"]["resources"] |= resources
    return spec


@pytest.mark.usefixtures("separate")
def test_every_act_names_a_field_and_its_calls(tell: Tell) -> None:
    spec = rich_spec()
    spec["linux"]["cgroupsPath"] = "/told/rich"
    spec["process"]["terminal"] = True
    spec["linux"]["seccomp"]["syscalls"] = []
    told = tell(spec)
    for act in told.acts:
        assert act.sentence[0].islower()
        assert act.calls and act.calls.count("(") == act.calls.count(")"), act.calls
        assert act.shell or act.note, act
        if act.field:
            fields.find(act.field)


@pytest.mark.usefixtures("separate")
def test_the_steps_are_those_that_run_carries_out(tell: Tell) -> None:
    told = tell(default_spec())
    spec = default_spec()
    carried = plan.plan(spec, told.bundle, told.root, console=launch.MakeConsole("process.terminal")).steps
    assert [type(step) for step in told.plan.steps] == [type(step) for step in carried]
    assert [act.step for act in told.acts if act.step >= 0] == list(range(len(carried)))
    sides = [act.side for act in told.acts if act.field != "linux.resources.devices"]
    assert sides == sorted(sides, key=["outside", "inside", "program"].index)
    assert told.acts[-1].field == "process.args"


@pytest.mark.usefixtures("unified")
def test_limits_on_v2(tell: Tell) -> None:
    told = tell(
        limits(memory={"limit": 64 << 20}, cpu={"quota": 50000}, pids={"limit": 9}, unified={"memory.high": "5"})
    )
    acts = by_field(told)
    assert acts["linux.resources.memory.limit"][0].shell == ("echo 67108864 > /sys/fs/cgroup/user/told/memory.max",)
    assert acts["linux.resources.cpu.quota"][0].shell == ("echo '50000 100000' > /sys/fs/cgroup/user/told/cpu.max",)
    assert acts["linux.resources.pids.limit"][0].calls == (
        'write(open("/sys/fs/cgroup/user/told/pids.max", O_WRONLY), "9", 1)'
    )
    assert acts["linux.resources.unified['memory.high']"]
    assert "eBPF" in acts["linux.resources.devices"][0].note
    made = acts["linux.cgroupsPath"][0].shell
    assert "echo '+cpu +memory +pids' > /sys/fs/cgroup/user/cgroup.subtree_control" in made


@pytest.mark.usefixtures("separate")
def test_limits_on_v1(tell: Tell) -> None:
    acts = by_field(tell(limits(memory={"limit": 64 << 20}, cpu={"shares": 512})))
    assert acts["linux.resources.memory.limit"][0].shell == (
        "echo 67108864 > /sys/fs/cgroup/memory/told/memory.limit_in_bytes",
    )
    assert acts["linux.resources.cpu.shares"][0].shell == ("echo 512 > /sys/fs/cgroup/cpu/told/cpu.shares",)
    assert acts["linux.resources.devices"][0].shell[0] == "echo a > /sys/fs/cgroup/devices/told/devices.deny"
    shown = acts["mounts[6]"][0].shell
    assert 'mount --rbind /sys/fs/cgroup/memory/told "$root/sys/fs/cgroup/memory"' in shown


@pytest.mark.usefixtures("separate")
def test_who_the_program_is(tell: Tell) -> None:
    spec = default_spec()
    spec["process"] |= {"user": {"uid": 7, "gid": 8, "umask": 63, "additionalGids": [5, 6]}, "cwd": "/a b"}
    spec["process"]["capabilities"]["inheritable"] = ["CAP_KILL"]
    told = tell(spec)
    acts = by_field(told)
    assert acts["process.user.uid"][0].flags == ("--reuid=7",)
    assert acts["process.user.additionalGids"][0].flags == ("--groups=5,6",)
    assert acts["process.capabilities.ambient"][0].flags == ("--ambient-caps=-all,+kill",)
    assert acts["process.user.umask"][0].shell == ("umask 0077",)
    assert acts["process.cwd"][-1].shell == ("cd '/a b'",)
    assert "HOME=/home/u" in acts["process.args"][0].flags


@pytest.mark.usefixtures("separate")
def test_user_namespaces_and_joins(tell: Tell) -> None:
    spec = default_spec()
    spec["linux"]["namespaces"][1] = {"type": "network", "path": "/run/netns/x"}
    acts = by_field(tell(spec))
    assert acts["linux.namespaces[1].path"][0].shell == ("nsenter --net=/run/netns/x …",)
    spec = default_spec()
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"] |= {name: [{"containerID": 0, "hostID": 9, "size": 2}] for name in ("uidMappings", "gidMappings")}
    acts = by_field(tell(spec))
    assert acts["linux.gidMappings"][0].shell == ("printf '%s\\n' '0 9 2' > /proc/PID/gid_map",)
    assert acts["linux.uidMappings"][0].calls == 'write(open("/proc/PID/uid_map", O_WRONLY), "0 9 2")'


def test_what_cannot_be_meant_is_not_explained(tell: Tell) -> None:
    spec = default_spec()
    spec["process"]["cwd"] = "relative"
    with pytest.raises(Invalid):
        tell(spec)


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (
            {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "ro", "size=1m"]},
            [
                'mode=$(stat -c %a "$root/t" 2>/dev/null || echo 1777)',
                'mkdir -p "$root/t"',
                'mount -t tmpfs -o nosuid,size=1m,mode="$mode" tmpfs "$root/t"',
            ],
        ),
        (
            {"destination": "/d $x", "source": "/s'", "options": ["rbind", "ro", "rslave"]},
            [
                """[ -e "$root/d \\$x" ] || { mkdir -p "$root"; [ -d '/s'\\''' ] && mkdir "$root/d \\$x" """
                """|| touch "$root/d \\$x"; }""",
                """mount --rbind '/s'\\''' "$root/d \\$x\"""",
                'mount -o remount,bind,ro,suid,dev,exec "$root/d \\$x"',
                'mount --make-rslave "$root/d \\$x"',
            ],
        ),
    ],
)
def test_mounts_as_shell_lines(entry: dict[str, Any], lines: list[str]) -> None:
    options = mount_options.parse(entry["options"])
    step = mounting.Mount(0, entry["source"], entry["destination"], entry.get("type", ""), options)
    assert step.describe()[2].splitlines() == lines


def test_words_of_a_shell() -> None:
    for text in ("plain/x-1", "", "a b", "it's", "$HOME", "a;b", "ü", "line\nbreak"):
        done = subprocess.run(["sh", "-c", f"printf %s {quote(text)}"], capture_output=True, check=True)
        assert done.stdout.decode() == text
    done = subprocess.run(
        ["sh", "-c", f"root=/r; printf %s {shell_words.in_root('/a $b`c`')}"], capture_output=True, check=True
    )
    assert done.stdout.decode() == "/r/a $b`c`"


@pytest.mark.usefixtures("separate")
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_script_is_read_by_every_shell(tell: Tell, shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    spec = rich_spec()
    spec["linux"]["cgroupsPath"] = "/told/rich"
    spec["process"]["args"] = ["sh", "-c", 'echo "it\'s $HOME"; INSIDE=1']
    spec["process"]["scheduler"] = {"policy": "SCHED_FIFO", "priority": 3}
    spec["linux"]["rootfsPropagation"] = "rshared"
    text = script.write(tell(spec))
    path = tmp_path / "s.sh"
    path.write_text(text)
    words = [shell, "sh", "-n"] if shell == "busybox" else [shell, "-n"]
    subprocess.run([*words, str(path)], check=True)
    inner = text.partition("<<'INSIDE'\n")[2].partition("\nINSIDE\n")[0]
    path.write_text(inner)
    subprocess.run([*words, str(path)], check=True)
    assert "--seccomp-filter" in text
    assert "# Left out: args[0] of hooks" in text


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda s: s["linux"]["namespaces"].append({"type": "user", "path": "/proc/1/ns/user"}), "user namespace"),
        (
            lambda s: s["linux"].update(
                namespaces=[{"type": "pid"}, {"type": "uts"}], maskedPaths=[], readonlyPaths=[]
            ),
            "mount",
        ),
        (lambda s: s.pop("process"), "no process"),
    ],
    ids=["user", "mount", "process"],
)
def test_what_no_script_can_do(tell: Tell, change: Callable[[dict[str, Any]], object], because: str) -> None:
    spec = default_spec()
    change(spec)
    with pytest.raises(HostLacks) as error:
        script.write(tell(spec))
    assert because in error.value.because
