"""`scripts/bench everyday`: the commands that people type all day, by ctk and by podman in turn.

What talks to nobody (help, completion, explanations) is compared with `python3 -c 'import typer'`, the library that
declares our commands. Processor time is that of the command alone: conmon and our holders go on by themselves.
"""

import os
import shutil
import subprocess
import sys
import time

import bench_peers as peers

PODMAN, TYPER = "podman", "import typer"
LINES = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"
ENDS_AT_ONCE = "trap 'exit 0' TERM; sleep 100000 & wait"
WITH_PODMAN = 1.5
WITH_TYPER = 2.0


class Everyday:
    """The cases: name -> tool -> (what to do before, its argv, its environment)."""

    def __init__(self, tools, options, folder):
        self.tools, self.options, self.folder = tools, options, folder
        self.ctk = tools.find_ctk(options.ctk)
        self.environment = dict(
            os.environ, CTK_ROOT=self.path("state"), CTK_DATA=self.path("data"), CTK_CACHE=self.path("cache")
        )
        self.cases, self.bundles, self.names = {}, {}, set()
        self.podman = peers.Podman(self.path("podman"))
        for name, script in (("lines", LINES), ("long", ENDS_AT_ONCE), ("cat", "cat"), ("true", "true")):
            bundle = self.path("bundle-" + name)
            os.mkdir(bundle)
            tools.write_bundle(bundle, self.ctk, ["sh", "-c", script])
            with open(os.path.join(bundle, "rootfs/etc/file"), "w") as file:
                file.write("text\n")
            self.bundles[name] = (bundle, script)

    def path(self, name):
        return os.path.join(self.folder, name)

    def quietly(self, argv, check=True):
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self.environment
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: exit {done.returncode}: {done.stdout.decode()[-500:]}")
        return done.stdout.decode()

    def name(self, kind):
        return f"bench{os.getpid()}-{kind}"

    def make_image(self):
        """The same image in both stores."""
        root, tar = os.path.join(self.bundles["true"][0], "rootfs"), self.path("root.tar")
        subprocess.run(["tar", "-cf", tar, "-C", root, "."], check=True)
        self.quietly(self.podman.argv("import", "-q", tar, "bench:1"))
        self.quietly([self.ctk, "pack", root, "bench:1"])

    def begin(self, tool, kind, program):
        """A new container of the name `kind` in the background, in place of an earlier one."""
        name, (bundle, script) = self.name(kind), self.bundles[program]
        self.end(tool, kind)
        self.names.add((tool, kind))
        if tool == PODMAN:
            words = ["run", "-d", "-i", "--name", name, "--network", "none", "--log-driver", "k8s-file"]
            self.quietly(self.podman.argv(*words, "bench:1", "sh", "-c", script))
        else:
            self.quietly([self.ctk, "run", "--detach", "--interactive", "--hold", "--bundle", bundle, name])

    def end(self, tool, kind):
        name = self.name(kind)
        self.quietly(self.podman.argv("rm", "-f", name) if tool == PODMAN else [self.ctk, "rm", "-f", name], False)

    def ended(self, tool, kind, program):
        """The same; it has stopped by itself."""
        self.begin(tool, kind, program)
        name = self.name(kind)
        state = ["inspect", "--format", "{{.State.Status}}", name]
        asked = self.podman.argv(*state) if tool == PODMAN else [self.ctk, "state", name]
        for _ in range(200):
            if any(word in self.quietly(asked) for word in ("exited", "stopped")):
                return
            time.sleep(0.05)
        raise RuntimeError(f"{name} of {tool} did not end")

    def compare(self, case, *words, kind="alive", before=None):
        """A command that both have, of the same words."""
        before = before or (lambda _: None)
        words = [word.replace("NAME", self.name(kind)) for word in words]
        self.cases[case] = {
            PODMAN: (lambda: before(PODMAN), self.podman.argv(*words), self.environment),
            "ctk": (lambda: before("ctk"), [self.ctk, *words], self.environment),
        }

    def alone(self, case, *words, **variables):
        """A command of ours, compared with importing typer."""
        python = os.path.join(os.path.dirname(self.ctk), "python3")
        nothing = lambda: None  # noqa: E731
        self.cases[case] = {
            TYPER: (nothing, [python, "-c", "import typer"], self.environment),
            "ctk": (nothing, [self.ctk, *words], {**self.environment, **variables}),
        }

    def prepare(self):
        """All cases, and the containers that several of them look at."""
        self.make_image()
        for tool in (PODMAN, "ctk"):
            self.begin(tool, "alive", "long")
            self.ended(tool, "lines", "lines")
        self.compare("logs", "logs", "NAME", kind="lines")
        self.compare("stop", "stop", "NAME", kind="stopped", before=lambda tool: self.begin(tool, "stopped", "long"))
        self.compare("rm", "rm", "NAME", kind="gone", before=lambda tool: self.ended(tool, "gone", "true"))
        self.compare("restart", "restart", "NAME", kind="again", before=lambda tool: self.begin(tool, "again", "long"))
        self.compare("cp", "cp", "NAME:/etc/file", self.path("copied"))
        self.compare("attach", "attach", "NAME", kind="cat", before=lambda tool: self.begin(tool, "cat", "cat"))
        self.compare("inspect", "inspect", "NAME")
        self.compare("stats once", "stats", "--no-stream", "NAME")
        self.compare("images", "images")
        self.alone("explain a field", "explain", "mounts")
        self.alone("explain a bundle", "explain", self.bundles["true"][0])
        self.alone("check", "check", self.bundles["true"][0])
        self.alone("recipe list", "recipe", "list")
        self.alone("doctor", "doctor", "--offline")
        self.alone("--help", "--help")
        self.alone("help of one command", "logs", "--help")
        self.alone("one Tab", _CTK_COMPLETE="complete_bash", COMP_WORDS="ctk logs ", COMP_CWORD="2")

    def measure(self):
        """Each case by its tools in turn; (times, CPU time)."""
        times, used = {}, {}
        for case, tools in self.cases.items():
            for turn in range(self.options.runs + 1):
                for tool, (before, argv, environment) in tools.items():
                    before()
                    taken, cpu = self.once(case, tool, argv, environment)
                    if turn:  # the first reads files from the disk
                        times.setdefault((case, tool), []).append(taken)
                        used.setdefault(tool, {}).setdefault(case, []).append(cpu)
        return times, used

    def once(self, case, tool, argv, environment):
        with open(self.path("said"), "w+") as said:
            started = time.perf_counter()
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
            _, status, usage = os.wait4(process.pid, 0)
            taken = (time.perf_counter() - started) * 1000
            process.returncode = os.waitstatus_to_exitcode(status)
            # doctor and check say by 1 what they have found.
            if process.returncode not in ((0, 1) if case in ("doctor", "check") else (0,)):
                said.seek(0)
                raise RuntimeError(f"{case}, {tool}: exit {process.returncode}: {said.read()[-1000:]}")
        return taken, (usage.ru_utime + usage.ru_stime) * 1000

    def close(self):
        for tool, kind in self.names:
            self.end(tool, kind)
        self.podman.forget()


def bench(tools, options, folder):
    """As the other benches of scripts/bench."""
    if not shutil.which("podman"):
        sys.exit("bench: everyday needs podman")
    one = Everyday(tools, options, folder)
    try:
        one.prepare()
        times, used = one.measure()
    finally:
        one.close()
    peer_of = {case: next(iter(found)) for case, found in one.cases.items()}
    goals = [(case, "ctk", peer, WITH_PODMAN if peer == PODMAN else WITH_TYPER) for case, peer in peer_of.items()]
    return times, {}, {"cpu_ms": used, "goals": goals}, ""
