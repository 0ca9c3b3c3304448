"""`ctk explain` of a launch: told, carried out while it is told, and as a script that starts the same container."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, python_words, tool
from tests.fixtures.terminal import Terminal

# What can be seen from inside; the two containers have different ids, and a shell starts with another last argument.
LOOK = """
cut -d' ' -f4- /proc/self/mountinfo
grep -E '^(Cap|NoNewPrivs|Groups|Uid|Gid|Umask)' /proc/self/status
hostname; pwd; id -u; umask
cat /proc/self/cgroup
env | sort
ulimit -n; ulimit -s
ip addr show lo | head -1
ls -l /dev /dev/fd/ 2>/dev/null | grep -v '[0-9] ->' | sed 's/[A-Z][a-z][a-z] *[0-9]* *[0-9:]*//'
ls -A /proc/acpi /sys/firmware 2>/dev/null; wc -c < /proc/keys
cat /proc/1/oom_score_adj
touch /etc/x 2>/dev/null || echo read-only
for f in memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpuset/cpuset.cpus \\
    memory.max pids.max cpu.max devices/devices.list; do
  cat /sys/fs/cgroup/$f 2>/dev/null || :
done
"""


@pytest.fixture
def open_folder() -> Iterator[str]:
    """A folder that everybody may enter."""
    folder = tempfile.mkdtemp(prefix="ctk-script-", dir="/tmp")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def only_util_linux(open_folder: str) -> dict[str, str]:
    """An environment whose PATH has the programs of util-linux and coreutils, a shell, and nothing else."""
    folder = Path(open_folder) / "path"
    folder.mkdir()
    listed = subprocess.run(
        ["dpkg", "-L", "util-linux", "mount", "bsdutils", "coreutils", "dash"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.split():
        if "bin/" in line and os.path.isfile(line):
            (folder / os.path.basename(line)).symlink_to(line)
    (folder / "sh").unlink(missing_ok=True)
    (folder / "sh").symlink_to(tool("dash"))
    assert not (folder / "capsh").exists() and not (folder / "ip").exists() and not (folder / "python3").exists()
    return {"PATH": str(folder)}


def plain(config: dict[str, Any]) -> None:
    del config


def demanding(config: dict[str, Any]) -> None:
    config["hostname"] = "it-is-me"
    process, linux = config["process"], config["linux"]
    process["user"] = {"uid": 1000, "gid": 50, "additionalGids": [5, 27], "umask": 0o27}
    process["cwd"] = "/srv/deep"
    process["env"] += ["WORDS=a b 'c' $HOME", "EMPTY="]
    process["rlimits"] += [{"type": "RLIMIT_STACK", "soft": 1 << 22, "hard": 1 << 23}]
    process["capabilities"]["inheritable"] = ["CAP_NET_BIND_SERVICE"]
    process["oomScoreAdj"] = 77
    linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "80"}
    linux["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 40}, "cpu": {"quota": 50000, "cpus": "0"}}
    linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o600, "uid": 1000}]
    config["mounts"] += [
        {"destination": "/mnt/shared", "source": "shared", "options": ["rbind", "ro", "nosuid"]},
        {"destination": "/mnt/one", "source": "one", "type": "bind", "options": ["bind", "noexec"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"]},
        {"destination": "/run/locked", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=711"]},
    ]


def writable_root_and_own_cgroups(config: dict[str, Any]) -> None:
    config["root"]["readonly"] = False
    config["linux"]["namespaces"].append({"type": "cgroup"})
    config["linux"]["rootfsPropagation"] = "rprivate"
    config["process"]["noNewPrivileges"] = False


def of_its_own_user_namespace(config: dict[str, Any]) -> None:
    demanding(config)
    lines = [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 200000, "size": 5}]
    config["linux"]["namespaces"] += [{"type": "user"}, {"type": "cgroup"}]
    config["linux"] |= {"uidMappings": lines, "gidMappings": lines}


@pytest.mark.root
@pytest.mark.parametrize("change", [plain, demanding, writable_root_and_own_cgroups, of_its_own_user_namespace])
def test_the_script_starts_an_equivalent_container(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str], change: Any, request: pytest.FixtureRequest
) -> None:
    (busybox_bundle.path / "shared").mkdir()
    (busybox_bundle.path / "one").write_text("one")
    name = ctk.id()
    busybox_bundle.edit(change).sh(LOOK)
    if change is of_its_own_user_namespace:
        # ctk's mapped root has to reach it, and pytest closes its own folders.
        elsewhere = Path(request.getfixturevalue("open_folder"), "bundle")
        shutil.copytree(busybox_bundle.path, elsewhere, symlinks=True)
        busybox_bundle = Bundle(elsewhere)
        subprocess.run(["chown", "-R", "100000:100000", busybox_bundle.rootfs], check=True)
    # Both with a root in which every mount point is there: what one launch made, the next would find.
    ctk("run", "--bundle", str(busybox_bundle), name).ok()
    told = ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out
    script = busybox_bundle.path / "start.sh"
    script.write_text(told)
    by_script = subprocess.run(
        [tool("dash"), str(script)],
        capture_output=True,
        text=True,
        env=only_util_linux,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert by_script.returncode == 0, by_script.stderr
    by_ctk = ctk("run", "--bundle", str(busybox_bundle), name).ok()
    if change is of_its_own_user_namespace:
        # ctk opens all sources before the first mount; and its mqueue was made before the ids were mapped.
        mapped = by_ctk.out.replace("nobody   nogroup         40  mqueue", "root     root            40  mqueue")
        assert sorted(by_script.stdout.splitlines()) == sorted(mapped.splitlines())
    else:
        assert by_script.stdout.splitlines() == by_ctk.out.splitlines()
    assert by_script.stderr == ""
    assert len(by_ctk.out.splitlines()) > 60
    own_cgroups = change in (writable_root_and_own_cgroups, of_its_own_user_namespace)
    assert (name in by_ctk.out) != own_cgroups


@pytest.mark.root
def test_the_script_runs_the_hooks_that_run_runs(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str]
) -> None:
    seen = busybox_bundle.path / "seen"
    busybox_bundle.edit(lambda c: c.update(annotations={"a b": 'it\'s "$HOME"'}))
    note = f'read -r state; echo "$1 $A $PWD $state" | sed "s/.pid.:[0-9]*/PID/" >> {seen}'

    def change(config: dict[str, Any]) -> None:
        outside = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        config["hooks"] = {
            kind: [{"path": "/bin/sh", "args": ["/bin/sh", "-c", note, "sh", kind], "env": ["A=a 'b'", "PATH=/bin"]}]
            for kind in outside
        }
        inside = 'read -r state; echo "startContainer $A $state" > /tmp/seen'
        config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["/bin/sh", "-c", inside], "env": ["A=1 2"]}]
        config["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})

    name = ctk.id()
    busybox_bundle.edit(change).sh("sed 's/.pid.:[0-9]*/PID/' /tmp/seen; env | sort; exit 3")
    assert ctk("run", "--bundle", str(busybox_bundle), name).rc == 3
    by_ctk = ctk("run", "--bundle", str(busybox_bundle), name)
    noted = seen.read_text().splitlines()
    seen.unlink()
    script = busybox_bundle.path / "start.sh"
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    done = subprocess.run(["dash", script], env=only_util_linux, capture_output=True, text=True, timeout=60)
    assert (
        (done.returncode, done.stderr) == (3, "") and done.stdout == by_ctk.out and "startContainer 1 2" in done.stdout
    )
    assert seen.read_text().splitlines() == noted[len(noted) // 2 :] and len(noted) == 10
    # One that fails ends it before the program.
    busybox_bundle.edit(lambda c: c["hooks"].update(createRuntime=[{"path": "/bin/false"}])).sh("echo ran")
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    done = subprocess.run(["dash", script], env=only_util_linux, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "ran" not in done.stdout


@pytest.mark.root
def test_the_script_gives_a_terminal(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str], terminal: Callable[..., Terminal]
) -> None:
    busybox_bundle.edit(lambda c: c["process"].update(terminal=True))
    look = ["/bin/sh", "-c", "test -t 0 && stty size; echo x > /dev/console; exit 5"]
    busybox_bundle.edit(lambda c: c["process"].update(args=look))
    name = ctk.id()
    script = busybox_bundle.path / "start.sh"
    by_ctk = terminal(ctk.argv("run", "--bundle", str(busybox_bundle), name), env=ctk.environment)
    assert by_ctk.wait() == 5
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    by_script = terminal(["/bin/dash", str(script)], env=only_util_linux)
    assert by_script.wait() == 5, by_script.shown
    assert by_script.shown == by_ctk.shown and "24 80" in by_ctk.shown and "x" in by_ctk.shown


@pytest.mark.root
def test_the_script_says_what_a_filter_needs(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str]
) -> None:
    """setpriv(1) loads one since util-linux 2.40; a stand-in for such a one shows that it gets the file."""
    busybox_bundle.edit(lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW"})).sh("echo ran")
    script = busybox_bundle.path / "start.sh"
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", ctk.id()).ok().out)
    helps = subprocess.run(["setpriv", "--help"], capture_output=True, text=True).stdout
    done = subprocess.run(["dash", script], env=only_util_linux, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "ran\n"
    assert ("util-linux 2.40" in done.stderr) == ("--seccomp-filter" not in helps)
    setpriv = Path(only_util_linux["PATH"], "setpriv")
    real = os.readlink(setpriv)
    setpriv.unlink()
    setpriv.write_text(
        f"""#!/bin/dash
case $1 in --help) echo --seccomp-filter; exit ;; esac
for word; do shift; case $word in
  --seccomp-filter=*) wc -c < "${{word#*=}}" >&2 ;;
  *) set -- "$@" "$word" ;;
esac; done
exec {real} "$@"
"""
    )
    setpriv.chmod(0o755)
    done = subprocess.run(["dash", script], env=only_util_linux, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "ran\n"
    assert int(done.stderr) > 0 and int(done.stderr) % 8 == 0


@pytest.mark.root
def test_the_scripts_exit_code_is_the_programs_and_nothing_stays(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str]
) -> None:
    name = ctk.id()
    busybox_bundle.sh("exit 7")
    script = busybox_bundle.path / "start.sh"
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)

    def run() -> int:
        return subprocess.run(["dash", str(script)], env=only_util_linux, capture_output=True, timeout=60).returncode

    assert run() == 7
    busybox_bundle.args("/nonexistent")
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    assert run() == 127
    # A limit that cannot be set ends it all, before the program.
    busybox_bundle.edit(lambda c: c["linux"]["resources"].update(cpu={"cpus": "4000"})).sh("echo ran")
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    assert run() not in (0, 7, 127)
    left = subprocess.run(["find", "/sys/fs/cgroup", "-name", name], capture_output=True, text=True).stdout
    assert left == ""


@pytest.mark.root
def test_no_name_in_a_document_ends_a_comment_or_a_quote(
    ctk: Command, busybox_bundle: Bundle, only_util_linux: dict[str, str]
) -> None:
    marker = busybox_bundle.path / "escaped"
    evil = "x\nINSIDE\n)\ntouch escaped\n'\"$(touch escaped)`touch escaped`"

    def change(config: dict[str, Any]) -> None:
        config["process"]["env"].append("EVIL=" + evil)
        config["mounts"].append({"destination": "/tmp/" + evil, "type": "tmpfs", "source": evil})
        config["linux"]["maskedPaths"].append("/etc/passwd\n" + evil)

    name = ctk.id()
    busybox_bundle.edit(change).args("/bin/sh", "-c", f': "{evil[:9]}"; printf "%s" "$EVIL"; grep INSIDE /proc/mounts')
    ctk("run", "--bundle", str(busybox_bundle), name).ok()  # makes the mount points
    expected = ctk("run", "--bundle", str(busybox_bundle), name).ok().out
    assert expected.startswith(evil) and "INSIDE" in expected[len(evil) :]
    script = busybox_bundle.path / "start.sh"
    script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
    done = subprocess.run(
        ["dash", str(script)],
        cwd=busybox_bundle.path,
        env=only_util_linux,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == expected
    assert not marker.exists()


def test_control_characters_of_a_document_are_shown_not_obeyed(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.edit(lambda c: c.update({"hostname": "a\x1b[31mb", "x\x1b]0;t": 1}))
    for words in (["check"], ["explain"], ["explain", "hostname"], ["explain", "--run", "--id", ctk.id()]):
        done = ctk(*words, cwd=busybox_bundle.path)
        assert "\x1b" not in done.out, words
        assert "x1b" in done.out or "u001b" in done.out, words


def test_run_explain_tells_and_does_nothing(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.args("touch", "/it-ran")
    told = ctk("run", "--explain", "--bundle", str(busybox_bundle), "nobody").ok().out
    assert told == ctk("explain", str(busybox_bundle), "--id", "nobody").ok().out
    assert 'execve("touch", ["touch", "/it-ran"]' in told
    assert "← mounts[0]\n" in told
    assert '    $ mount -t proc proc "$root/proc"\n' in told
    assert "\x1b" not in told
    assert not (busybox_bundle.rootfs / "it-ran").exists()
    assert ctk("list", "-q").ok().out == ""


@pytest.mark.root
def test_a_container_that_runs_can_be_explained(ctk: Command, busybox_bundle: Bundle) -> None:
    name = ctk.id()
    words = ["run", "--explain", "--bundle", str(busybox_bundle), name]
    before = ctk(*words).ok().out
    ctk("run", "--detach", "--bundle", str(busybox_bundle.args("sleep", "1000")), name).ok()
    try:
        told = ctk(*words).ok().out
        assert told.replace('"sleep", ["sleep", "1000"]', "").splitlines()[:30] == before.splitlines()[:30]
        assert f"/{name}/cgroup.procs" in told
        # The script does not take its cgroups away from it.
        script = busybox_bundle.path / "start.sh"
        script.write_text(ctk("explain", str(busybox_bundle), "--script", "--id", name).ok().out)
        done = subprocess.run(["dash", str(script)], capture_output=True, text=True, timeout=60)
        assert done.returncode != 0 and "File exists" in done.stderr
        assert ctk("state", name).json()["status"] == "running"
    finally:
        ctk("delete", "--force", name)


def test_run_explain_knows_the_options_of_run(ctk: Command, busybox_bundle: Bundle) -> None:
    words = ["run", "--explain", "--bundle", str(busybox_bundle), "--no-pivot", "--init"]
    told = ctk(*words, "--overlay", str(busybox_bundle.path / "kept"), "nobody").ok().out
    assert "MS_MOVE" in told and "pivot_root" not in told
    assert "stay as a small init" in told
    assert "put a writable layer over the root, kept in " in told
    assert not (busybox_bundle.path / "kept").exists()
    assert "kept in memory" in ctk(*words, "--ephemeral", "nobody").ok().out


def test_an_explained_run_of_a_broken_bundle_says_what_is_wrong(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.edit(lambda c: c["process"].update(cwd="x"))
    done = ctk("run", "--explain", "--bundle", str(busybox_bundle), "nobody")
    assert (done.rc, done.out) == (1, "")
    assert "process.cwd" in done.err


def test_the_plan_as_json(ctk: Command, busybox_bundle: Bundle) -> None:
    told = ctk("explain", "--json", cwd=busybox_bundle.path).json()
    assert told["root"] == str(busybox_bundle.rootfs)
    acts = {act["field"]: act for act in told["acts"]}
    assert acts["hostname"]["calls"] == 'sethostname("runc", 4)'
    assert acts["hostname"]["shell"] == ["echo runc > /proc/sys/kernel/hostname"]
    assert {act["side"] for act in told["acts"]} == {"outside", "inside", "program"}


@pytest.mark.root
def test_explain_run_shows_each_step_as_it_is_done(ctk: Command, busybox_bundle: Bundle) -> None:
    busybox_bundle.sh("echo from inside; exit 3")
    done = ctk("explain", str(busybox_bundle), "--run", "--id", ctk.id())
    assert done.rc == 3
    assert done.out.endswith("from inside\n")
    steps = len(ctk("explain", str(busybox_bundle), "--json").json()["acts"])
    assert done.out.count("✓") == 16
    assert f"\n {steps} become the program" in done.out
    assert done.out.index("mount a new proc") < done.out.index("✓") + 2000


@pytest.mark.root
def test_explain_run_ends_at_the_step_that_fails(ctk: Command, busybox_bundle: Bundle) -> None:
    nosuch = {"destination": "/x", "type": "nosuchfs", "source": "x"}
    busybox_bundle.edit(lambda c: c["mounts"].insert(1, nosuch))
    done = ctk("explain", str(busybox_bundle), "--run", "--id", ctk.id())
    assert done.rc == 1
    assert done.out.count("✓") == 2
    assert done.out.rstrip().splitlines()[-1].startswith("    $ mount -t nosuchfs")
    assert "nosuchfs" in done.err and "mounts[1]" in done.err


@pytest.mark.root
def test_a_plain_run_imports_nothing_for_it(ctk: Command, busybox_bundle: Bundle) -> None:
    done = subprocess.run(
        [*python_words("-X", "importtime"), "run", "--bundle", str(busybox_bundle), ctk.id()],
        env=ctk.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "import time:" in done.stderr
    for name in ("toolkit.explain", "telling", "shell_words", "difflib"):
        assert name not in done.stderr


@pytest.mark.parametrize("word", ["debian:bookworm", "localhost:5000/web", "web@sha256:00"])
def test_an_image_is_explained_by_another_command(word: str, ctk: Command) -> None:
    told = ctk("explain", word)
    assert told.rc == 1 and f"ctk image explain {word}" in told.err
