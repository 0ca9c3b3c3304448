"""A running guest: QEMU without KVM (many hosts of tests have none), its disk's changes thrown away at the end."""

import json
import os
import select
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.fixtures.command import Result, tool
from tests.vm import guest
from tests.vm.project import empty_disk, project_disk

MEMORY_MB = 2048
SAVE_S = 120
BOOT_S = 240  # a minute, under emulation; a machine of CI may be a slow one with company


@dataclass(frozen=True)
class Image:
    """The folder of what QEMU boots from, and resumes once it has been saved there."""

    folder: Path

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def python(self) -> Path:
        """A root with nothing but the guest's interpreter."""
        return self.folder / "python"


class GuestLost(Exception):
    """The guest did not answer in time, or QEMU ended; with the end of the guest's console."""


class Machine:
    """A running guest: `with Machine(image, folder) as machine: machine.run("…")`. Commands run one after the other.

    It goes on from the image's state; without one it boots, without the project, and can be saved. `folder` is for its
    sockets, logs and changed blocks; it is removed at the end.
    """

    def __init__(self, image: Image, folder: Path) -> None:
        self._image = image
        self._folder = folder
        self._resumes = image.state.exists()
        self._qemu: subprocess.Popen[bytes] | None = None
        self._port: socket.socket | None = None
        self._buffer = b""
        self.booted_s = 0.0

    def __enter__(self) -> "Machine":
        try:
            self._boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self.close()

    def _argv(self) -> list[str]:
        folder = self._folder
        if self._resumes:
            snapshot, more = "on", ["-incoming", f"exec:cat {shlex.quote(str(self._image.state))}"]
        else:
            snapshot, more = "off", ["-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
        return [
            # QEMU ends with us, however we end.
            tool("setpriv"), "--pdeathsig", "KILL",
            tool("qemu-system-x86_64"), "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            # One processor. With two, and a thread for each, QEMU 7.2 lets one run on in code that the kernel has just
            # rewritten on the other (static keys), and the guest panics ("Oops: int3"; criu turns such a key on):
            # writing kernel.sched_schedstats in a loop beside four ping-pongs of pipes panicked within 12 s. Two in one
            # thread never run at the same time, and cost a tenth more: the kernel keeps its locks, and each processor
            # looks up translated code for itself.
            "-M", "pc,hpet=off,usb=off,vmport=off", "-accel", "tcg,thread=single,tb-size=512",
            # An old processor: the guest then leaves out what emulation is slow at (AVX and its saved state).
            "-cpu", "Nehalem", "-smp", "1", "-m", str(MEMORY_MB),
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd),
            "-append", guest.KERNEL_ARGUMENTS,
            "-drive", f"file={self._image.disk},format=raw,if=none,id=root,snapshot={snapshot},cache=unsafe",
            "-device", "virtio-blk-pci,drive=root",
            "-drive", f"file={folder}/project,format=raw,if=none,id=project,readonly=on",
            "-device", "virtio-blk-pci,drive=project",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off",
            "-device", f"virtserialport,chardev=agent,name={guest.PORT}",
            "-device", "virtio-rng-pci", "-serial", f"file:{folder}/console", *more,
        ]  # fmt: skip

    def _boot(self) -> None:
        started = time.monotonic()
        if self._resumes:
            project_disk(self._folder / "project", self._image.python)
        else:
            empty_disk(self._folder / "project")
        with open(self._folder / "log", "wb") as log:
            # TMPDIR is where QEMU keeps the disk's changes.
            self._qemu = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "TMPDIR": str(self._folder)},
            )
        self._port = self._connected("agent")
        if self._resumes:
            # Its clock stands where it was saved.
            self._port.sendall(json.dumps({"now": time.time()}).encode() + b"\n")
        self._answer(started + BOOT_S)
        self.booted_s = time.monotonic() - started

    def _connected(self, name: str) -> socket.socket:
        assert self._qemu is not None
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        while True:
            try:
                end.connect(f"{self._folder}/{name}")
                return end
            except OSError:
                if self._qemu.poll() is not None:
                    end.close()
                    raise GuestLost(f"QEMU ended\n{self._last_words()}") from None
                time.sleep(0.02)

    def save(self) -> None:
        """Write the state of a guest that has booted into its image, and end QEMU: the disk is then as it knows it."""
        assert self._port is not None and self._qemu is not None
        self._port.close()
        part = self._image.state.with_suffix(".part")
        with self._connected("qmp") as monitor, monitor.makefile("rw") as lines:
            monitor.settimeout(SAVE_S)

            def ask(command: str, **arguments: str) -> "dict[str, Any]":
                print(json.dumps({"execute": command, "arguments": arguments}), file=lines, flush=True)
                while "return" not in (answer := json.loads(lines.readline())):  # events come in between
                    if "error" in answer:
                        raise GuestLost(f"{command}: {answer['error']}")
                return dict(answer["return"])

            ask("qmp_capabilities")
            ask("migrate", uri=f"exec:cat > {shlex.quote(str(part))}")
            while (status := ask("query-migrate").get("status")) != "completed":
                if status == "failed":
                    raise GuestLost(f"QEMU could not save its state\n{self._last_words()}")
                time.sleep(0.1)
        self.close()
        part.rename(self._image.state)

    def run(self, command: str, timeout_s: float = 300) -> Result:
        """Run a bash command as root. Raises GuestLost."""
        assert self._port is not None
        try:
            self._port.sendall(json.dumps({"command": command}).encode() + b"\n")
        except OSError as error:
            raise GuestLost(f"QEMU ended: {error}\n{self._last_words()}") from error
        answer = self._answer(time.monotonic() + timeout_s)
        return Result((command,), answer["code"], answer["out"], answer["err"])

    def _answer(self, end: float) -> "dict[str, Any]":
        """The next line from the agent, parsed."""
        assert self._port is not None and self._qemu is not None
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._port], [], [], max(0.0, end - time.monotonic()))
            data = self._port.recv(1 << 16) if ready else b""
            if not data:
                why = "QEMU ended" if ready else "the guest did not answer in time"
                raise GuestLost(f"{why}\n{self._last_words()}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        texts = []
        for name in ("log", "console"):
            path = self._folder / name
            if path.exists():
                texts.append(path.read_text(errors="replace")[-4000:])
        return "\n".join(texts)

    def close(self) -> None:
        """Switch it off, as pulling the plug does: nothing in it is kept."""
        if self._port is not None:
            self._port.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
