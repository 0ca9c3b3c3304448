"""`scripts/bench images`: images unpacked, pulled, copied, pushed, run, packed and committed by ctk and peers in turn.

The images are a minbase of one layer; `twelve`, the same below eleven layers that change it in all the ways a layer
can; and `many`, 60,000 files in four layers, slices of this host's /usr. One registry on loopback serves all tools.
"""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zlib

IMAGES = ("minbase", "twelve", "many")
_PIECE = 1 << 20

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


# ---- the images ----------------------------------------------------------------------------------------------------


class Layers:
    """The layers of an image that is being made, each packed as it is closed; `blobs` is a layout's folder."""

    def __init__(self, blobs):
        self.blobs = blobs
        self.layers, self.diff_ids = [], []
        os.makedirs(blobs, exist_ok=True)

    def put(self, data, kind):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(self.blobs, digest), "wb") as file:
            file.write(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    def packed(self, path):
        """Take a tar.gz as it is."""
        diff_id = hashlib.sha256()
        with gzip.open(path) as file:
            while piece := file.read(_PIECE):
                diff_id.update(piece)
        with open(path, "rb") as file:
            self.layers.append(self.put(file.read(), "layer.v1.tar+gzip"))
        self.diff_ids.append("sha256:" + diff_id.hexdigest())

    @contextlib.contextmanager
    def tar(self):
        """A tar to be filled."""
        path = os.path.join(self.blobs, "new")
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            yield tar
        machine, diff_id, out = zlib.compressobj(1, zlib.DEFLATED, 31), hashlib.sha256(), bytearray()
        with open(path, "rb") as file:
            while piece := file.read(_PIECE):
                diff_id.update(piece)
                out += machine.compress(piece)
        os.unlink(path)
        self.layers.append(self.put(bytes(out + machine.flush()), "layer.v1.tar+gzip"))
        self.diff_ids.append("sha256:" + diff_id.hexdigest())

    def write(self):
        """The layout, whose image is called 1 and runs /bin/true."""
        run = {"Cmd": ["/bin/true"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
        config = {"architecture": "amd64", "os": "linux", "config": run}
        config["rootfs"] = {"type": "layers", "diff_ids": self.diff_ids}
        config["history"] = [{"created_by": "bench"} for _ in self.layers]
        described = self.put(json.dumps(config).encode(), "config.v1+json")
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": described}
        found = self.put(json.dumps({**manifest, "layers": self.layers}).encode(), "manifest.v1+json")
        found["annotations"] = {"org.opencontainers.image.ref.name": "1"}
        folder = os.path.dirname(os.path.dirname(self.blobs))
        for name, document in {
            "index.json": {"schemaVersion": 2, "manifests": [found]},
            "oci-layout": {"imageLayoutVersion": "1.0.0"},
        }.items():
            with open(os.path.join(folder, name), "w") as file:
                json.dump(document, file)
        return [os.path.join(self.blobs, one["digest"].partition(":")[2]) for one in self.layers]


def add(tar, name, data=b"", kind=tarfile.REGTYPE, **more):
    """One member."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    member.mtime = 1_700_000_000
    for key, value in more.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def folders(tar, *names):
    for name in names:
        add(tar, name, kind=tarfile.DIRTYPE)


def copied(tar, archive, below, to):
    """What the root has below a folder, once more below another."""
    with tarfile.open(archive) as base:
        for member in base:
            name = member.name.removeprefix("./")
            if not name.startswith(below + "/") or member.islnk():
                continue
            member.name = to + name.removeprefix(below)
            member.pax_headers = {}
            tar.addfile(member, base.extractfile(member) if member.isreg() else None)


def twelve(layers, archive):
    """The root, and eleven layers that change it."""
    layers.packed(archive)
    app = "opt/app"
    with layers.tar() as tar:  # 2: many small files, and copies
        folders(tar, "opt", app, *(f"{app}/{name}" for name in "abcd"))
        for number in range(500):
            add(tar, f"{app}/a/f{number}", b"file %d\n" % number)
        folders(tar, f"{app}/b/doc", f"{app}/c/etc")
        copied(tar, archive, "usr/share/doc", f"{app}/b/doc")
        copied(tar, archive, "etc", f"{app}/c/etc")
    with layers.tar() as tar:  # 3: whiteouts
        folders(tar, "opt", app, f"{app}/a", f"{app}/c", f"{app}/c/etc")
        for number in range(100, 200):
            add(tar, f"{app}/a/.wh.f{number}")
        add(tar, f"{app}/c/etc/.wh.init.d")
    with layers.tar() as tar:  # 4: an opaque folder
        folders(tar, "opt", app, f"{app}/b")
        add(tar, f"{app}/b/.wh..wh..opq")
        folders(tar, f"{app}/b/new")
        add(tar, f"{app}/b/new/only", b"opaque")
    with layers.tar() as tar:  # 5: hard links
        folders(tar, "opt", app, f"{app}/d")
        add(tar, f"{app}/d/h0", b"base\n")
        for number in range(1, 51):
            add(tar, f"{app}/d/h{number}", kind=tarfile.LNKTYPE, linkname=f"{app}/d/h0")
    with layers.tar() as tar:  # 6: an attribute
        folders(tar, "opt")
        add(tar, "opt/noted", b"x", pax_headers={"SCHILY.xattr.user.note": "café"})
    with layers.tar() as tar:  # 7: a fifo
        folders(tar, "opt")
        add(tar, "opt/fifo", kind=tarfile.FIFOTYPE)
    with layers.tar() as tar:  # 8: a large file, mostly zeros
        folders(tar, "opt")
        add(tar, "opt/zeros", b"head" + bytes(20 << 20) + b"tail")
    with layers.tar() as tar:  # 9: long and odd names
        long = "n" * 200
        folders(tar, "opt", f"opt/{long}", f"opt/{long}/{long}")
        add(tar, f"opt/{long}/{long}/{long}", b"x")
        add(tar, "opt/new\nline", b"z")
    with layers.tar() as tar:  # 10: folders become a link and a file
        folders(tar, "opt", app)
        add(tar, f"{app}/a", kind=tarfile.SYMTYPE, linkname="/etc")
        add(tar, f"{app}/c", b"file")
    with layers.tar() as tar:  # 11: owners and modes
        folders(tar, "opt")
        add(tar, "opt/suid", b"x" * 50_000, mode=0o6755, uid=70000, gid=60000)
        add(tar, "opt/locked", kind=tarfile.DIRTYPE, mode=0)
    with layers.tar() as tar:  # 12: libraries
        folders(tar, "opt", "opt/libs")
        copied(tar, archive, "usr/lib/x86_64-linux-gnu", "opt/libs")


def many(layers):
    """Files as packages have them: lognormal sizes, mean some 18 kB, contents from this host's /usr."""
    names = []
    for top in ("/usr/lib/python3", "/usr/lib/x86_64-linux-gnu", "/usr/share", "/usr/local/lib"):
        for folder, below, files in os.walk(top):
            below.sort()
            names += [os.path.join(folder, name) for name in sorted(files)]
    random.Random(1).shuffle(names)
    pool = bytearray()
    for name in names:
        if len(pool) > 300 << 20:
            break
        if os.path.isfile(name) and not os.path.islink(name) and os.path.getsize(name) < 4 << 20:
            with contextlib.suppress(OSError), open(name, "rb") as file:
                pool += file.read()
    for number in range(1, 5):
        chance, at = random.Random(number), len(pool) // 4 * (number - 1)
        with layers.tar() as tar:
            folders(tar, "opt", f"opt/data{number}")
            for file in range(15_000):
                if file % 100 == 0:
                    folders(tar, f"opt/data{number}/d{file // 100:03}")
                folder = f"opt/data{number}/d{file // 100:03}/s{file // 10 % 10}"
                if file % 10 == 0:
                    folders(tar, folder)
                size = min(int(chance.lognormvariate(8.6, 1.55)), 2 << 20)
                at = at if at + size < len(pool) else 0
                add(tar, f"{folder}/f{file}", bytes(pool[at : at + size]))
                at += size


# ---- the tools -----------------------------------------------------------------------------------------------------


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
    """dockerd in namespaces of its own, which end with it."""

    def __init__(self, folder):
        self.socket = f"unix://{folder}/docker.sock"
        state = os.path.join(folder, "docker")
        script = (
            "mount -t tmpfs none /run; ip link set lo up; exec dockerd --bridge none --iptables=false "
            f"--data-root {state} --exec-root /run/docker --pidfile /run/docker.pid --host {self.socket}"
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

    def close(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


# ---- the cases -----------------------------------------------------------------------------------------------------


class Bench:
    """What all cases share. `tools` are those of scripts/bench."""

    def __init__(self, tools, options, folder):
        self.tools, self.options, self.folder = tools, options, folder
        self.ctk = tools.find_ctk(options.ctk)
        self.python = os.path.join(os.path.dirname(self.ctk), "python3")
        self.cases = {}  # case -> tool -> (what is done before, the command)
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
            "tar -xzf (verifies nothing)": (self.new("target"), ["sh", "-ec", tar]),
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

    def measure(self):
        """All cases, each tool in turn; (times, memory, CPU time)."""
        times, memory, used = {}, {}, {}
        unit = self.tools.rss_unit()
        for case, tools in self.cases.items():
            for _ in range(self.options.runs):
                for tool in list(tools):
                    before, argv = self.tools.children_ms(), self.prepared(tools[tool])
                    try:
                        taken = self.tools.timed(argv)
                    except RuntimeError as error:  # what does not work here is left out, and said
                        print(f"(left out: {case}, {tool}: {str(error)[-300:]})", file=sys.stderr)
                        del tools[tool]
                        continue
                    times.setdefault((case, tool), []).append(taken)
                    used.setdefault(tool, {}).setdefault(case, []).append(self.tools.children_ms() - before)
            for tool, how in tools.items():
                memory[case, tool] = self.tools.peak_kib(self.prepared(how), unit)
            said = ", ".join(f"{tool} {min(times[case, tool]):.0f} ms" for tool in tools)
            print(f"{case}: {said}", file=sys.stderr)
        return times, memory, used

    def prepared(self, how):
        before, argv = how
        before()
        return argv() if callable(argv) else argv


def bench(tools, options, folder):
    """As the other benches of scripts/bench."""
    one = Bench(tools, options, folder)
    archive = options.layer or one.path("root.tar.gz")
    if not options.layer:
        tools.timed([one.ctk, "bootstrap", "--format", "tar.gz", "--variant", options.variant, options.suite, archive])
    wanted = options.images.split(",")
    if unknown := set(wanted) - set(IMAGES):
        sys.exit(f"bench: no such image: {', '.join(unknown)}")
    made = {}
    for image in wanted:
        layout = one.path("layout-" + image)
        layers = Layers(os.path.join(layout, "blobs", "sha256"))
        if image == "minbase":
            layers.packed(archive)
        elif image == "twelve":
            twelve(layers, archive)
        else:
            many(layers)
        made[image] = (layout, layers.write())
    with contextlib.ExitStack() as stack:
        for image, (layout, blobs) in made.items():
            if image != "twelve":  # tar knows no whiteouts
                one.unpack(image, layout, blobs)
        if not options.unpack_only:
            registry = Registry(one.path("registry"))
            stack.callback(registry.close)
            other = Registry(one.path("other"))
            stack.callback(other.close)
            podman, runner = Podman(one.path("pull")), Podman(one.path("run"))
            stack.callback(podman.forget)
            stack.callback(runner.forget)
            docker = Docker(folder) if shutil.which("dockerd") else None
            if docker:
                stack.callback(docker.close)
            for image, (layout, _) in made.items():
                name = f"docker://{registry.host}/{image}:1"
                words = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false"]
                subprocess.run([*words, f"oci:{layout}:1", name], check=True)
                one.transfers(image, layout, registry, other, podman)
            if "minbase" in made:
                one.run("minbase", made["minbase"][0], runner, docker)
                one.pack("minbase", made["minbase"][1])
                stack.callback(one.remove_committed)
                one.commit("minbase", made["minbase"][0])
        times, memory, used = one.measure()
        asked = []
        if not options.unpack_only:
            name = f"{registry.host}/{wanted[0]}:1"
            shutil.rmtree(one.path("store"), ignore_errors=True)
            for _ in range(2):
                time.sleep(0.5)  # the log of the registry is behind
                before = len(registry.requests())
                subprocess.run(one.ours("pull", name), check=True, stderr=subprocess.DEVNULL)
            time.sleep(0.5)
            asked = registry.requests()[before:]
    return times, memory, {"cpu_ms": used, "requests_of_a_second_pull": asked}, ""
