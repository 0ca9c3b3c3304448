"""The images of `scripts/bench images`, made here; and a bomb, whose one file is 4 GiB of zeros."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import tarfile
import zlib

_PIECE = 1 << 20


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


def bomb(layers):
    """One file of 4 GiB of zeros, in 4 MB of gzip."""
    size, zeros, member = 4 << 30, bytes(16 << 20), tarfile.TarInfo("zeros")
    member.size = size
    head, packed = member.tobuf(tarfile.USTAR_FORMAT), gzip.compress(zeros, 9, mtime=0)
    diff_id = hashlib.sha256(head)
    for _ in range(size // len(zeros)):
        diff_id.update(zeros)
    diff_id.update(bytes(1024))
    data = gzip.compress(head, mtime=0) + packed * (size // len(zeros)) + gzip.compress(bytes(1024), mtime=0)
    layers.layers.append(layers.put(data, "layer.v1.tar+gzip"))
    layers.diff_ids.append("sha256:" + diff_id.hexdigest())
