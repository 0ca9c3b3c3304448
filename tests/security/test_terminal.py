"""The terminal of a container, and the caller's, which is not the container's (S21, S46)."""

import os
import pty
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Bundle, Command
from tests.fixtures.profiles import when
from tests.fixtures.terminal import Terminal
from tests.security.conftest import Canary, bind, mounts, pid_of, race, running

pytestmark = pytest.mark.root

TIOCSTI, TIOCLINUX = 0x5412, 0x541C
IOCTL = 29 if os.uname().machine == "aarch64" else 16
PERSONAL = "/proc/sys/kernel/core_pattern"


def with_terminal(bundle: Bundle, script: str) -> Bundle:
    return bundle.sh(script).edit(lambda config: config["process"].update(terminal=True))


def on_a_terminal(ctk: Command, bundle: Bundle) -> str:
    """What `ctk run` shows, run by somebody at a terminal; the container is gone afterwards."""
    name = ctk.id()
    screen = Terminal(ctk.argv("run", "--bundle", str(bundle), name), env=ctk.environment)
    try:
        screen.wait(20)
        return screen.shown
    finally:
        ctk("delete", "--force", name)


def test_s21_positive_control_a_terminal_of_its_own(bundle: Bundle, ctk: Command) -> None:
    shown = on_a_terminal(ctk, with_terminal(bundle, "tty; stat -c 'device %t' /dev/console; echo end"))
    assert "/dev/pts/0" in shown or "/dev/console" in shown
    assert "device 88" in shown and "end" in shown  # major 136: a pty


@pytest.mark.parametrize("target", ["canary", PERSONAL, "/proc/sysrq-trigger", "/etc/made", "/proc/self/attr/exec"])
def test_s21_console_is_a_link(target: str, bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """CVE-2025-52565: what is put on /dev/console must land there, before anything is masked."""

    def own_dev(config: dict[str, Any]) -> None:
        # /dev is the image's, with a devpts in it.
        config["mounts"] = [entry for entry in config["mounts"] if entry["destination"] in ("/proc", "/dev/pts")]

    place = bundle.rootfs / "dev/console"
    place.symlink_to(canary.path / "marker" if target == "canary" else target)
    before = Path(PERSONAL).read_text()
    script = f"stat -c 'kind %t %F' {target}; cat {PERSONAL}; echo end"
    shown = on_a_terminal(ctk, with_terminal(bundle.edit(own_dev), script))
    assert Path(PERSONAL).read_text() == before
    # Either refused, or a pty that lies on /dev/console itself and on nothing that the link names.
    assert "end" not in shown or "kind 88" not in shown


def test_s21_pts_is_swapped_by_a_neighbour(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    volume = bundle.path / "volume"
    (volume / "pts").mkdir(parents=True)
    (volume / "evil").symlink_to(canary.path)
    (volume / "console").write_text("")
    (volume / "evilconsole").symlink_to(canary.path / "marker")
    mounts(bundle, bind(volume, "/dev"), only=("/proc",))
    mounts(bundle, {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]})
    with_terminal(bundle, "stat -c 'kind %t' /dev/tty; echo end")
    end = time.monotonic() + 5
    with race((volume / "pts", volume / "evil"), (volume / "console", volume / "evilconsole")):
        while time.monotonic() < end:
            on_a_terminal(ctk, bundle)


def test_s21_pts_without_devpts(bundle: Bundle, ctk: Command, canary: Canary) -> None:
    """The image's own 5:2 node, fifo or link in place of a devpts' ptmx."""
    mounts(bundle, only=("/proc",))
    ptmx = bundle.rootfs / "dev/pts/ptmx"
    ptmx.parent.mkdir(parents=True)
    for make in (
        lambda: os.mkfifo(ptmx),
        lambda: ptmx.symlink_to(canary.path / "ptmx"),
        lambda: os.mknod(ptmx, 0o020666, os.makedev(5, 2)),
        lambda: ptmx.write_text(""),
        lambda: ptmx.mkdir(),
    ):
        make()
        before = time.monotonic()
        shown = on_a_terminal(ctk, with_terminal(bundle, "echo started"))
        assert "started" not in shown and time.monotonic() - before < 5
        if ptmx.is_dir() and not ptmx.is_symlink():
            ptmx.rmdir()
        else:
            ptmx.unlink()


def injected(ctk: Command, bundle: Bundle, probe: Path, commands: "list[int]", *, tty: bool = False) -> list[str]:
    """ioctl(0, COMMAND, "x") for each, in a container whose standard input is the caller's terminal."""
    shutil.copy(probe, bundle.rootfs / "bin/probe")
    words = ["/bin/probe"]
    for number, command in enumerate(commands):
        words += [","] * bool(number) + [str(IOCTL), "0", str(command), "@"]
    bundle.args(*words).edit(lambda config: config["process"].update(terminal=tty))
    master, slave = pty.openpty()
    name = ctk.id()
    try:
        out = bundle.path / "out"
        with open(out, "wb") as file:
            process = ctk.popen("run", "--bundle", str(bundle), name, stdout=file, stdin=slave, start_new_session=True)
            assert process.wait(20) == 0
        os.set_blocking(master, False)
        try:
            typed = os.read(master, 100)
        except BlockingIOError:
            typed = b""
        assert b"x" not in typed
        return out.read_text().split()
    finally:
        ctk("delete", "--force", name)
        os.close(master)
        os.close(slave)


def test_s46_the_callers_terminal_is_not_the_containers(bundle: Bundle, ctk: Command, probe: Path) -> None:
    """CVE-2017-5226 and its kin: TIOCSTI types into the terminal that the shell above us reads."""
    answers = injected(ctk, bundle, probe, [TIOCSTI, 1 << 32 | TIOCSTI, TIOCLINUX])
    assert len(answers) == 3 and set(answers) <= {"-1", "-5", "-25"}, answers  # EPERM, EIO (legacy_tiocsti=0), ENOTTY


def test_s46_no_controlling_terminal(bundle: Bundle, ctk: Command) -> None:
    with running(ctk, bundle.sh("sleep 1000")) as name:
        fields = Path(f"/proc/{pid_of(ctk, name)}/stat").read_text().rpartition(")")[2].split()
        assert fields[4] == "0"  # tty_nr
        result = ctk("exec", name, "sh", "-c", "cut -d' ' -f7 /proc/self/stat; : < /dev/tty")
        assert result.out.split() == ["0"] and result.rc != 0


def test_s46_a_profile_that_looks_at_the_low_half(bundle: Bundle, ctk: Command, probe: Path) -> None:
    def profile(config: dict[str, Any]) -> None:
        config["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [
                {
                    "names": ["ioctl"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 71,
                    "args": [when(1, "MASKED_EQ", 0xFFFFFFFF, c)],
                }
                for c in (TIOCSTI, TIOCLINUX)
            ],
        }

    answers = injected(ctk, bundle.edit(profile), probe, [TIOCSTI, 1 << 32 | TIOCSTI, TIOCLINUX, 0x5401])
    assert answers[:3] == ["-71"] * 3 and answers[3] != "-71"
