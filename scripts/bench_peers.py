"""What `scripts/bench images` compares with, and the registry: each with a place of its own, gone with the run."""

import os
import re
import shutil
import subprocess
import sys
import time

TAR = "tar -xzf (verifies nothing)"


class Registry:
    """Debian's docker-registry on a free port of 127.0.0.1."""

    def __init__(self, folder):
        self.storage = os.path.join(folder, "storage")
        os.makedirs(self.storage)
        config, self.log = os.path.join(folder, "config.yml"), os.path.join(folder, "log")
        with open(config, "w") as file:
            file.write(
                "version: 0.1\nlog: {level: info}\nhttp: {addr: '127.0.0.1:0', secret: bench}\n"
                f"storage: {{filesystem: {{rootdirectory: {self.storage}}}, delete: {{enabled: true}}}}\n"
            )
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
        for _ in range(600):
            with open(self.log) as file:
                if match := re.search(r"listening on (127\.0\.0\.1:\d+)", file.read()):
                    self.host = match[1]
                    return
            time.sleep(0.05)
        sys.exit("bench: docker-registry did not start: " + self.log)

    def requests(self):
        """Methods of the requests that it has answered."""
        with open(self.log) as file:
            return [re.search(r"http.request.method=(\w+)", line)[1] for line in file if "response completed" in line]

    def forget(self):
        """Everything that was pushed."""
        shutil.rmtree(self.storage)
        os.mkdir(self.storage)

    def close(self):
        self.process.kill()
        self.process.wait()


class Podman:
    """podman with a store of its own, which can be thrown away."""

    def __init__(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.folder = os.path.join(folder, "podman")
        self.state = f"/run/ctk-bench-{os.getpid()}-{os.path.basename(folder)}"[:50]  # podman takes no more
        self.conf = os.path.join(folder, "containers.conf")
        # runc, as crun refuses hybrid cgroups.
        with open(self.conf, "w") as file:
            file.write(
                '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
                '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            )

    def argv(self, *words):
        stores = ["--root", f"{self.folder}/root", "--runroot", self.state, "--tmpdir", f"{self.folder}/tmp"]
        return ["env", f"CONTAINERS_CONF={self.conf}", "podman", *stores, "--storage-driver", "overlay", *words]

    def forget(self):
        with open("/proc/self/mounts") as file:
            points = [line.split()[1] for line in file]
        points = [one for one in points if one.startswith((self.folder + "/", self.state + "/"))]
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.state, ignore_errors=True)


class Docker:
    """dockerd in namespaces of its own, which end with it; a shell is their init, and waits for whatever ends there."""

    def __init__(self, folder, tools):
        self.tools = tools
        self.socket = f"unix://{folder}/docker.sock"
        state = os.path.join(folder, "docker")
        script = (
            "mount -t tmpfs none /run; ip link set lo up; dockerd --bridge none --iptables=false "
            f"--data-root {state} --exec-root /run/docker --pidfile /run/docker.pid --host {self.socket} & wait"
        )
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", script]
        self.log = open(os.path.join(folder, "dockerd.log"), "w")
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def argv(self, *words):
        return ["docker", "--host", self.socket, *words]

    def ready(self):
        for _ in range(300):
            if subprocess.run(self.argv("version"), capture_output=True).returncode == 0:
                return True
            time.sleep(0.1)
        return False

    def cpu_ms(self):
        """CPU time of the daemon and of all that it has started; the shim ends a moment after its container."""
        time.sleep(0.3)
        return self.tools.tree_cpu_ms(self.process.pid)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
