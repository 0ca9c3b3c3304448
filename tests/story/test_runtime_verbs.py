"""The verbs on living containers. Each story is first told with the distribution's runc, then with ctk: what it says
about stdout, exit codes and what the kernel shows holds for both."""

import contextlib
import glob
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.fixtures.waiting import text_of, until

pytestmark = pytest.mark.root

ALIVE = re.compile(r'"status": "(running|created|paused)"')
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


@pytest.fixture(params=["runc", "ctk"])
def runtime(request, ctk):
    return ctk if request.param == "ctk" else ctk.like("runc")


@pytest.fixture
def start(runtime, busybox_bundle):
    """Starts detached containers of one bundle; force-deletes them at the end."""
    made = []

    def begin(*argv, create=False):
        busybox_bundle.args(*(argv or ("/bin/sleep", "100")))
        name = runtime.id()
        made.append(name)
        runtime(*(["create"] if create else ["run", "-d"]), "--bundle", str(busybox_bundle), name).ok()
        return name

    yield begin
    for name in made:
        if os.path.basename(runtime.program) == "runc":
            # Its `delete --force` exits with 0 if a cgroup is still in use, and leaves it (1.1.5 only logs that).
            runtime("resume", name)
            runtime("kill", name, "KILL")
            until(lambda name=name: not ALIVE.search(runtime("state", name).out), "its end")
        runtime("delete", "--force", name).ok()


def status(runtime, name):
    return runtime("state", name).json()["status"]


def three_pids(runtime, name):
    def pids():
        return runtime("ps", "--format", "json", name).json()

    return until(lambda: found if len(found := pids()) == 3 else None, "three processes")


def process_state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return None


def cgroup_file(name, controller, file):
    paths = glob.glob(f"/sys/fs/cgroup/{controller}/**/{name}/{file}", recursive=True)
    paths += glob.glob(f"/sys/fs/cgroup/**/{name}/{file}", recursive=True)
    assert paths, f"no {file} of {name}"
    with open(paths[0]) as handle:
        return handle.read().strip()


def test_state_tells_what_the_kernel_shows(runtime, start, busybox_bundle):
    name = start()
    told = runtime("state", name).ok().out
    state = json.loads(told)
    assert list(state) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
    assert state["status"] == "running" and state["id"] == name and state["owner"] == ""
    assert state["bundle"] == str(busybox_bundle) and state["rootfs"] == str(busybox_bundle.rootfs)
    assert STAMP.fullmatch(state["created"])
    until(lambda: text_of(f"/proc/{state['pid']}/cmdline").split("\0")[:2] == ["/bin/sleep", "100"], "the program")
    assert told == json.dumps(state, indent=2), "two spaces, no newline at the end"


def test_a_created_container_waits(runtime, start):
    name = start(create=True)
    assert status(runtime, name) == "created"
    runtime("start", name).ok()
    assert status(runtime, name) == "running"
    again = runtime("start", name)
    assert again.rc == 1 and "cannot start an already running container" in again.err


def test_annotations_are_in_the_state(runtime, start, busybox_bundle):
    busybox_bundle.edit(lambda config: config.update(annotations={"org.example.key": "a <value>"}))
    name = start()
    assert runtime("state", name).json()["annotations"] == {"org.example.key": "a <value>"}


def test_list_as_table_json_and_ids(runtime, start):
    assert runtime("list", "-q").rc in (0, 1), "runc wants the folder that --root names to be there"
    names = sorted(start() for _ in range(2))
    assert runtime("list", "--quiet").ok().out.split() == names
    entries = runtime("list", "--format", "json").json()
    assert [entry["id"] for entry in entries] == names
    assert list(entries[0]) == ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]
    assert entries[0]["owner"] == "root"
    table = runtime("list").ok().out.splitlines()
    rows = [["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]]
    rows += [[e["id"], str(e["pid"]), "running", e["bundle"], e["created"], "root"] for e in entries]
    widths = [max(12, 3 + max(len(row[column]) for row in rows)) for column in range(5)] + [0]
    expected = ["".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows]
    assert table == expected, "to the character"
    assert runtime("list", "-f", "yaml").rc == 1


def test_an_empty_list(runtime, state_root):
    os.makedirs(runtime.root)
    assert runtime("list").ok().out == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    assert runtime("list", "-f", "json").ok().out == "null\n"
    assert runtime("list", "-q").ok().out == ""


@pytest.mark.parametrize("signal", ["KILL", "SIGKILL", "kill", "9"])
def test_kill_by_name_and_number(runtime, start, signal):
    name = start()
    pid = runtime("state", name).json()["pid"]
    runtime("kill", name, signal).ok()
    until(lambda: status(runtime, name) == "stopped", "its end")
    assert process_state(pid) in (None, "Z", "X")
    assert runtime("state", name).json()["pid"] == 0
    runtime("delete", name).ok()
    gone = runtime("state", name)
    assert gone.rc == 1 and "container does not exist" in gone.err


def test_the_default_signal_is_term(runtime, start):
    name = start("/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    time.sleep(0.3)
    runtime("kill", name).ok()
    until(lambda: status(runtime, name) == "stopped", "its end")


def test_a_created_container_ends_by_a_signal_that_ends_processes(runtime, start):
    name = start(create=True)
    runtime("kill", name, "WINCH").ok()
    assert status(runtime, name) == "created"
    runtime("kill", name, "TERM").ok()
    until(lambda: status(runtime, name) == "stopped", "its end")


def test_signal_zero_asks_whether_it_lives(runtime, start):
    name = start()
    assert runtime("kill", name, "0").rc == 0
    runtime("kill", name, "9").ok()
    until(lambda: status(runtime, name) == "stopped", "its end")
    dead = runtime("kill", name, "0")
    assert dead.rc == 1 and "container not running" in dead.err


def test_what_kill_does_not_take(runtime, start):
    name = start()
    assert "unknown signal" in runtime("kill", name, "NOSUCH").err
    assert runtime("kill", name, "NOSUCH").rc == 1
    unknown = runtime("kill", "nobody", "9")
    assert unknown.rc == 1 and "container does not exist" in unknown.err


def test_kill_all_reaches_every_process_of_a_shared_pid_namespace(runtime, start, busybox_bundle):
    def share(config):
        config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]

    busybox_bundle.edit(share)
    name = start("/bin/sh", "-c", "sleep 100 & sleep 100 & wait")
    pids = three_pids(runtime, name)
    runtime("kill", "--all", name, "KILL").ok()
    until(lambda: all(process_state(pid) in (None, "Z", "X") for pid in pids), "the end of all")
    assert runtime("kill", "--all", name, "9").rc == 0, "containerd asks again after the end"


def test_delete_wants_it_stopped_unless_forced(runtime, start):
    name = start()
    refused = runtime("delete", name)
    assert refused.rc == 1 and f"cannot delete container {name} that is not stopped: running" in refused.err
    pid = runtime("state", name).json()["pid"]
    runtime("delete", "--force", name).ok()
    assert process_state(pid) in (None, "Z", "X")
    assert runtime("list", "-q").ok().out == ""
    assert glob.glob(f"/sys/fs/cgroup/**/{name}", recursive=True) == []
    assert runtime("delete", "--force", name).rc == 0, "engines force-delete twice"
    unknown = runtime("delete", name)
    assert unknown.rc == 1 and "container does not exist" in unknown.err


def test_a_created_container_can_be_deleted(runtime, start):
    name = start(create=True)
    pid = runtime("state", name).json()["pid"]
    runtime("delete", name).ok()
    assert process_state(pid) in (None, "Z", "X")


def test_poststop_hooks_run_after_the_deletion(runtime, start, busybox_bundle, tmp_path):
    told = tmp_path / "state.json"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {told}"]}
    busybox_bundle.edit(lambda config: config.update(hooks={"poststop": [hook]}))
    name = start()
    runtime("delete", "--force", name).ok()
    state = json.loads(told.read_text())
    assert state["id"] == name and state["status"] == "stopped" and state["bundle"] == str(busybox_bundle)
    assert not state.get("pid")


def test_pause_freezes_and_resume_thaws(runtime, start):
    name = start("/bin/sh", "-c", "while :; do echo x >> /tmp/ticks; sleep 0.02; done")
    assert runtime("resume", name).rc == 1
    runtime("pause", name).ok()
    assert status(runtime, name) == "paused"
    assert runtime("pause", name).rc == 1
    for verb, words in (("start", "cannot start a container in the paused state"), ("delete", "paused")):
        refused = runtime(verb, name)
        assert refused.rc == 1 and words in refused.err
    refused = runtime("exec", name, "true")
    assert refused.rc == 255 and "cannot exec in a paused container" in refused.err
    runtime("resume", name).ok()
    assert status(runtime, name) == "running"
    again = runtime("resume", name)
    assert again.rc == 1 and "container not paused" in again.err


def test_a_paused_container_can_be_killed_and_deleted(runtime, start):
    name = start()
    runtime("pause", name).ok()
    pid = runtime("state", name).json()["pid"]
    runtime("delete", "--force", name).ok()
    assert process_state(pid) in (None, "Z", "X")


def test_ps_as_the_hosts_ps_shows_it(runtime, start):
    name = start("/bin/sh", "-c", "sleep 100 & sleep 100 & wait")
    pids = three_pids(runtime, name)
    assert runtime("state", name).json()["pid"] in pids
    table = runtime("ps", name).ok().out.splitlines()
    assert table[0].split()[:3] == ["UID", "PID", "PPID"]
    assert sorted(int(line.split()[1]) for line in table[1:]) == sorted(pids)
    chosen = runtime("ps", name, "-eo", "pid,args").ok().out.splitlines()
    assert chosen[0].split() == ["PID", "COMMAND"] and len(chosen) == 4
    assert runtime("ps", name, "-eo", "args").rc == 1, "without a PID column nothing can be chosen"
    runtime("kill", name, "9").ok()
    until(lambda: status(runtime, name) == "stopped", "its end")
    assert runtime("ps", "-f", "json", name).ok().out == "null\n"


def test_update_by_options_and_by_document(runtime, start):
    name = start()
    runtime("update", "--pids-limit", "42", "--cpu-share", "512", name).ok()
    assert cgroup_file(name, "pids", "pids.max") == "42"
    assert cgroup_file(name, "cpu", "cpu.shares") == "512"
    runtime("update", "--memory", "64M", name).ok()
    assert cgroup_file(name, "memory", "memory.limit_in_bytes") == str(64 << 20)
    document = '{"memory": {"limit": 134217728, "swap": 0}, "pids": {"limit": 43}}'
    runtime("update", "--resources", "-", name, input=document).ok()
    assert cgroup_file(name, "memory", "memory.limit_in_bytes") == str(128 << 20)
    assert cgroup_file(name, "pids", "pids.max") == "43"
    assert runtime("update", "--memory", "lots", name).rc == 1
    assert runtime("update", "-r", "-", name, input="{").rc == 1
    assert runtime("update", "-r", "-", name, input='{"memory": {"limit": "1"}}').rc == 1
    assert cgroup_file(name, "memory", "memory.limit_in_bytes") == str(128 << 20)


def test_events_once(runtime, start):
    name = start()
    event = runtime("events", "--stats", name).json()
    assert list(event) == ["type", "id", "data"] and event["type"] == "stats" and event["id"] == name
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["memory"]["usage"]["usage"] > 0
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["memory"]["raw"]["cache"] >= 0


def test_events_at_an_interval_until_the_end(runtime, start):
    name = start()
    watcher = runtime.popen("events", "--interval", "100ms", name, stdout=subprocess.PIPE)
    with contextlib.closing(watcher.stdout):
        lines = [json.loads(watcher.stdout.readline()) for _ in range(3)]
        assert {line["type"] for line in lines} == {"stats"}
        runtime("delete", "--force", name).ok()
        assert watcher.wait(10) == 0
    stopped = runtime("events", name)
    assert stopped.rc == 1


def test_events_tell_of_an_oom_kill(runtime, start, busybox_bundle):
    def limit(config):
        config["linux"]["resources"]["memory"] = {"limit": 20 << 20, "swap": 20 << 20}

    busybox_bundle.edit(limit)
    name = start("/bin/sh", "-c", "sleep 1; x=a; while :; do x=$x$x; done & wait; sleep 3")
    watcher = runtime.popen("events", "--interval", "60s", name, stdout=subprocess.PIPE)
    with contextlib.closing(watcher.stdout):
        assert json.loads(watcher.stdout.readline()) == {"type": "oom", "id": name}
        runtime("delete", "--force", name).ok()
        watcher.wait(10)


def test_errors_as_engines_read_them(runtime, tmp_path):
    log = tmp_path / "log.json"
    failed = runtime("--log", str(log), "--log-format", "json", "state", "nobody")
    assert failed.rc == 1 and "container does not exist" in failed.err
    line = json.loads(log.read_text().splitlines()[-1])
    assert list(line) == ["level", "msg", "time"]
    assert line["level"] == "error" and "container does not exist" in line["msg"]
    text = runtime("state", "nobody").err
    assert re.fullmatch(r'time="[^"]+" level=error msg=".*container does not exist.*"\n', text)
    assert runtime("exec", "nobody", "true").rc == 255
    assert runtime("--log-format", "xml", "state", "nobody").rc == 1
    assert runtime("state").rc == 1
    assert 'requires exactly 1 argument(s)"' in runtime("state").err.replace("\\", "")


def test_version_and_help_have_the_shape_that_engines_parse(runtime):
    lines = runtime("--version").ok().out.splitlines()
    assert re.fullmatch(r"\w+ version \S+", lines[0])
    assert [line for line in lines if re.fullmatch(r"spec: \d+\.\d+\.\d+\S*", line)]
    for verb in ("create", "checkpoint", "exec"):
        text = runtime(verb, "--help").ok().out
        assert text.startswith("NAME:\n") and "USAGE:\n" in text and "OPTIONS:\n" in text


def test_called_crun_the_version_names_what_there_is(ctk, tmp_path):
    (link := tmp_path / "crun").symlink_to(ctk.program)
    first, *_, last = type(ctk)(str(link), ctk.root, ctk.environment)("--version").ok().out.splitlines()
    assert first.startswith("crun version ")
    assert {"+SYSTEMD", "+CAP", "+SECCOMP", "+EBPF"} <= set(last.split())
    assert ("+CRIU" in last.split()) == bool(shutil.which("criu", path="/usr/local/sbin:/usr/sbin:/usr/bin"))
    assert "+CAP" not in ctk("--version").ok().out


@pytest.mark.parametrize(
    ("source", "place"), [("file", "/folder"), ("folder", "/file"), ("folder", "/file/x"), ("file/x", "/folder")]
)
def test_a_mount_of_another_kind_is_told_in_the_words_that_engines_know(ctk, busybox_bundle, source, place):
    """dockerd: "Are you trying to mount a directory onto a file (or vice-versa)?" if it reads these."""
    for folder in (busybox_bundle.path, busybox_bundle.rootfs):
        (folder / "folder").mkdir()
        (folder / "file").touch()
    mount = {"destination": place, "type": "bind", "source": source, "options": ["bind"]}
    busybox_bundle.edit(lambda spec: spec["mounts"].append(mount))
    for runtime in (ctk.like("runc"), ctk):
        failed = runtime("run", "--bundle", str(busybox_bundle), runtime.id())
        assert failed.rc == 1 and "not a directory" in failed.err


@pytest.mark.parametrize("verb", ["delete", "kill"])
def test_what_was_frozen_inside_ends_too(ctk, busybox_bundle, verb):
    """A cgroup v1 frozen by the container itself, say a paused container in it: its processes take no SIGKILL."""
    name = ctk.id()
    ctk("run", "-d", "--bundle", str(busybox_bundle.args("/bin/sleep", "1000")), name).ok()
    pid = ctk("state", name).json()["pid"]
    lines = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    group = Path("/sys/fs/cgroup", *(["freezer", lines["freezer"][1:]] if "freezer" in lines else [lines[""][1:]]))
    inner = group / "inner"
    inner.mkdir()
    ctk("exec", "-d", "--pid-file", str(busybox_bundle.path / "pid"), name, "/bin/sleep", "1001").ok()
    (inner / "cgroup.procs").write_text((busybox_bundle.path / "pid").read_text())
    state, *words = ("freezer.state", "FROZEN", "THAWED") if "freezer" in lines else ("cgroup.freeze", "1", "0")
    (inner / state).write_text(words[0])
    try:
        ctk(verb, *([name, "KILL"] if verb == "kill" else ["--force", name]), timeout=20).ok()
        if verb == "kill":
            until(lambda: status(ctk, name) == "stopped", "its end")
            ctk("delete", name).ok()
        assert not group.exists()
    finally:
        if inner.exists():
            (inner / state).write_text(words[1])
            ctk("delete", "--force", name)


def test_features_is_a_features_document(runtime):
    told = runtime("features").json()
    assert told["ociVersionMin"] == "1.0.0"
    assert {"prestart", "createRuntime", "poststop"} <= set(told["hooks"])
    assert {"rbind", "tmpcopyup", "rro"} <= set(told["mountOptions"])
    assert {"pid", "user", "cgroup"} <= set(told["linux"]["namespaces"])
    assert told["linux"]["seccomp"]["enabled"] is True
    assert "SCMP_ACT_ERRNO" in told["linux"]["seccomp"]["actions"]
