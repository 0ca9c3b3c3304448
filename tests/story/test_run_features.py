"""Fields of config.json, each shown by what the process inside finds."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command

pytestmark = pytest.mark.root


def run(ctk: Command, bundle: Bundle, *options: str, **keywords: Any) -> str:
    return ctk("run", *options, ctk.id(), cwd=str(bundle), **keywords).ok().out


def mount(bundle: Bundle, **entry: Any) -> Bundle:
    return bundle.edit(lambda config: config["mounts"].append(entry))


def test_tmpcopyup_starts_with_what_the_image_has(ctk: Command, busybox_bundle: Bundle) -> None:
    folder = busybox_bundle.rootfs / "data/deep"
    folder.mkdir(parents=True)
    (folder / "file").write_text("text")
    (folder / "file").chmod(0o640)
    (folder.parent / "link").symlink_to("deep/file")
    mount(busybox_bundle, destination="/data", type="tmpfs", source="tmpfs", options=["tmpcopyup", "nosuid"])
    busybox_bundle.sh("cat /data/link; stat -c ' %a' /data/deep/file; touch /data/new; grep -c ' /data ' /proc/mounts")
    assert run(ctk, busybox_bundle) == "text 640\n1\n"
    assert not (busybox_bundle.rootfs / "data/new").exists()


def test_recursive_attributes_reach_what_is_mounted_below(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "tree/below").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "tree/below"], check=True)
    try:
        mount(busybox_bundle, destination="/t", source=str(tmp_path / "tree"), options=["rbind", "rro", "rnosuid"])
        busybox_bundle.sh("touch /t/x; touch /t/below/x; grep ' /t' /proc/mounts | cut -d' ' -f2,4")
        out = run(ctk, busybox_bundle)
    finally:
        subprocess.run(["umount", tmp_path / "tree/below"], check=True)
    rows = dict(line.split() for line in out.splitlines())
    assert {"ro", "nosuid"} <= set(rows["/t"].split(",")) & set(rows["/t/below"].split(","))


def test_idmapped_mount_shows_other_owners(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "owned").mkdir()
    os.chown(tmp_path / "owned", 1000, 1000)
    maps = [{"containerID": 1000, "hostID": 7000, "size": 1}]
    mount(
        busybox_bundle,
        destination="/m",
        source=str(tmp_path / "owned"),
        options=["bind"],
        uidMappings=maps,
        gidMappings=maps,
    )
    busybox_bundle.sh("stat -c '%u:%g' /m")
    assert run(ctk, busybox_bundle) == "7000:7000\n"


def test_time_namespace_has_its_offset(ctk: Command, busybox_bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["linux"]["namespaces"].append({"type": "time"})
        config["linux"]["timeOffsets"] = {"boottime": {"secs": 5_000_000}}

    busybox_bundle.edit(change).sh("cut -d. -f1 /proc/uptime")
    assert int(run(ctk, busybox_bundle)) > 5_000_000


def test_preserved_descriptors_come_through_and_no_others(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "three").write_text("third")
    fds = [os.open(tmp_path / "three", os.O_RDONLY) for _ in range(3)]
    script = (
        f"exec 3<{tmp_path}/three 4<{tmp_path}/three 5<{tmp_path}/three; exec {ctk.program} run --preserve-fds 1 $0"
    )
    busybox_bundle.sh("cat <&3; echo; ls /proc/self/fd")
    try:
        done = subprocess.run(
            ["sh", "-c", script, ctk.id()],
            cwd=busybox_bundle.path,
            env=ctk.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
    finally:
        for fd in fds:
            os.close(fd)
    # 4 is the folder that ls itself has open.
    assert (done.returncode, done.stdout) == (0, "third\n0\n1\n2\n3\n4\n"), done.stderr


def test_hooks_run_at_their_points_with_the_state(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    told = tmp_path / "told"

    def hook(kind: str) -> list[dict[str, Any]]:
        script = f'read -r all; echo "{kind} $0 $all" >>{told}'
        return [{"path": "/bin/sh", "args": ["argv0", "-c", script, "named"], "timeout": 10}]

    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")

    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {kind: hook(kind) for kind in kinds}
        # createContainer still sees the host's folders; startContainer is the container's own.
        config["hooks"]["startContainer"] = [
            {"path": "/bin/sh", "args": ["sh", "-c", "read -r all; echo startContainer $all >/tmp/told"]}
        ]
        config["root"]["readonly"] = False

    busybox_bundle.edit(change).sh("cat /tmp/told")
    container = ctk.id()
    # `start` prints nothing: the container's output goes where create's did.
    out = tmp_path / "out"
    with open(out, "w") as file:
        subprocess.run(
            ctk.argv("create", container),
            cwd=busybox_bundle.path,
            env=ctk.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            check=True,
        )
    ctk("start", container).ok()
    for _ in range(100):
        if ctk("state", container).ok().json()["status"] == "stopped":
            break
    ctk("delete", container).ok()
    lines = told.read_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ]
    assert all(f'"id":"{container}"' in line and " named " in line for line in lines)
    assert '"status":"creating"' in lines[1] and '"status":"running"' in lines[3] and '"status":"stopped"' in lines[4]
    assert out.read_text().startswith("startContainer {") and '"status":"created"' in out.read_text()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_failing_hook_stops_the_container(kind: str, ctk: Command, busybox_bundle: Bundle) -> None:
    def change(config: dict[str, Any]) -> None:
        config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 3"]}]}

    busybox_bundle.edit(change).sh("sleep 100")
    container = ctk.id()
    result = ctk("run", "--detach", container, cwd=str(busybox_bundle))
    assert result.rc == 1
    assert f"{kind} hook #0" in result.err and "why" in result.err and "exit status 3" in result.err
    assert ctk("state", container).rc == 1


def test_exec_cpu_affinity(ctk: Command, busybox_bundle: Bundle, tmp_path: Path) -> None:
    busybox_bundle.sh("sleep 1000")
    container = ctk.id()
    ctk("run", "--detach", container, cwd=str(busybox_bundle)).ok()
    process = tmp_path / "process.json"
    process.write_text(
        '{"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],'
        ' "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "1"}}'
    )
    try:
        assert ctk("exec", "--process", str(process), container).ok().out.split() == ["Cpus_allowed_list:", "1"]
    finally:
        ctk("delete", "--force", container)


def test_no_pivot_leaves_nothing_of_the_host_in_sight(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("cat /proc/self/mountinfo | cut -d' ' -f5 | head -2; ls /")
    out = run(ctk, busybox_bundle, "--no-pivot").splitlines()
    assert out[0] == "/" and "vda" not in out and "rootfs" not in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nosuch"], "executable file not found in $PATH"),
        (["/nosuch"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
        (["/tmp"], "is a directory"),
    ],
)
def test_a_program_that_cannot_be_started(args: list[str], words: str, ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.args(*args)
    for verb in ("run", "create"):
        container = ctk.id()
        result = ctk(verb, container, cwd=str(busybox_bundle))
        assert result.rc == 1 and words in result.err
        assert ctk("state", container).rc == 1
