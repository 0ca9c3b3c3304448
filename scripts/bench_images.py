"""`scripts/bench images`: images unpacked, pulled, copied, pushed, run, packed and committed by ctk and peers in turn.

The images are a minbase of one layer; `twelve`, the same below eleven layers that change it in all the ways a layer
can; and `many`, 60,000 files in four layers, slices of this host's /usr. One registry on loopback serves all tools.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

import bench_made as make
import bench_peers as peers

IMAGES = ("minbase", "twelve", "many")
BOMB = "pull of a 4 GiB bomb"
# Case, our tool, the peer, and the most that we may take of its time.
GOALS = (
    ("unpack minbase", "ctk, isal", "umoci", 0.5),
    ("unpack minbase", "ctk, isal", peers.TAR, 0.7),
    ("unpack minbase", "ctk, zlib", peers.TAR, 1.1),
    ("unpack many", "ctk, isal", "umoci", 0.35),
    *(
        (f"pull {image}, laid out", f"ctk, {codec}", "podman", most)
        for image in IMAGES
        for codec, most in (("isal", 0.3), ("zlib", 0.5))
    ),
    *((f"{image} into a layout", "ctk", "skopeo", 1.0) for image in IMAGES),
    *((f"push {image}, unseen", "ctk", "skopeo", 1.25) for image in IMAGES),
    ("run --rm of minbase", "ctk", "podman", 0.35),
    ("run --rm of minbase", "ctk", "docker", 0.25),
    ("pack minbase, gzip", "ctk, isal", "tar | pigz", 0.25),
    ("pack minbase, zstd", "ctk", "tar | zstd -T2", 1.4),
    ("commit one file of minbase", "ctk", "umoci repack", 0.3),
)
PEAK_KIB = 60_000  # the most memory of any verb

# The layers of a layout onto one root, every digest checked. The third word is "zlib" to do without isal.
UNPACK = """
import json, os, sys
layout, target, codec, top = sys.argv[1:]
sys.path.insert(0, top)
if codec == "zlib":
    sys.modules["isal"] = None
else:
    import isal
from toolkit.image.document.descriptor import Descriptor
from toolkit.image.layer import apply

def blob(digest):
    return open(os.path.join(layout, "blobs", *digest.split(":")), "rb", buffering=0)

def layers():
    for one, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        with blob(one["digest"]) as file:
            pieces = iter(lambda: file.read(1 << 18), b"")
            yield apply.LayerSource(pieces, Descriptor(one["mediaType"], one["digest"], one["size"]), diff_id)

index = json.load(open(os.path.join(layout, "index.json")))
manifest = json.load(blob(index["manifests"][0]["digest"]))
config = json.load(blob(manifest["config"]["digest"]))
os.mkdir(target)
apply.flat(os.open(target, os.O_RDONLY), layers())
"""
WITHOUT_ISAL = (
    "import sys; sys.modules['isal'] = None; sys.path.insert(0, {top!r}); sys.argv[0] = 'ctk'; "
    "from toolkit.__main__ import main; main()"
)


# ---- the cases -----------------------------------------------------------------------------------------------------


class Bench:
    """What all cases share. `tools` are those of scripts/bench."""

    def __init__(self, tools, options, folder):
        self.tools, self.options, self.folder = tools, options, folder
        self.ctk = tools.find_ctk(options.ctk)
        self.python = os.path.join(os.path.dirname(self.ctk), "python3")
        self.cases = {}  # case -> tool -> (what is done before, the command)
        self.bombs = {}  # (case, tool) -> the same
        self.docker = None
        self.serial = 0

    def path(self, *words):
        return os.path.join(self.folder, *words)

    def ours(self, *words, isal=True, store="store"):
        """A command line of ours with a store of its own."""
        places = {"IMAGES": store, "DATA": "data", "ROOT": "records", "CACHE": "cache"}
        program = [self.ctk] if isal else [self.python, "-I", "-c", WITHOUT_ISAL.format(top=self.tools.TOP)]
        named = [f"CTK_{name}={self.path(where)}" for name, where in places.items()]
        return ["env", "CTK_IMAGES_LIMIT=100G", *named, *program, *words]

    def empty(self, name):
        return lambda: shutil.rmtree(self.path(name), ignore_errors=True)

    def new(self, name):
        def make():
            shutil.rmtree(self.path(name), ignore_errors=True)
            os.mkdir(self.path(name))

        return make

    def unpack(self, image, layout, blobs):
        target = self.path("target")
        ours = [self.python, "-I", "-c", UNPACK, layout, target]
        tar = f'for one in {" ".join(blobs)}; do tar -xzf "$one" -C {target}; done'
        self.cases[f"unpack {image}"] = {
            "umoci": (self.empty("target"), ["umoci", "raw", "unpack", "--image", f"{layout}:1", target]),
            peers.TAR: (self.new("target"), ["sh", "-ec", tar]),
            "ctk, isal": (self.empty("target"), [*ours, "isal", self.tools.TOP]),
            "ctk, zlib": (self.empty("target"), [*ours, "zlib", self.tools.TOP]),
        }

    def transfers(self, image, layout, registry, other, podman):
        name, store, target = f"{registry.host}/{image}:1", self.empty("store"), self.path("copied")
        pull = podman.argv("pull", "-q", "--tls-verify=false", name)
        skopeo = ["skopeo", "--insecure-policy", "copy", "-q"]
        self.cases[f"pull {image}, laid out"] = {
            "podman": (podman.forget, pull),
            "ctk, isal": (store, self.ours("pull", name)),
            "ctk, zlib": (store, self.ours("pull", name, isal=False)),
        }
        nothing = lambda: None  # noqa: E731
        self.cases[f"pull {image} again"] = {"podman": (nothing, pull), "ctk": (nothing, self.ours("pull", name))}
        self.cases[f"{image} into a layout"] = {
            "skopeo": (
                self.empty("copied"),
                [*skopeo, "--src-tls-verify=false", f"docker://{name}", f"oci:{target}:1"],
            ),
            "ctk": (self.empty("copied"), self.ours("copy", f"docker://{name}", f"oci:{target}:1")),
        }
        there = f"docker://{other.host}/{image}:1"
        self.cases[f"push {image}, unseen"] = {
            "skopeo": (other.forget, [*skopeo, "--dest-tls-verify=false", f"oci:{layout}:1", there]),
            "ctk": (other.forget, self.ours("copy", f"oci:{layout}:1", there)),
        }

    def run(self, image, layout, podman, docker):
        name, nothing = "bench:1", lambda: None
        subprocess.run(self.ours("copy", f"oci:{layout}:1", f"store:{name}", store="store-run"), check=True)

        def ours():
            self.serial += 1
            return self.ours("run", "--rm", "--image", name, f"bench{os.getpid()}-{self.serial}", store="store-run")

        subprocess.run(ours(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # it lays out the layers
        tools = {"ctk": (nothing, ours)}
        archive = self.path("docker.tar")
        skopeo = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:1", f"docker-archive:{archive}:{name}"]
        subprocess.run(skopeo, check=True)
        subprocess.run(podman.argv("load", "-q", "-i", archive), stdout=subprocess.DEVNULL, check=False)
        words = ["run", "--rm", "--network", "none", "--pull", "never", name]
        tools = {"podman": (nothing, podman.argv(*words)), **tools}
        if docker is not None and docker.ready():
            self.docker = docker
            subprocess.run(docker.argv("load", "-q", "-i", archive), stdout=subprocess.DEVNULL, check=False)
            tools["docker"] = (nothing, docker.argv(*words))
        os.unlink(archive)
        self.cases[f"run --rm of {image}"] = tools

    def pack(self, image, blobs):
        """A root into an image of one layer; tar hashes nothing, and we hash the tar and what is made of it."""
        root, target, nothing = self.path("root"), self.path("copied"), lambda: None
        os.mkdir(root)
        for one in blobs:
            subprocess.run(["tar", "-xzf", one, "-C", root], check=True)
        tar, empty = f"tar -c -C {root} .", self.empty("copied")
        words = ["pack", root, f"oci:{target}:1", "--compression"]
        self.cases[f"pack {image}, gzip"] = {
            "tar | pigz": (nothing, ["sh", "-ec", f"{tar} | pigz >{self.path('packed')}"]),
            "ctk, isal": (empty, self.ours(*words, "gzip")),
            "ctk, zlib": (empty, self.ours(*words, "gzip", isal=False)),
        }
        self.cases[f"pack {image}, zstd"] = {
            "tar | zstd -T2": (nothing, ["sh", "-ec", f"{tar} | zstd -q -T2 >{self.path('packed')}"]),
            "ctk": (empty, self.ours(*words, "zstd")),
        }

    def commit(self, image, layout):
        """One file has changed: umoci compares the tree with its list, we read what overlayfs has kept. Needs `run`."""
        theirs, bundle, mine = self.path("layout-commit"), self.path("bundle-umoci"), self.path("bundle")
        shutil.copytree(layout, theirs)
        subprocess.run(["umoci", "unpack", "--image", f"{theirs}:1", bundle], check=True, stderr=subprocess.DEVNULL)
        with open(os.path.join(bundle, "rootfs/changed"), "w") as file:
            file.write("changed\n")
        name = f"bench{os.getpid()}-commit"
        words = ["up", "bench:1", name, "--bundle", mine, "--no-tty", "--", "sh", "-c", "echo changed >/changed"]
        subprocess.run(self.ours(*words, store="store-run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def umoci():
            self.serial += 1
            return ["umoci", "repack", "--image", f"{theirs}:{self.serial}", bundle]

        self.cases[f"commit one file of {image}"] = {
            "umoci repack": (lambda: None, umoci),
            "ctk": (lambda: None, self.ours("commit", mine, "bench:2", store="store-run")),
        }

    def remove_committed(self):
        """The container of `commit`."""
        words = self.ours("rm", "-f", f"bench{os.getpid()}-commit", store="store-run")
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def bomb(self, layout, registry):
        """Only its memory is measured: 4 GiB that no one needs take their time."""
        name = f"{registry.host}/bomb:1"
        self.push(layout, name)
        self.bombs[BOMB, "ctk, isal"] = (self.empty("store"), self.ours("pull", name))
        self.bombs[BOMB, "ctk, zlib"] = (self.empty("store"), self.ours("pull", name, isal=False))

    def push(self, layout, name):
        words = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
        subprocess.run([*words, f"oci:{layout}:1", f"docker://{name}"], check=True)

    def cpu_ms(self, tool):
        """CPU time up to now of all that has ended, conmon too; docker's work is done by a daemon."""
        self.tools.reap(self.servers)
        return self.tools.children_ms() + (self.docker.cpu_ms() if tool == "docker" else 0)

    def measure(self):
        """All cases, each tool in turn; (times, memory, CPU time)."""
        times, memory, used = {}, {}, {}
        unit = self.tools.rss_unit()
        self.servers = self.tools.adopt()
        for case, tools in self.cases.items():
            if not re.search(self.options.cases, case):
                continue
            for _ in range(self.options.runs):
                for tool in list(tools):
                    argv = self.prepared(tools[tool])
                    before = self.cpu_ms(tool)
                    try:
                        taken = self.tools.timed(argv)
                    except RuntimeError as error:  # what does not work here is left out, and said
                        print(f"(left out: {case}, {tool}: {str(error)[-300:]})", file=sys.stderr)
                        del tools[tool]
                        continue
                    times.setdefault((case, tool), []).append(taken)
                    used.setdefault(tool, {}).setdefault(case, []).append(self.cpu_ms(tool) - before)
            for tool, how in tools.items():
                memory[case, tool] = self.tools.peak_kib(self.prepared(how), unit)
            said = ", ".join(f"{tool} {min(times[case, tool]):.0f} ms" for tool in tools)
            print(f"{case}: {said}", file=sys.stderr)
        for key, how in self.bombs.items():
            if not re.search(self.options.cases, key[0]):
                continue
            memory[key] = self.tools.peak_kib(self.prepared(how), unit)
            self.empty("store")()
        return times, memory, used

    def prepared(self, how):
        before, argv = how
        before()
        return argv() if callable(argv) else argv


def images(one, wanted, archive):
    """Image -> (its layout, its blobs)."""
    made = {}
    for image in wanted:
        layout = one.path("layout-" + image)
        layers = make.Layers(os.path.join(layout, "blobs", "sha256"))
        if image == "minbase":
            layers.packed(archive)
        elif image == "twelve":
            make.twelve(layers, archive)
        elif image == "many":
            make.many(layers)
        else:
            make.bomb(layers)
        made[image] = (layout, layers.write())
    return made


def second_pull(one, registry, image):
    """The methods of its requests."""
    name = f"{registry.host}/{image}:1"
    one.empty("store")()
    for _ in range(2):
        time.sleep(0.5)  # the log of the registry is behind
        before = len(registry.requests())
        subprocess.run(one.ours("pull", name), check=True, stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    return registry.requests()[before:]


def bench(tools, options, folder):
    """As the other benches of scripts/bench."""
    one = Bench(tools, options, folder)
    archive = options.layer or one.path("root.tar.gz")
    if not options.layer:
        tools.timed([one.ctk, "bootstrap", "--format", "tar.gz", "--variant", options.variant, options.suite, archive])
    wanted = options.images.split(",")
    if unknown := set(wanted) - set(IMAGES):
        sys.exit(f"bench: no such image: {', '.join(unknown)}")
    made = images(one, wanted, archive)
    asked = []
    with contextlib.ExitStack() as stack:
        for image, (layout, blobs) in made.items():
            if image != "twelve":  # tar knows no whiteouts
                one.unpack(image, layout, blobs)
        if not options.unpack_only:
            registry, other = peers.Registry(one.path("registry")), peers.Registry(one.path("other"))
            stack.callback(registry.close)
            stack.callback(other.close)
            podman, runner = peers.Podman(one.path("pull")), peers.Podman(one.path("run"))
            stack.callback(podman.forget)
            stack.callback(runner.forget)
            docker = peers.Docker(folder, tools) if shutil.which("dockerd") else None
            if docker:
                stack.callback(docker.close)
            for image, (layout, _) in made.items():
                one.push(layout, f"{registry.host}/{image}:1")
                one.transfers(image, layout, registry, other, podman)
            if "minbase" in made:
                one.run("minbase", made["minbase"][0], runner, docker)
                one.pack("minbase", made["minbase"][1])
                stack.callback(one.remove_committed)
                one.commit("minbase", made["minbase"][0])
                if re.search(options.cases, BOMB):  # it takes half a minute to be made
                    one.bomb(images(one, ["bomb"], archive)["bomb"][0], registry)
        times, memory, used = one.measure()
        if not options.unpack_only:
            asked = second_pull(one, registry, wanted[0])
    figures = {"cpu_ms": used, "goals": GOALS, "requests_of_a_second_pull": asked, "peak_goal_kib": PEAK_KIB}
    return times, memory, figures, ""
