"""Descriptors and processes of the host that a container could reach (S15, S29, S40, S42, E2, E9, E11, S47)."""

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command, python_words
from tests.fixtures.often import tries
from tests.fixtures.waiting import until
from tests.security.conftest import Canary, pid_of, run, running

pytestmark = pytest.mark.root

LEAKED = range(3, 41)


class Leaking:
    """Descriptors 3 to 40 open on the host's root, on secrets and on the canary, inheritable."""

    def __init__(self, canary: Canary) -> None:
        self.targets = ["/", "/etc/shadow", "/proc", str(canary), str(canary.path / "marker")]

    def __enter__(self) -> dict[str, Any]:
        def leak() -> None:
            for number in LEAKED:
                fd = os.open(self.targets[number % len(self.targets)], os.O_RDONLY)
                if fd != number:
                    os.dup2(fd, number)
                    os.close(fd)
                os.set_inheritable(number, True)

        return {"preexec_fn": leak, "close_fds": False}

    def __exit__(self, *_: object) -> None:
        pass


def test_s29_e9_callers_descriptors_end_here(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    shell = ("sh", "-c", "ls -l /proc/self/fd; ls /proc/self/fd/7 /proc/self/fd/8")
    with Leaking(canary) as leaking, running(ctk, bundle.sh("sleep 1000")) as name:
        for result in (run(ctk, bundle.sh(shell[2]), **leaking), ctk("exec", name, *shell, **leaking)):
            numbers = {int(line.split(" -> ")[0].split()[-1]) for line in result.out.splitlines() if " -> " in line}
            assert numbers <= {0, 1, 2, 3}, result.out  # 3 is ls's own
            assert "shadow" not in result.out and str(canary) not in result.out


def test_s29_positive_control_the_leak_is_there_without_a_runtime(canary: Canary) -> None:
    with Leaking(canary) as leaking:
        said = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, **leaking).stdout
    assert "/etc/shadow" in said and str(canary) in said


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_s29_preserved_descriptors_are_exactly_those(verb: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    script = (
        "for f in /proc/self/fd/*; do readlink $f; done | grep -v -e pipe: -e '/fd$' | tail -n +1; ls /proc/self/fd"
    )
    with Leaking(canary) as leaking:
        if verb == "run":
            said = run(ctk, bundle.sh(script), "--preserve-fds", "2", **leaking).ok().out
        else:
            with running(ctk, bundle.sh("sleep 1000")) as name:
                said = ctk("exec", "--preserve-fds", "2", name, "sh", "-c", script, **leaking).ok().out
    numbers = {int(line) for line in said.splitlines() if line.isdigit()}
    assert numbers - {0, 1, 2} in ({3, 4}, {3, 4, 5})  # and the shell's or ls's own


@pytest.mark.parametrize(
    ("verb", "pid", "given"),
    [("run", "1", ""), ("run", "", ""), ("run", "$$", "yes"), ("run --detach --hold", "$$", "yes"), ("exec", "$$", "")],
)
def test_descriptors_of_a_socket_unit_are_ours_only_by_our_pid(
    verb: str, pid: str, given: str, bundle: Bundle, ctk: Command
) -> None:
    """sd_listen_fds(3): LISTEN_FDS that an ancestor left in its environment says nothing of our descriptors."""
    script = "readlink /proc/self/fd/3 | grep secret; echo fds=$LISTEN_FDS pid=$LISTEN_PID"
    (bundle.path / "secret").write_text("")
    what, name, words = "", ctk.id(), f"{verb} --bundle {bundle}"
    if verb == "exec":
        bundle.sh("sleep 1000")
        ctk("run", "--detach", "--bundle", str(bundle), name).ok()
        what, words = script, "exec"
    else:
        bundle.sh(script)
    given_pid = f"LISTEN_PID={pid}" if pid else ""
    line = (
        f'exec 3<{bundle}/secret; export LISTEN_FDS=1 {given_pid}; exec {ctk.program} {words} {name} ${{1:+sh -c "$1"}}'
    )
    try:
        done = subprocess.run(["sh", "-c", line, "sh", what], env=ctk.environment, capture_output=True, text=True)
        said = ctk("logs", "-f", name).out if "--hold" in verb else done.stdout
    finally:
        ctk("delete", "--force", name)
    expected = f"{bundle}/secret\nfds=1 pid=1\n" if given else None
    assert said == expected or (not given and "secret" not in said and "fds=" in said and "pid=1\n" not in said), done


@pytest.mark.parametrize("number", [*range(3, 20), 63])
def test_s29_working_directory_by_descriptor(number: int, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """CVE-2024-21626."""
    path = f"/proc/self/fd/{number}"
    bundle.edit(lambda config: config["process"].update(cwd=path))
    with Leaking(canary) as leaking:
        result = run(ctk, bundle.sh("ls; cat marker etc/shadow ../etc/shadow; echo started"), **leaking)
    assert result.rc != 0 and "started" not in result.out and "of the host" not in result.out


def test_s29_program_and_exec_directory_by_descriptor(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    with Leaking(canary) as leaking, running(ctk, bundle.sh("sleep 1000")) as name:
        for number in (*range(3, 20), 63):
            path = f"/proc/self/fd/{number}"
            result = run(ctk, bundle.args(f"{path}/bin/ls", "/"), **leaking)
            assert result.rc != 0 and result.out == "", path
            result = ctk("exec", "--cwd", path, name, "ls", "-a", **leaking)
            assert result.rc != 0 and result.out == "", path
            result = ctk("exec", name, f"{path}/bin/ls", **leaking)
            assert result.rc != 0 and result.out == "", path


def test_s29_link_of_the_image_to_a_descriptor(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """WORKDIR as a symlink that the image ships."""
    with Leaking(canary) as leaking:
        for number in range(3, 20):
            link = bundle.rootfs / f"w{number}"
            link.symlink_to(f"/proc/self/fd/{number}")
            bundle.edit(lambda config, number=number: config["process"].update(cwd=f"/w{number}"))
            assert run(ctk, bundle.sh("echo started"), **leaking).out == ""


def test_s29_created_container_holds_only_what_it_needs(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    with Leaking(canary) as leaking:
        name = ctk.id()
        ctk("create", "--bundle", str(bundle), name, **leaking).ok()
        try:
            folder = f"/proc/{pid_of(ctk, name)}/fd"
            targets = {int(fd): os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
            others = [target for fd, target in targets.items() if fd > 2]
            # The fifo that `start` opens; nothing else, and no directory.
            assert len(others) == 1 and stat.S_ISFIFO(os.stat(f"{folder}/{max(targets)}").st_mode), targets
        finally:
            ctk("delete", "--force", name)


def test_e2_s47_nothing_of_the_host_is_seen_while_exec_enters(bundle: Bundle, ctk: Command) -> None:
    """CVE-2016-9962: a container that looks at every process of its own, all the time."""
    script = """
        while :; do for p in /proc/[0-9]*; do
            for l in $p/exe $p/cwd $p/root $p/fd/* $p/map_files/*; do
                t=$(readlink $l 2>/dev/null) && echo "$l $t"
            done
        done; done | grep -v -e ' /$' -e ' /bin/busybox$' -e ' pipe:' -e ' /dev/null$' -e ' /seen$' >> /seen
    """
    every = ["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]
    every_set = {"bounding": every, "effective": every, "permitted": every}
    bundle.edit(lambda config: config["process"].update(capabilities=every_set)).sh(script)
    with running(ctk, bundle) as name:
        for _ in range(tries(20, 60)):
            ctk("exec", name, "true").ok()
    seen = (bundle.rootfs / "seen").read_text()
    # The last line may be half written: the container was killed.
    paths = {line.split(" ", 1)[1] for line in seen.splitlines()[:-1] if " " in line}
    # The output files of this test are the container's own standard streams.
    harmless = re.compile(r"/tmp/[^ ]* \(deleted\)|/memfd:ctk \(deleted\)|/proc.*")
    assert {path for path in paths if not harmless.fullmatch(path)} == set()


@pytest.mark.parametrize("hold", ["from the start", "by an earlier exec"])
def test_e1_interpreter_survives_a_container_with_ptrace(
    hold: str, bundle: Bundle, ctk: Command, tmp_path: Path
) -> None:
    """CVE-2019-5736 with CAP_SYS_PTRACE, which looks through undumpable: the interpreter must not be writable by it.

    The interpreter at stake is a copy, in a virtual environment of its own.
    """
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python3"
    before = python.read_bytes()
    attack = """
        while :; do for p in /proc/[0-9]*; do
            case $(readlink $p/exe) in */busybox|*memfd*|"") continue;; esac
            exec 9<$p/exe || continue; echo caught >> /log
            for i in 1 2 3 4 5 6 7 8; do
                (echo '#!/bin/sh' > /proc/self/fd/9) 2>/dev/null && echo written >> /log; sleep 0.1
            done
        done 2>/dev/null; done
    """
    able = ["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]
    sets = {"bounding": able, "effective": able, "permitted": able}
    if hold == "from the start":
        bundle.edit(lambda config: config["process"].update(capabilities=sets)).sh(attack)
    else:
        bundle.sh("sleep 1000")
    program, *words = python_words(python=str(python))
    other = Command(program, ctk.root, ctk.environment, tuple(words))
    with running(ctk, bundle) as name:
        if hold != "from the start":
            process = bundle.load()["process"] | {"capabilities": sets, "args": ["/bin/sh", "-c", attack]}
            (tmp_path / "process.json").write_text(json.dumps(process))
            ctk("exec", "-d", "--process", str(tmp_path / "process.json"), name).ok()
        for _ in range(tries(10, 30)):
            other("exec", name, "true").ok()
        time.sleep(1)
    log = bundle.rootfs / "log"
    assert python.read_bytes() == before, "the container wrote the host's interpreter"
    assert not log.exists(), "it saw a process of ours that was no sealed program"


def test_e1_executable_of_a_created_container_is_sealed(bundle: Bundle, ctk: Command) -> None:
    with running(ctk, bundle.sh("sleep 1000"), created=True) as name:
        exe = f"/proc/{pid_of(ctk, name)}/exe"
        assert os.readlink(exe).startswith("/memfd:")
        assert stat.S_IMODE(os.stat(exe).st_mode) & 0o222 == 0
        fd = os.open(exe, os.O_RDONLY)
        try:
            assert fcntl.fcntl(fd, 1034) & 0xF == 0xF  # F_GET_SEALS: seal, shrink, grow, write
        finally:
            os.close(fd)
        with pytest.raises(OSError):
            os.open(exe, os.O_WRONLY)


def test_e1_s45_a_shell_that_is_the_runtime_itself(bundle: Bundle, ctk: Command) -> None:
    """CVE-2019-5736: `#!/proc/self/exe` makes the kernel start what the runtime was, and the loader of the image."""
    interpreter = Path(os.path.realpath("/proc/self/exe"))
    before = (interpreter.stat().st_mtime_ns, interpreter.stat().st_size, interpreter.stat().st_ino)
    evil = bundle.rootfs / "bin/evil"
    evil.write_text("#!/proc/self/exe\n")
    evil.chmod(0o755)
    (bundle.rootfs / "lib64").mkdir()
    (bundle.rootfs / "lib64/ld-linux-x86-64.so.2").write_text("#!/bin/sh\necho ATTACKER > /attacked\n")
    (bundle.rootfs / "lib64/ld-linux-x86-64.so.2").chmod(0o755)
    # It may go on executing itself for ever, as a program that loops may: only what it reaches counts.
    process = ctk.popen("run", "--bundle", str(bundle.args("/bin/evil")), name := ctk.id(), stdout=-3, stderr=-3)
    time.sleep(0.7)
    ctk("delete", "--force", name)
    process.wait(10)
    with running(ctk, bundle.sh("sleep 1000")) as other:
        exec_ = ctk.popen("exec", other, "/bin/evil", stdout=-3, stderr=-3)
        time.sleep(0.7)
    exec_.wait(10)
    assert not (bundle.rootfs / "attacked").exists()
    assert before == (interpreter.stat().st_mtime_ns, interpreter.stat().st_size, interpreter.stat().st_ino)


def test_e1_whatever_the_container_opens_of_us_cannot_be_written(bundle: Bundle, ctk: Command) -> None:
    """A container that keeps trying to open every /proc/PID/exe for writing while fifty processes are put into it."""
    script = """
        while :; do for p in /proc/[0-9]*; do
            [ "$(readlink $p/exe)" = /bin/busybox ] || (exec 9>>$p/exe && echo OPENED $(readlink $p/exe) >> /opened)
        done; done 2>/dev/null
    """
    with running(ctk, bundle.sh(script)) as name:
        for _ in range(tries(20, 50)):
            ctk("exec", name, "true").ok()
    assert not (bundle.rootfs / "opened").exists()


def test_e11_no_core_of_ours(bundle: Bundle, ctk: Command) -> None:
    def shared(config: dict[str, Any]) -> None:
        # The first process of a pid namespace ignores the signal.
        config["linux"]["namespaces"] = [kind for kind in config["linux"]["namespaces"] if kind["type"] != "pid"]
        config["process"]["rlimits"] = []

    bundle.edit(shared)
    with running(ctk, bundle.sh("sleep 1000"), created=True) as name:
        pid = pid_of(ctk, name)
        os.kill(pid, signal.SIGSEGV)
        until(lambda: ctk("state", name).json()["status"] == "stopped", "its end")
    found = [path for top in (bundle.path, Path.cwd()) for path in top.rglob("core*") if path.is_file()]
    assert [path for path in found if path.stat().st_mtime > time.time() - 60] == []


def test_e11_the_specs_core_limit_holds_inside(bundle: Bundle, ctk: Command) -> None:
    limits = [{"type": "RLIMIT_CORE", "soft": 4096, "hard": 8192}]
    result = run(ctk, bundle.edit(lambda c: c["process"].update(rlimits=limits)).sh("grep core /proc/self/limits"))
    assert result.ok().out.split()[4:6] == ["4096", "8192"]


@pytest.mark.parametrize("umask", [0o000, 0o777, 0o022])
def test_s15_s40_e14_records_are_the_runtimes_alone(umask: int, bundle: Bundle, ctk: Command) -> None:
    """Under any umask of the caller the records cannot be entered by others; inside, the umask is the spec's."""

    def with_umask() -> None:
        os.umask(umask)

    bundle.edit(lambda config: config["process"]["user"].update(umask=0o027)).sh("umask; sleep 1000")
    name = ctk.id()
    ctk("create", "--bundle", str(bundle), name, preexec_fn=with_umask).ok()
    try:
        for folder, _, files in os.walk(ctk.root):
            assert os.stat(folder).st_uid == 0 and os.stat(folder).st_mode & 0o066 == 0, folder
            for file in files:
                status = os.lstat(os.path.join(folder, file))
                assert status.st_uid == 0 and status.st_mode & 0o022 == 0, file
        assert stat.S_IMODE(os.stat(ctk.root).st_mode) & 0o077 == 0
        denied = subprocess.run(["ls", ctk.root], user=65534, group=65534, extra_groups=[], capture_output=True)
        assert denied.returncode != 0
    finally:
        ctk("delete", "--force", name)
    assert run(ctk, bundle.sh("umask"), preexec_fn=with_umask).ok().out == "0027\n"
    plain = bundle.edit(lambda config: config["process"].update(user={"uid": 0, "gid": 0})).sh("umask")
    assert run(ctk, plain, preexec_fn=with_umask).ok().out == "0022\n"


def test_s42_no_abstract_sockets(bundle: Bundle, ctk: Command) -> None:
    def abstract() -> set[str]:
        return {line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if " @" in line}

    before = abstract()
    with running(ctk, bundle.sh("sleep 1000")) as name:
        ctk("exec", name, "true").ok()
        new = abstract() - before
    assert not [entry for entry in new if "ctk" in entry or "run" in entry]


def test_s3_exec_ends_with_its_process(bundle: Bundle, ctk: Command) -> None:
    """containerd CVE-2026-53495: a child in the background keeps the output open."""
    with running(ctk, bundle.sh("sleep 1000")) as name:
        for options in ((), ("--tty",)):
            before = time.monotonic()
            result = ctk("exec", *options, name, "sh", "-c", "sleep 300 & echo hi", timeout=20)
            assert result.ok().out.strip() == "hi"
            assert time.monotonic() - before < 3
        mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and name in _command(pid)]
        assert mine == []


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
