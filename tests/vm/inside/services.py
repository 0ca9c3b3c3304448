"""Containers as services of a real systemd: Type=notify by `ctk generate systemd`, sockets that a unit passes on."""

import socket
from pathlib import Path

from tests.vm.inside import room
from tests.vm.inside.room import CTK, Done, Facts, Runtime, case

ctk = Runtime()
UNITS = Path("/run/systemd/system")
# sd_notify(3) itself: what the guest's systemd-notify says, with its barrier. The first two are not for the manager.
SAYS = """
trap 'exit 0' TERM
systemd-notify --status=waking MAINPID=1 && echo waking >/tmp/ok
until [ -e /tmp/go ]; do sleep 0.1; done
systemd-notify --ready --status=up && echo ready >>/tmp/ok
echo >/tmp/said
sleep 1000 & wait
"""

# What the program of a socket unit's service tells of the socket.
LOOK = "echo fds=$LISTEN_FDS pid=$LISTEN_PID; readlink /proc/self/fd/3 | cut -c1-6; timeout 5 head -c 6 <&3; echo end"


def spec(script: str) -> Facts:
    """A container with the guest's programs."""
    made = room.spec(script)
    for name in ("/usr", "/lib", "/lib64"):
        made["mounts"].append({"destination": name, "type": "bind", "source": name, "options": ["rbind", "ro"]})
    made["process"]["env"] = ["PATH=/bin:/usr/bin"]
    return made


def systemctl(*words: str) -> Done:
    return room.run("systemctl", *words)


def shown(unit: str, *names: str) -> "dict[str, str]":
    """Properties of a unit."""
    out = systemctl("show", "-p", ",".join(names), unit).ok().out
    return dict(line.split("=", 1) for line in out.splitlines())


def install(**texts: str) -> None:
    """Unit files, by the names that `ctk generate systemd` gives them."""
    for name, text in texts.items():
        (UNITS / f"ctk-{name}.service").write_text(text)


def listen(name: str, start: str) -> None:
    """A socket, and the service that a datagram to it starts."""
    (UNITS / f"{name}.socket").write_text(f"[Socket]\nListenDatagram=/run/{name}.socket\n")
    (UNITS / f"{name}.service").write_text(f"[Service]\nExecStart={start}\nStandardOutput=file:/run/{name}.out\n")


def prepare() -> None:
    """All units at once, as each daemon-reload takes seconds.

    `ctk generate systemd` of one container that was run by hand is the text for all of its kind.
    """
    bundle = room.bundle("notify", spec(SAYS))
    ctk("run", "-d", "--hold", "-b", bundle, "notify").ok()
    text = ctk("generate", "systemd", "--notify", "--restart-policy=no", "--time=100", "notify").ok().out
    ctk("delete", "-f", "notify").ok()
    run = f" run --replace --bundle={bundle} "
    assert run in text, text
    # `-d --hold` is not what it writes, and yet what somebody may: the command ends, the holder stays and tells.
    held = text.replace(run, f" run -d --hold --replace --bundle={bundle} ").replace(
        "[Service]", "[Service]\nNotifyAccess=all"
    )
    silent = text.replace(bundle, room.bundle("silent", spec("systemd-notify --status=waking; exec sleep 1000")))
    silent = silent.replace("TimeoutStopSec=115", "TimeoutStartSec=4\nTimeoutStopSec=30")
    install(
        notify=text,
        held=held.replace(" notify\n", " held\n"),
        silent=silent.replace(" notify\n", " silent\n"),
    )
    run = f"{CTK} run -b {room.bundle('socket', room.spec(LOOK))} socket"
    listen("socket", run)
    listen("entry", f"{CTK} exec entered /bin/sh -c '{LOOK.replace('$', '$$')}'")
    systemctl("daemon-reload").ok()
    systemctl("start", "--no-block", "ctk-silent.service").ok()  # its time runs out while the others are looked at


def left(name: str) -> Facts:
    """What is still there of a container."""
    processes = room.run("ps", "-eo", "args").ok().out.splitlines()
    return {
        "record": Path(f"/run/ctk/{name}").exists(),
        "scope": systemctl("is-active", f"ctk-{name}.scope").out.strip(),
        "cgroup": [str(path) for path in Path("/sys/fs/cgroup").rglob(f"*ctk-{name}*")],
        "processes": [line for line in processes if line.endswith(f" {name}") and "ctk" in line],
        "mounts": [line for line in room.read("/proc/self/mountinfo").splitlines() if f"/ctk/{name}" in line],
    }


def init_of(name: str) -> int:
    """Its first process, 0 before it is there; by the cgroup, as asking ctk takes half a second here."""
    try:
        return min(map(int, room.read(f"/sys/fs/cgroup/system.slice/ctk-{name}.scope/cgroup.procs").split()), default=0)
    except OSError:
        return 0


def life(name: str) -> Facts:
    """Start, ready, stop."""
    unit = f"ctk-{name}.service"
    systemctl("start", "--no-block", unit).ok()
    # Its program runs when it has told its status.
    room.until(lambda: (pid := init_of(name)) and Path(f"/proc/{pid}/root/tmp/ok").exists(), 90)
    pid = init_of(name)
    seen: Facts = {"before": shown(unit, "ActiveState", "StatusText")}
    inside = Path(f"/proc/{pid}/root/tmp")
    (inside / "go").touch()
    seen["start"] = systemctl("start", unit).facts()  # waits for the job that there is
    seen["after"] = shown(unit, "ActiveState", "SubState", "MainPID", "StatusText")
    room.until((inside / "said").exists, 60)
    main = seen["after"].pop("MainPID")
    seen["main"] = "init" if main == str(pid) else Path(f"/proc/{main}/cmdline").read_text().split("\0")[-2]
    seen["said"] = (inside / "ok").read_text()
    seen["stop"] = systemctl("stop", unit).facts()
    seen["stopped"] = shown(unit, "ActiveState", "Result")
    seen["left"] = left(name)
    return seen


@case
def notify() -> Facts:
    return life("notify")


@case
def held() -> Facts:
    return life("held")


def passed_on(name: str) -> Facts:
    """What the program of a service sees that a datagram has started: the socket is its unit's, and descriptor 3."""
    systemctl("start", f"{name}.socket").ok()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.sendto(b"heard\n", f"/run/{name}.socket")
    room.until(lambda: "end\n" in output(name))
    seen = output(name)
    systemctl("stop", f"{name}.socket", f"{name}.service").ok()
    return {"out": seen}


def output(name: str) -> str:
    path = Path(f"/run/{name}.out")
    return path.read_text() if path.exists() else ""


@case
def sockets() -> Facts:
    """A socket unit's descriptor reaches the container of `run`, and no program of `exec`."""
    seen: Facts = {"run": passed_on("socket")}
    ctk("run", "-d", "-b", room.bundle("entered", room.spec("sleep 1000")), "entered").ok()
    seen["exec"] = passed_on("entry")
    ctk("delete", "-f", "entered").ok()
    return seen


@case
def silent() -> Facts:
    """It never says that it is ready, and does not hear SIGTERM."""
    unit = "ctk-silent.service"
    at = Path(f"/sys/fs/cgroup/system.slice/{unit}")
    # ExecStopPost= has TimeoutStopSec= for itself: 20 s were too few once, on a busy machine.
    room.until(lambda: not at.exists(), 200)
    room.until(lambda: shown(unit, "ActiveState")["ActiveState"] != "deactivating", 100)
    return {"unit": shown(unit, "ActiveState", "Result"), "left": left("silent")}


if __name__ == "__main__":
    room.main(prepare)
