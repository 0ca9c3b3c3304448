"""A cache of finished trees, so that the same tree is not built twice.

    CACHE/trees/KEY.tar.zst    a tree: the layer of an image, as .tar.zst, followed by the hashes of its frames and its
                               diff id (in a skippable frame, RFC 8878, which zstd(1), tar(1) and all readers of
                               layers ignore)
    CACHE/locks/KEY.json       the Lock that a request resolved to with certain Release files

The key of a lock is the request and the hashes of the signed Release texts, which are fetched and verified every time:
as long as they are the same, so are the packages. The key of a tree is the lock's build id and all else that goes into
it: the host's resolv.conf and hostname, SOURCE_DATE_EPOCH, whether device nodes and owners can be made. Both keys
include the code that builds (`_builder`). A request with a field that is not known here is not cached.

No tree shares anything with the cached one, neither hard links nor blocks: a container writes only to its own. With
--tag the file itself is a blob of the image store, too, by a hard link (image.py): nobody writes to either. Each frame
is hashed before it is used. The folder belongs to us and has mode 0700.
"""

import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import toolkit
from toolkit import __version__
from toolkit.archive import extract_tree, streams, tar_write, walk
from toolkit.bootstrap.facts.model import Lock, Package, Request, Source
from toolkit.bootstrap.output.target import MARKER
from toolkit.errors import CtkError, reason
from toolkit.fetch.cache import Cache
from toolkit.kernel import atomic, ours, reading
from toolkit.kernel.host import HostFacts

# Fields of a Request that determine the packages or the tree; they are part of the key.
_KEYED = frozenset(
    {"suite", "variant", "architecture", "mirror", "components", "include", "exclude", "check_gpg", "check_date"}
    | {"pockets", "sources", "pins", "recommends", "snapshot"}
)
# Fields that don't. All others must have their default for a tree to be cached.
_WITHOUT_EFFECT = frozenset(
    {
        "target",
        "keyring",
        "jobs",
        "restart",
        "keep_failed",
        "or_host",
        "mirrors",
        "use_kept",
        "format",
        "lock",
        "sboms",
        "tag",
    }
    | {"certificate", "private_key"}
)

_SKIPPABLE = 0x184D2A50  # RFC 8878, 3.1.2
_TAIL = struct.Struct("<I32s32s8s")  # length of the index, the tar's SHA-256, that of both, and a name
_NAME = b"ctk-tree"
_FRAME = struct.Struct("<II32s")  # compressed and uncompressed size in bytes, SHA-256 of the compressed frame
_MOST_BYTES = 64 << 20  # of a frame


class Spoilt(Exception):
    """A cached tree is damaged. It has been removed."""


class TreeCache:
    """The cached trees of a cache folder."""

    def __init__(self, folder: str) -> None:
        self._cache = Cache(folder)
        self._trees = os.path.join(folder, "trees")
        self._locks = os.path.join(folder, "locks")

    def recall(self, request: Request, sources: tuple[Source, ...]) -> Lock | None:
        """The lock that this request resolved to with the same Release files of its sources; None if not cached."""
        if not cacheable(request):
            return None
        data = _read(os.path.join(self._locks, _request_key(request, sources) + ".json"))
        if data is None or hashlib.sha256(data[32:]).digest() != data[:32]:
            return None
        lock = _lock(data[32:])
        return lock if lock is not None and lock.sources == sources else None

    def remember(self, request: Request, lock: Lock) -> None:
        """Cache a lock for `recall`. Failing to write the cache is not an error."""
        if not cacheable(request):
            return
        data = json.dumps(asdict(lock), separators=(",", ":")).encode()
        if _lock(data) != lock:
            return
        path = os.path.join(self._locks, _request_key(request, lock.sources) + ".json")
        try:
            self._write(path, [hashlib.sha256(data).digest(), data])
        except (OSError, CtkError):
            pass

    def open(self, request: Request, build_id: str) -> "CachedTree | None":
        """The cached tree of this lock's build id for this host, which the caller closes; None if there is none."""
        if not cacheable(request):
            return None
        path = os.path.join(self._trees, _tree(request, build_id) + ".tar.zst")
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            kept = CachedTree(fd, path)
            os.utime(fd)  # mark it as used: prune.py removes the least recently used first
            return kept
        except Spoilt:
            os.close(fd)
            return None

    def store(self, request: Request, lock: Lock, rootfd: int) -> int:
        """Cache the finished tree below `rootfd`. Returns its size in the cache, 0 if it is not cached.

        Raises OSError if the tree can't be read. Failing to write the cache is not an error.
        """
        if not cacheable(request) or _has_secrets(rootfd):
            return 0
        path = os.path.join(self._trees, _tree(request, lock.build_id) + ".tar.zst")
        try:
            return self._write(path, as_layer(rootfd))
        except CtkError:
            return 0

    def _write(self, path: str, pieces: Iterator[bytes] | list[bytes]) -> int:
        self._cache.prepare()
        folder = os.path.dirname(path)
        ours.make_private(folder)
        try:
            size = 0
            with self._cache.writing() as new:
                for piece in pieces:
                    atomic.write(new.fd, piece)
                    size += len(piece)
                new.close()
                new.name(path)
            return size
        except OSError as error:
            raise CtkError(f"write {path!r}", because=reason(error)) from None


class CachedTree:
    """One cached tree, open for reading."""

    def __init__(self, fd: int, path: str) -> None:
        """Raises Spoilt if the index is missing or damaged."""
        self.fd = fd
        self._path = path
        self.size_bytes = os.fstat(fd).st_size
        tail = os.pread(fd, _TAIL.size, max(0, self.size_bytes - _TAIL.size))
        if len(tail) < _TAIL.size:
            raise self._spoilt()
        length, plain_digest, digest, name = _TAIL.unpack(tail)
        index = os.pread(fd, length, max(0, self.size_bytes - _TAIL.size - length))
        if name != _NAME or length % _FRAME.size or hashlib.sha256(index + plain_digest).digest() != digest:
            raise self._spoilt()
        self.diff_id = f"sha256:{plain_digest.hex()}"
        self._frames = list(_FRAME.iter_unpack(index))
        self.plain_bytes = sum(plain for _, plain, _ in self._frames)

    def __enter__(self) -> "CachedTree":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def digest(self) -> str:
        """The digest of the whole file, whose frames are checked. Raises Spoilt."""
        found = hashlib.sha256()
        length = 0
        for data in self.packed():
            found.update(data)
            length += len(data)
        found.update(os.pread(self.fd, self.size_bytes - length, length))
        return f"sha256:{found.hexdigest()}"

    def packed(self) -> Iterator[bytes]:
        """The compressed frames; each is checked by its hash. Raises Spoilt."""
        position = 0
        for packed, plain, digest in self._frames:
            data = os.pread(self.fd, packed, position)
            if hashlib.sha256(data).digest() != digest or plain > _MOST_BYTES:
                raise self._spoilt()
            yield data
            position += packed

    def plain(self) -> Iterator[bytes]:
        """The tar stream. Raises Spoilt."""
        import zstandard

        machine = zstandard.ZstdDecompressor()
        for data, (_, plain, _) in zip(self.packed(), self._frames, strict=True):
            yield machine.decompress(data, max_output_size=plain)

    def extract(self, rootfd: int) -> int:
        """Extract the tree below `rootfd`, which is empty except for the marker. Returns the number of members.

        Raises Spoilt (what has been extracted must then be removed), OSError, SystemCall.
        """
        return extract_tree.extract_tree(rootfd, self.plain(), "a cached tree")

    def _spoilt(self) -> Spoilt:
        try:
            os.unlink(self._path)
        except OSError:
            pass
        return Spoilt(self._path)


def cacheable(request: Request) -> bool:
    """Whether a build of this request may be cached: it has no field whose effect is unknown here."""
    for field in fields(Request):
        known = field.name in _KEYED or field.name in _WITHOUT_EFFECT
        if not known and getattr(request, field.name) != field.default:
            return False
    return request.use_kept


def _request_key(request: Request, sources: tuple[Source, ...]) -> str:
    return _digest(_request(request), [asdict(source) for source in sources])


def _tree(request: Request, build_id: str) -> str:
    host = HostFacts()
    with open("/proc/self/uid_map") as file:
        ids = sum(int(line.split()[2]) for line in file)
    return _digest(
        build_id,
        {name: value for name, value in _request(request).items() if name not in ("mirror", "check_gpg", "check_date")},
        [os.uname().nodename, *((_read(path) or b"").hex() for path in ("/etc/resolv.conf", "/etc/hostname"))],
        os.environ.get("SOURCE_DATE_EPOCH", ""),
        [host.in_user_namespace, ids, _capabilities()],
    )


def _request(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in sorted(_KEYED)}


def _capabilities() -> str:
    with open("/proc/self/status") as file:
        return next((line.split()[1] for line in file if line.startswith("CapEff:")), "")


def _builder() -> list[Any]:
    """What identifies this builder: its version, and size and time of its files, which change in a checkout."""
    found: list[Any] = [__version__]
    for room in ("bootstrap", "deb", "archive"):
        for folder, _, names in sorted(os.walk(os.path.join(os.path.dirname(toolkit.__file__), room))):
            for name in sorted(names):
                if name.endswith(".py"):
                    about = os.stat(os.path.join(folder, name))
                    found.append([name, about.st_size, about.st_mtime_ns])
    return found


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps([_builder(), *parts], sort_keys=True).encode()).hexdigest()


def _lock(data: bytes) -> Lock | None:
    try:
        found = json.loads(data)
        found["sources"] = tuple(Source(**_tuples(one)) for one in found["sources"])
        for name in ("required", "base"):
            found[name] = tuple(Package(**_tuples(one)) for one in found[name])
        return Lock(**_tuples(found))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _tuples(found: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _read(path: str) -> bytes | None:
    try:
        return reading.read(path, limit_bytes=256 << 20)
    except OSError:
        return None


def as_layer(rootfd: int) -> Iterator[bytes]:
    """The tree as a layer of an image, compressed, with its index: the same tree, the same bytes.

    Raises OSError; CtkError for what can't be in a layer.
    """
    import zstandard

    from toolkit.image.layer.write import fit

    plain = hashlib.sha256()
    entries = walk.walk(rootfd, without=frozenset({MARKER.encode()}))
    fitting = (fit(entry, "keep a tree as a layer") for entry in entries)

    def segments() -> Iterator[bytes]:
        for segment in tar_write.segments(rootfd, fitting, prefix=b""):
            plain.update(segment)
            yield segment

    index = bytearray()
    for frame in streams.zstd(segments()):  # reading and compressing run in parallel
        index += _FRAME.pack(len(frame), zstandard.frame_content_size(frame), hashlib.sha256(frame).digest())
        yield frame
    digest = hashlib.sha256(bytes(index) + plain.digest()).digest()
    tail = bytes(index) + _TAIL.pack(len(index), plain.digest(), digest, _NAME)
    yield struct.pack("<II", _SKIPPABLE, len(tail)) + tail


def _has_secrets(rootfd: int) -> bool:
    """Whether a package has made a private key in /etc (as ssl-cert does): two trees must not share one."""
    try:
        etc = os.open("etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=rootfd)
    except FileNotFoundError:
        return False
    except OSError:  # a link: its contents are unknown
        return True
    try:
        return any(_is_secret(fd, name, about) for fd, found in walk.folders(etc) for name, about in found)
    finally:
        os.close(etc)


def _is_secret(folder: int, name: str, about: os.stat_result) -> bool:
    if not stat.S_ISREG(about.st_mode) or about.st_mode & 0o007:
        return False  # a file that everybody may read is not a secret
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        return name.endswith("_host_key") or b"PRIVATE KEY-----" in file.read(1 << 16)
