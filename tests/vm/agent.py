"""Runs in the guest, as root, from its boot on: carries out the host's commands.

One virtio port, one JSON object a line. To the host: {"ready": …}, the seconds since the boot. From the host, when it
has brought the guest back from its saved state: {"now": …}, the time; the agent unpacks the project and is ready again.
Then {"command": "…"}, for bash, and for each to the host: {"code": 0, "out": "…", "err": "…"}. Output goes through
files: what a command leaves running must not keep the host waiting.
"""

import fcntl
import json
import os
import subprocess
import tempfile
import time

PORT = "/dev/virtio-ports/ctk.agent"
PROJECT, DISK = "/opt/ctk", "/dev/vdb"
BLKFLSBUF = 0x1261  # linux/fs.h
ENVIRONMENT = {
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}


def wait_for(path: str) -> None:
    """udev names ports and disks a moment after they are there."""
    while not os.path.exists(path):
        time.sleep(0.05)


def run(command: str) -> dict[str, object]:
    with tempfile.TemporaryFile(dir="/run") as out, tempfile.TemporaryFile(dir="/run") as err:
        code = subprocess.run(
            ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=ENVIRONMENT, cwd="/root"
        ).returncode
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {"code": code, "out": texts[0], "err": texts[1]}


def unpack() -> None:
    with open(DISK, "rb") as disk:
        fcntl.ioctl(disk, BLKFLSBUF)  # whatever the kernel has kept of the empty disk
        os.makedirs(PROJECT, exist_ok=True)
        subprocess.run(["tar", "--extract", "--directory", PROJECT], stdin=disk, check=True)


def main() -> None:
    wait_for(PORT)
    with open(PORT, "r+b", buffering=0) as port:

        def answer(what: dict[str, object]) -> None:
            data = json.dumps(what).encode() + b"\n"
            while data:
                data = data[port.write(data) :]

        def ready() -> None:
            answer({"ready": time.clock_gettime(time.CLOCK_BOOTTIME)})

        ready()
        buffer = b""
        while True:
            line, newline, rest = buffer.partition(b"\n")
            if newline:
                buffer = rest
                wish = json.loads(line)
                if "now" in wish:
                    time.clock_settime(time.CLOCK_REALTIME, wish["now"])
                    unpack()
                    ready()
                else:
                    answer(run(wish["command"]))
                continue
            data = port.read(1 << 16)
            if not data:  # the host has hung up, for now
                time.sleep(0.1)
            buffer += data or b""


if __name__ == "__main__":
    main()
