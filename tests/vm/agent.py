"""Runs in the guest, as root, from its boot on: unpacks the project, then carries out the host's commands.

One virtio port, one JSON object a line. From the host: {"command": "…"}, for bash. To the host: {"ready": …} once, and
for each command {"code": 0, "out": "…", "err": "…"}. Output goes through files: what a command leaves running
must not keep the host waiting.
"""

import json
import os
import subprocess
import tarfile
import tempfile
import time

PORT = "/dev/virtio-ports/ctk.agent"
PROJECT, DISK = "/opt/ctk", "/dev/vdb"
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


def main() -> None:
    wait_for(DISK)
    os.makedirs(PROJECT, exist_ok=True)
    with tarfile.open(DISK, "r|") as archive:
        archive.extractall(PROJECT, filter="tar")
    wait_for(PORT)
    with open(PORT, "r+b", buffering=0) as port:

        def answer(what: dict[str, object]) -> None:
            data = json.dumps(what).encode() + b"\n"
            while data:
                data = data[port.write(data) :]

        with open("/proc/uptime") as uptime:
            answer({"ready": float(uptime.read().split()[0])})
        buffer = b""
        while True:
            line, newline, rest = buffer.partition(b"\n")
            if newline:
                buffer = rest
                answer(run(json.loads(line)["command"]))
                continue
            data = port.read(1 << 16)
            if not data:  # the host has hung up, for now
                time.sleep(0.1)
            buffer += data or b""


if __name__ == "__main__":
    main()
