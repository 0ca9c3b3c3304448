"""Flags that no other story shows, one by one; those that the distribution's runc has are first tried on it."""

import array
import glob
import json
import os
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.waiting import text_of, until

pytestmark = pytest.mark.root


@pytest.fixture(params=["runc", "ctk"])
def runtime(request, ctk):
    return ctk if request.param == "ctk" else ctk.like("runc")


@pytest.fixture
def listening(tmp_path):
    """A Unix socket as engines hold one: (its path, a function that takes the next descriptor sent to it)."""
    path = str(tmp_path / "socket")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(4)
    server.settimeout(20)

    def take():
        with server.accept()[0] as end:
            end.settimeout(20)
            _, ancillary, _, _ = end.recvmsg(4096, socket.CMSG_SPACE(4))
        numbers = array.array("i")
        numbers.frombytes(ancillary[0][2])
        return numbers[0]

    yield path, take
    server.close()


def no_namespace(kind):
    def change(config):
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != kind]

    return change


def terminal(config):
    config["process"]["terminal"] = True


def all_from(fd, seconds=10):
    """What a terminal's master gives until its other side is closed."""
    told, end = b"", time.monotonic() + seconds
    while select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
        try:
            part = os.read(fd, 4096)
        except OSError:
            break
        if not part:
            break
        told += part
    os.close(fd)
    return told.decode()


def status(runtime, name):
    return runtime("state", name).json()["status"]


def caught_by(pid):
    return int(re.search(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text()).group(1), 16)


@pytest.fixture
def alive(runtime, busybox_bundle):
    """A container that sleeps."""
    name = runtime.id()
    runtime("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    yield name
    runtime("delete", "--force", name).ok()


# create, run


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_console_socket_gets_the_terminal(runtime, busybox_bundle, listening, verb):
    path, take = listening
    name = runtime.id()
    busybox_bundle.sh("tty; stty size; ls -l /dev/console >/dev/null").edit(terminal)
    busybox_bundle.edit(lambda config: config["process"].update(consoleSize={"height": 17, "width": 71}))
    options = ("--console-socket", path, "--bundle", str(busybox_bundle))
    runtime(verb, *(("-d",) if verb == "run" else ()), *options, name).ok()
    master = take()
    if verb == "create":
        runtime("start", name).ok()
    assert all_from(master).split() == ["/dev/pts/0", "17", "71"]
    runtime("delete", "--force", name).ok()


def test_without_a_console_socket_nobody_would_hold_the_terminal(runtime, busybox_bundle, listening):
    busybox_bundle.sh("true")
    path, _ = listening
    refused = runtime("run", "-d", "--console-socket", path, "--bundle", str(busybox_bundle), runtime.id())
    assert refused.rc == 1 and "cannot use console socket if runc will not detach or allocate tty" in refused.err
    busybox_bundle.edit(terminal)
    refused = runtime("create", "--bundle", str(busybox_bundle), runtime.id())
    assert refused.rc == 1 and "cannot allocate tty if runc will detach without setting console socket" in refused.err


def test_a_terminal_where_nothing_is_mounted(ctk, busybox_bundle, listening):
    """Without a mount namespace there is no devpts of the container's; runc mounts one on the host."""
    path, take = listening
    name = ctk.id()
    busybox_bundle.sh("test -t 0 && echo yes").edit(terminal).edit(no_namespace("mount")).edit(no_namespace("cgroup"))
    busybox_bundle.edit(lambda config: config["linux"].update(maskedPaths=[], readonlyPaths=[]))
    ctk("run", "-d", "--console-socket", path, "--bundle", str(busybox_bundle), name).ok()
    assert all_from(take()).split() == ["yes"]
    ctk("delete", "--force", name).ok()


@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, True), (signal.SIGHUP, True), (signal.SIGWINCH, False)])
def test_a_pidfd_ends_what_waits_for_start(ctk, busybox_bundle, listening, number, ends):
    """--pidfd-socket: an engine signals a created container without asking us (runc's, in Go, dies of it)."""
    path, take = listening
    name = ctk.id()
    ctk("create", "--pidfd-socket", path, "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    pidfd = take()
    pid = ctk("state", name).json()["pid"]
    # It sets them just after `create` has returned.
    until(lambda: caught_by(pid) >> 14 & 1, "its handlers")
    signal.pidfd_send_signal(pidfd, number)
    if ends:
        until(lambda: status(ctk, name) == "stopped", "its end")
    else:
        ctk("start", name).ok()
        # `start` returns when our program has heard of it, a moment before that executes the user's.
        until(lambda: os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "busybox", "the program")
        assert status(ctk, name) == "running"
        assert caught_by(pid) == 0, "the program starts without handlers of ours"
    os.close(pidfd)
    ctk("delete", "--force", name).ok()


def test_exec_hands_out_a_pidfd(ctk, busybox_bundle, listening):
    path, take = listening
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    ctk("exec", "-d", "--pidfd-socket", path, name, "sleep", "1000").ok()
    pidfd = take()
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0] == [pidfd], "it becomes readable at the end"
    os.close(pidfd)
    ctk("delete", "--force", name).ok()


def test_pid_files(runtime, alive, busybox_bundle, tmp_path):
    file = tmp_path / "pid"
    runtime("exec", "-d", "--pid-file", str(file), alive, "sleep", "55").ok()
    until(
        lambda: text_of(f"/proc/{file.read_text()}/cmdline") == "sleep\x0055\0", "the program"
    )  # runc is not there yet
    for verb in (("create",), ("run", "-d")):
        name = runtime.id()
        runtime(*verb, "--pid-file", str(file), "--bundle", str(busybox_bundle), name).ok()
        assert file.read_text() == str(runtime("state", name).json()["pid"])
        runtime("delete", "--force", name).ok()
    missing = runtime("run", "-d", "--pid-file", str(tmp_path / "no/pid"), "--bundle", str(busybox_bundle), "x")
    assert missing.rc == 1 and "no such file or directory" in missing.err


@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_session_keyring_of_its_own_unless_not_wanted(runtime, busybox_bundle, tmp_path, verb):
    busybox_bundle.sh("cat /proc/keys").edit(lambda config: config["linux"].update(maskedPaths=[]))
    keyrings = []
    for flags in ((), ("--no-new-keyring",)):
        name = runtime.id()
        with open(tmp_path / "out", "w") as out:
            argv = runtime.argv(verb, *flags, "--bundle", str(busybox_bundle), name)
            subprocess.run(argv, env=runtime.environment, stdin=subprocess.DEVNULL, stdout=out, check=True)
            if verb == "create":
                runtime("start", name).ok()
                until(lambda name=name: status(runtime, name) == "stopped", "its end")
                runtime("delete", name).ok()
        keyrings.append(f"_ses.{name}" in (tmp_path / "out").read_text())
    assert keyrings == [True, False]


def test_keep_leaves_the_record(runtime, busybox_bundle):
    name = runtime.id()
    assert runtime("run", "--keep", "--bundle", str(busybox_bundle.sh("exit 3")), name).rc == 3
    assert status(runtime, name) == "stopped"
    runtime("delete", name).ok()
    assert runtime("run", "--bundle", str(busybox_bundle), name).rc == 3
    assert runtime("state", name).rc == 1


def test_orphans_come_to_the_runtime_unless_not_wanted(runtime, busybox_bundle):
    script = '(sh -c "sleep 0.3; cut -d\\" \\" -f4 /proc/\\$\\$/stat" &); sleep 1'
    busybox_bundle.sh(script).edit(no_namespace("pid"))
    adopted = []
    for flags in ((), ("--no-subreaper",)):
        argv = ("run", *flags, "--bundle", str(busybox_bundle), runtime.id())
        process = runtime.popen(*argv, stdout=subprocess.PIPE)
        out, _ = process.communicate(timeout=20)
        adopted.append(int(out) == process.pid)
    assert adopted == [True, False]


def test_another_config_file(ctk, busybox_bundle):
    busybox_bundle.sh("echo other")
    os.rename(busybox_bundle.path / "config.json", busybox_bundle.path / "other.json")
    told = ctk("run", "--config", "other.json", "--bundle", str(busybox_bundle), ctk.id()).ok()
    assert told.out == "other\n"


# exec


def test_what_exec_changes(runtime, alive):
    def said(*words):
        return runtime("exec", *words).ok().out

    assert said("--cwd", "/tmp", alive, "pwd") == "/tmp\n"
    assert said("--env", "A=1", "--env", "B=2", alive, "sh", "-c", "echo $A$B") == "12\n"
    assert said("--user", "1000:1001", alive, "sh", "-c", "id -u; id -g") == "1000\n1001\n"
    assert said("-u", "7", alive, "id", "-u") == "7\n"
    assert said("-g", "5", "-g", "6", alive, "id", "-G").split()[-2:] == ["5", "6"]
    caps = "grep CapEff /proc/self/status"
    assert int(said("--cap", "CAP_SYS_TIME", alive, "sh", "-c", caps).split()[1], 16) >> 25 & 1
    assert said("--no-new-privs", alive, "grep", "NoNewPrivs", "/proc/self/status").split()[1] == "1"


def test_exec_with_a_terminal(runtime, alive, listening):
    path, take = listening
    runtime("exec", "--detach", "--tty", "--console-socket", path, alive, "sh", "-c", "test -t 0 && tty").ok()
    assert all_from(take()).split() == ["/dev/pts/0"]


def test_exec_with_a_process_document(runtime, alive, tmp_path):
    file = tmp_path / "process.json"
    document = {"args": ["sh", "-c", "pwd; echo $A; exit 4"], "cwd": "/tmp", "env": ["A=x", "PATH=/bin"], "user": {}}
    file.write_text(json.dumps(document))
    told = runtime("exec", "--process", str(file), alive)
    assert (told.rc, told.out) == (4, "/tmp\nx\n")
    file.write_text("{")
    broken = runtime("exec", "-p", str(file), alive)
    assert broken.rc == 255
    if not runtime.leading:
        assert str(file) in broken.err, "the document is named"


def test_exec_into_a_paused_container(runtime, alive):
    runtime("pause", alive).ok()
    refused = runtime("exec", alive, "true")
    assert refused.rc == 255 and "cannot exec in a paused container" in refused.err
    process = runtime.popen("exec", "--ignore-paused", alive, "true")
    time.sleep(0.5)
    assert process.poll() is None, "it waits for the thaw"
    runtime("resume", alive).ok()
    assert process.wait(10) == 0


def test_a_label_that_the_host_cannot_apply_is_refused(runtime, alive):
    if os.path.exists("/sys/fs/selinux/enforce") or os.path.exists("/sys/kernel/security/apparmor"):
        pytest.skip("this host has a security module; tests/vm applies a profile")
    for option in ("--process-label", "--apparmor"):
        assert runtime("exec", option, "nosuch", alive, "true").rc == 255


def test_a_capability_that_nobody_knows_is_refused(ctk, busybox_bundle):
    """crun refuses it since 1.29; runc warns and goes on."""
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    refused = ctk("exec", "--cap", "CAP_NOPE", name, "true")
    assert refused.rc == 255 and "CAP_NOPE" in refused.err
    ctk("delete", "--force", name).ok()


def test_variables_are_name_and_value(runtime, alive, busybox_bundle):
    refused = runtime("exec", "--env", "NOVALUE", alive, "env")
    assert refused.rc == 255 and "environment variable" in refused.err
    busybox_bundle.edit(lambda config: config["process"].update(env=["PATH=/bin", "NOVALUE"]))
    assert runtime("run", "--bundle", str(busybox_bundle.args("/bin/env")), runtime.id()).rc == 1


def test_of_a_variable_given_twice_the_last_counts(ctk, busybox_bundle):
    busybox_bundle.args("/bin/env").edit(lambda config: config["process"].update(env=["A=1", "HOME=/", "A=2"]))
    assert ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok().out == "HOME=/\nA=2\n"


# update


def value(name, file):
    paths = glob.glob(f"/sys/fs/cgroup/*/**/{name}/{file}", recursive=True)
    assert paths, f"no {file}"
    return Path(paths[0]).read_text().strip()


@pytest.mark.parametrize(
    ("options", "files"),
    [
        (
            ("--cpu-period", "50000", "--cpu-quota", "20000"),
            {"cpu.cfs_period_us": "50000", "cpu.cfs_quota_us": "20000"},
        ),
        (("--cpu-quota", "20000", "--cpu-burst", "5000"), {"cpu.cfs_burst_us": "5000"}),
        (("--cpuset-cpus", "0", "--cpuset-mems", "0"), {"cpuset.cpus": "0", "cpuset.mems": "0"}),
        (("--cpu-idle", "1"), {"cpu.idle": "1"}),
        (("--memory-reservation", "32M"), {"memory.soft_limit_in_bytes": str(32 << 20)}),
        (
            ("--memory", "64m", "--memory-swap", "128M"),
            {"memory.limit_in_bytes": str(64 << 20), "memory.memsw.limit_in_bytes": str(128 << 20)},
        ),
        (("--kernel-memory", "1m", "--kernel-memory-tcp", "1m", "--pids-limit", "9"), {"pids.max": "9"}),
    ],
    ids=lambda given: given[0].strip("-") if isinstance(given, tuple) else "",
)
def test_an_option_of_update_reaches_the_kernel(runtime, alive, options, files):
    if not glob.glob("/sys/fs/cgroup/cpu/cpu.shares"):
        pytest.skip("cgroup v1 has these files; tests/vm sees those of v2")
    told = runtime("update", *options, alive)
    if runtime.leading and "flag provided but not defined" in told.err:
        pytest.skip("this runc is older than the option")
    told.ok()
    assert {name: value(alive, name) for name in files} == files


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cpu-rt-period", "100000", "--cpu-rt-runtime", "99999999"), "cpu.rt_runtime_us"),
        (("--l3-cache-schema", "L3:0=f"), "RDT"),
        (("--mem-bw-schema", "MB:0=70"), "RDT"),
    ],
)
def test_what_this_host_cannot_do_update_refuses(runtime, alive, options, words):
    told = runtime("update", *options, alive)
    assert told.rc == 1 and words in told.err


def test_a_weight_of_disk_time_out_of_range_is_refused(ctk, busybox_bundle):
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    refused = ctk("update", "--blkio-weight", "5", name)
    assert refused.rc == 1 and "blockIO.weight" in refused.err
    ctk("update", "--blkio-weight", "500", name).ok()
    ctk("delete", "--force", name).ok()


# global


def test_debug_and_its_log_file(runtime, busybox_bundle, tmp_path):
    log = tmp_path / "log"
    name = runtime.id()
    runtime("--debug", "--log", str(log), "--log-format", "json", "run", "--bundle", str(busybox_bundle), name).ok()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"debug"} <= {line["level"] for line in lines} and all({"msg", "time"} <= set(line) for line in lines)


def test_cgroup_managers_by_name(ctk, busybox_bundle):
    busybox_bundle.sh("cat /proc/self/cgroup").edit(lambda config: config["linux"].pop("resources"))
    name = ctk.id()
    run = ("run", "--bundle", str(busybox_bundle), name)
    assert name in ctk("--cgroup-manager", "cgroupfs", *run).ok().out
    assert name not in ctk("--cgroup-manager=disabled", *run).ok().out
    assert "unknown cgroup manager" in ctk("--cgroup-manager", "none", *run).err


def test_systemd_is_asked_only_where_it_is(runtime, busybox_bundle):
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("this host has systemd; tests/vm goes through it")
    refused = runtime("--systemd-cgroup", "run", "--bundle", str(busybox_bundle), runtime.id())
    assert refused.rc == 1 and "systemd" in refused.err


def test_rootless_takes_what_go_takes_for_a_truth(ctk, busybox_bundle):
    run = ("run", "--bundle", str(busybox_bundle.sh("echo ran")), ctk.id())
    for word in ("auto", "true", "1", "F", "false"):
        assert ctk("--rootless", word, *run).ok().out == "ran\n"
    refused = ctk("--rootless", "maybe", *run)
    assert refused.rc == 1 and "'maybe'" in refused.err


def test_criu_is_the_one_that_was_named(ctk, busybox_bundle):
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    refused = ctk("--criu", "/nowhere/criu", "checkpoint", name)
    assert refused.rc == 1 and "/nowhere/criu" in refused.err
    assert status(ctk, name) == "running"
    ctk("delete", "--force", name).ok()


# The command under another name


@pytest.fixture
def as_runc(ctk, tmp_path):
    """ctk through a link of runc's name."""
    link = tmp_path / "bin/runc"
    link.parent.mkdir()
    link.symlink_to(ctk.program)
    return type(ctk)(str(link), ctk.root, ctk.environment, ("--root", ctk.root))


WRONG = [
    ("nosuch",),
    ("help", "nosuch"),
    ("--nosuch", "list"),
    ("--root",),
    ("list", "--nosuch"),
    ("list", "extra"),
    ("list", "--format", "yaml"),
    ("state",),
    ("state", "a", "b"),
    ("state", ""),
    ("state", "../x"),
    ("kill",),
    ("kill", "nobody", "FOO"),
    ("delete", "--force=maybe", "x"),
    ("delete", "nobody"),
    ("delete", "--force", "nobody"),
    ("delete", "--force=false", "nobody"),
    ("events", "--interval", "x", "nobody"),
    ("exec", "nobody", "true"),
    ("exec",),
    ("update", "--pids-limit", "x", "nobody"),
    ("create", "-b", "/nonexistent", "x"),
    ("run", "-b", "/nonexistent", "a/b"),
    ("features", "extra"),
    ("--log-format", "xml", "list"),
    ("help",),
    ("help", "list"),
    ("list", "-h"),
    ("-h",),
    ("--version",),
    ("-v",),
    ("",),
    (),
]


@pytest.mark.parametrize("argv", WRONG, ids=lambda argv: " ".join(argv) or "nothing")
def test_exit_codes_and_first_words_are_runcs(ctk, as_runc, argv):
    theirs, ours = ctk.like("runc")(*argv), as_runc(*argv)
    assert ours.rc == theirs.rc

    def first(result):
        line = result.out.partition("\n")[0]
        return re.sub(r"(NAME:|version).*", r"\1", line)

    assert first(ours) == first(theirs)
    assert bool(ours.err) == bool(theirs.err)
    levels = [re.findall("level=(\\w+)", result.err) for result in (ours, theirs)]
    assert levels[0] == levels[1]


def test_the_name_is_the_callers(as_runc, busybox_bundle):
    assert as_runc("--version").ok().out.startswith("runc version ")
    assert as_runc("list", "--help").ok().out.startswith("NAME:\n   runc list - ")
    failed = as_runc("run", "--bundle", str(busybox_bundle.args("/nosuch")), as_runc.id())
    assert failed.rc == 1 and "runc run failed: " in failed.err
