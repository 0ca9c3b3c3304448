"""What layers put at each path of a root, without a root: names, attributes and hashes of contents, in a table.

The rules are those by which layers are laid out onto one root (members.py, form FLAT), and the same layers are refused.
The table is SQLite's, in a file without a name once it is larger than a small cache: an image may have millions of
paths. Removing a folder is removing a range of keys.

Times are not compared, because the same file gets another one in each build; nor is which names are of one file.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, NoReturn

from toolkit.archive.entries import BLOCK, CHARACTER, DIRECTORY, FILE, HARD_LINK, SYMLINK, XATTRS, Entry, Hole
from toolkit.archive.tar_read_any import AnyTar
from toolkit.errors import CtkError, Malformed
from toolkit.image.layer import names
from toolkit.image.layer.names import join
from toolkit.image.layer.policy import MEMBERS
from toolkit.image.layer.read import LIMIT_BYTES

ADDED, CHANGED, DELETED = "A", "C", "D"
"""The letters of `ctk diff`, podman and docker."""

_CACHE_KIB = 8192
_MOST_KNOWN = 4096  # folders whose real path is remembered
_NAME_BYTES, _PATH_BYTES = 255, 4095  # the kernel's limits (limits.h)
_LONG_HOLE_BYTES = 1 << 30  # above this a hole counts by its length; a shorter one is the zeros that it reads as
_ZEROS = bytes(1 << 16)
_TABLE = """CREATE TABLE {} (
    path BLOB PRIMARY KEY, kind BLOB, facts BLOB, link BLOB, layer INTEGER, member INTEGER
) WITHOUT ROWID"""
_BELOW = "path > :first AND path < :last"


class Row(NamedTuple):
    """A path: its kind (entries.py), a hash of all that is compared, and the target if it is a symbolic link.

    `layer` is the number of the layer that it belongs to, `member` that of the last one with a member for it.
    """

    kind: bytes
    facts: bytes
    link: bytes
    layer: int
    member: int


class Contents:
    """Two roots, `old` and `new`, and what is different. Call `close`. Methods raise CtkError for a full disk."""

    def __init__(self) -> None:
        # "" is a file that SQLite makes when the cache is full, and unlinks at once.
        self._database = sqlite3.connect("", isolation_level=None)
        self._run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._run("PRAGMA journal_mode = OFF")  # nobody goes back
        self._database.create_function("above", 1, _above, deterministic=True)
        for name in ("old", "new"):
            self._run(_TABLE.format(name))
        self._run("BEGIN")
        self.old = Root(self._database, "old")
        self.new = Root(self._database, "new")

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def copy(self) -> None:
        """Let `new`, which is empty, have what `old` has."""
        self._run("INSERT INTO new SELECT * FROM old")
        self.new.layers = self.old.layers

    def changes(self) -> Iterator[tuple[str, str]]:
        """(A, C or D, path from `/`) of each path that differs, by path. A removed folder stands for all in it.

        A folder in which a name was added or removed has changed, too, except the root, which is never told.
        """
        self._run("CREATE TABLE found (path BLOB PRIMARY KEY, kind TEXT) WITHOUT ROWID")
        there = "EXISTS (SELECT 1 FROM {} AS other WHERE other.path = {})"
        self._run(
            f"INSERT INTO found SELECT path, 'A' FROM new WHERE path <> X'' AND NOT {there.format('old', 'new.path')}"
        )
        self._run(
            "INSERT INTO found SELECT new.path, 'C' FROM new JOIN old ON new.path = old.path "
            "WHERE new.facts <> old.facts AND new.path <> X''"
        )
        self._run(
            f"INSERT INTO found SELECT path, 'D' FROM old WHERE NOT {there.format('new', 'old.path')} "
            f"AND (above(path) = X'' OR {there.format('new', 'above(old.path)')})"
        )
        self._run(
            "INSERT OR IGNORE INTO found SELECT DISTINCT above(path), 'C' FROM found "
            "WHERE kind <> 'C' AND above(path) <> X''"
        )
        for path, kind in self._run("SELECT path, kind FROM found ORDER BY path"):
            yield kind, "/" + os.fsdecode(path)

    def _run(self, statement: str) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement)
        except sqlite3.Error as error:
            raise CtkError("compare images", because=f"SQLite's temporary file: {error}") from None


class Root:
    """One of the two: layers are put onto it, the lowest first."""

    def __init__(self, database: sqlite3.Connection, table: str) -> None:
        self._database = database
        self._table = table
        self._select = f"SELECT kind, facts, link, layer, member FROM {table} WHERE path = ?"
        self._insert = f"INSERT OR IGNORE INTO {table} VALUES (?, ?, ?, ?, ?, ?)"
        self._replace = f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?)"
        self.layers = 0
        self._doing = ""
        self._mark = b""
        self._times = False
        self._zeros = 0
        self._known: dict[bytes, bytes] = {}  # folders as members name them, and their real paths

    def layer(
        self,
        tar: AnyTar,
        doing: str,
        *,
        times: bool = False,
        rewritten: bool = False,
        seen: Callable[[], None] = lambda: None,
    ) -> None:
        """Put the members of one more layer. `doing` begins messages; `seen` is called for each member.

        `times`: the times of folders count. `rewritten`: what the layer has, except folders, is different from what
        is there, even if it is the same. Raises Malformed, CtkError, and what the tar raises.
        """
        self.layers += 1
        self._doing = doing
        self._times = times
        self._mark = b"rewritten" if rewritten else b""
        self._zeros = 0
        self._known.clear()
        count = 0
        try:
            for entry in tar:
                count += 1
                if count > MEMBERS:
                    raise CtkError(doing, because=f"it has more than {MEMBERS} members")
                self._put(entry, tar)
                seen()
        except names.BadName as error:
            self._refuse(str(error))
        except sqlite3.Error as error:
            raise CtkError(doing, because=f"SQLite's temporary file: {error}") from None

    def has(self, entry: Entry, content: Iterable[bytes]) -> bool:
        """Whether the file is there, its time aside. The content is read only of a FILE that is there as one."""
        found = self._row(entry.name)
        if found is None or found.kind != entry.kind:
            return False
        hashed = hashlib.sha256()
        for piece in content if entry.kind == FILE else ():
            hashed.update(piece)
        data = hashed.digest() if entry.kind == FILE else b""
        return _facts(entry, data, self._times) == found.facts[-32:]

    def kind_of(self, path: bytes) -> bytes:
        """The kind of what is there; b"" if nothing is."""
        found = self._row(path)
        return found.kind if found else b""

    def inside(self, path: bytes) -> list[tuple[bytes, bytes]]:
        """(name, kind) of what is in a folder, by name."""
        start = len(path) + 2 if path else 1
        rows = self._run(
            f"SELECT substr(path, :start), kind FROM {self._table} "
            f"WHERE {_BELOW} AND path <> X'' AND instr(substr(path, :start), X'2F') = 0 ORDER BY path",
            _range(path) | {"start": start},
        )
        return [(bytes(name), bytes(kind)) for name, kind in rows]

    def _put(self, entry: Entry, tar: AnyTar) -> None:
        path = names.relative(entry.name)
        white = names.whiteout(path) if b".wh." in path else None
        if white is not None:
            self._whiteout(white)
            return
        above, _, last = path.rpartition(b"/")
        if len(last) > _NAME_BYTES or len(path) > _PATH_BYTES or len(entry.link) > _PATH_BYTES:
            self._refuse(f"{os.fsdecode(entry.name[:80])!r}…: {os.strerror(errno.ENAMETOOLONG).lower()}")
        if not path and entry.kind != DIRECTORY:  # CVE-2021-29136
            self._refuse("its member for the root is no folder")
        if path:
            path = join(self._folder(above), last)
        row = self._linked(path, entry) if entry.kind == HARD_LINK else self._made(entry, tar)
        if self._added(path, row):
            return
        found = self._row(path)
        if found and self._is_twice(found, entry):
            self._refuse(f"it has {os.fsdecode(path)!r} more than once")
        if found and (found.kind != row.kind or found.kind == SYMLINK):
            self._remove(path)  # with all that is in it, and what was found through it
        self._set(path, row)

    def _is_twice(self, found: Row, entry: Entry) -> bool:
        if found.kind == DIRECTORY and entry.kind == DIRECTORY:
            return found.member == self.layers
        return found.layer == self.layers

    def _made(self, entry: Entry, tar: AnyTar) -> Row:
        kind = entry.kind
        if kind == CHARACTER and not entry.major and not entry.minor:
            self._refuse(f"{os.fsdecode(entry.name)!r} is the device 0:0, which is a whiteout to overlayfs")
        content = self._content(entry, tar) if kind == FILE else b""
        facts = _facts(entry, content, self._times)
        if kind == DIRECTORY:
            return Row(kind, facts, b"", self.layers, self.layers)
        return Row(kind, self._mark + facts, entry.link if kind == SYMLINK else b"", self.layers, self.layers)

    def _linked(self, path: bytes, entry: Entry) -> Row:
        target = names.relative(entry.link)
        said = f"{os.fsdecode(entry.name)!r} is a hard link to {os.fsdecode(entry.link)!r}"
        if not target or (target + b"/").startswith(path + b"/"):
            self._refuse(f"{said}, which can't be")
        found = self._row(target)
        if found is None:
            self._refuse(f"{said}, which this root does not have, or only through a symbolic link")
        if found.kind == DIRECTORY:
            self._refuse(f"{said}, which is a folder")
        return found._replace(facts=self._mark + found.facts[-32:], layer=self.layers, member=self.layers)

    def _content(self, entry: Entry, tar: AnyTar) -> bytes:
        """The hash of a file's content. Holes are zeros, so that it does not matter how the tar stores them."""
        found = hashlib.sha256()
        for piece in tar.content(entry):
            if not isinstance(piece, Hole):
                found.update(piece)
            elif piece.size_bytes > _LONG_HOLE_BYTES:
                found.update(b"a hole of %d bytes" % piece.size_bytes)
            else:
                self._zeros += piece.size_bytes
                if self._zeros > LIMIT_BYTES:
                    raise CtkError(self._doing, because=f"its sparse files have more than {LIMIT_BYTES} bytes of holes")
                for left in range(piece.size_bytes, 0, -len(_ZEROS)):
                    found.update(_ZEROS[:left])
        return found.digest()

    # ---- whiteouts

    def _whiteout(self, white: names.Whiteout) -> None:
        if white.name is None:
            return
        if not white.name:
            if not self._is_below_link(white.above):
                self._purge(self._folder(white.above))
            return
        path = join(white.above, white.name)
        found = self._row(path)
        if found and found.layer < self.layers:
            self._remove(path)
        elif found:
            self._purge(path)

    def _is_below_link(self, path: bytes) -> bool:
        """Whether there is a symbolic link on the way to `path`, or at its end."""
        while path:
            found = self._row(path)
            if found and found.kind == SYMLINK:
                return True
            path = path.rpartition(b"/")[0]
        return False

    def _purge(self, path: bytes) -> None:
        """Remove what the layers below have in a folder; what is this layer's stays."""
        self._known.clear()
        self._run(f"DELETE FROM {self._table} WHERE {_BELOW} AND layer < :layer", _range(path) | {"layer": self.layers})

    def _remove(self, path: bytes) -> None:
        self._known.clear()
        self._run(f"DELETE FROM {self._table} WHERE path = :path OR ({_BELOW})", _range(path) | {"path": path})

    # ---- folders

    def _folder(self, above: bytes) -> bytes:
        """The real path of the folder `above`, made if it is missing, and from now on this layer's."""
        real = self._known.get(above)
        if real is not None:
            return real
        real = names.followed(above, self._step)
        path = real
        while True:
            self._run(
                f"UPDATE {self._table} SET layer = :layer WHERE path = :path AND layer < :layer",
                {"path": path, "layer": self.layers},
            )
            if not path:
                break
            path = path.rpartition(b"/")[0]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[above] = real
        return real

    def _step(self, above: bytes, word: bytes) -> names.Link | None:
        """The link `word` in the folder `above`; None for a folder, made if it is missing."""
        path = join(above, word)
        found = self._row(path)
        if found and found.kind == DIRECTORY:
            return None
        if found and found.kind == SYMLINK:
            return names.Link(found.link, found.layer == self.layers)
        if found and found.layer == self.layers:
            self._refuse(f"{os.fsdecode(path)!r}: the layer has members below it, and it is no folder")
        if len(word) > _NAME_BYTES or len(path) > _PATH_BYTES:
            self._refuse(f"{os.fsdecode(path[:80])!r}…: {os.strerror(errno.ENAMETOOLONG).lower()}")
        entry = Entry(path, DIRECTORY, 0)
        entry.mode = 0o755
        self._set(path, Row(DIRECTORY, _facts(entry, b"", self._times), b"", self.layers, 0))
        return None

    # ---- the table

    def _row(self, path: bytes) -> Row | None:
        found = self._database.execute(self._select, (path,)).fetchone()
        return None if found is None else Row(*found)

    def _added(self, path: bytes, row: Row) -> bool:
        """Add a path; False if it is there. Most members are new, and need no other look at the table."""
        return self._database.execute(self._insert, (path, *row)).rowcount == 1

    def _set(self, path: bytes, row: Row) -> None:
        self._database.execute(self._replace, (path, *row))

    def _run(self, statement: str, values: dict[str, object]) -> sqlite3.Cursor:
        return self._database.execute(statement, values)

    def _refuse(self, because: str) -> NoReturn:
        raise Malformed(self._doing, because=because)


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _range(path: bytes) -> dict[str, object]:
    """Between which keys all paths below `path` are: they begin with it and a slash, and the next character is 0."""
    return {"first": path + b"/", "last": path + b"0"} if path else {"first": b"", "last": b"\xff" * (_NAME_BYTES + 1)}


def _facts(entry: Entry, content: bytes, times: bool) -> bytes:
    """The hash of all that is compared."""
    kind = entry.kind
    whole = (
        kind,
        entry.uid,
        entry.gid,
        kind != SYMLINK and entry.mode,  # a link's own mode is always 0777
        kind == FILE and entry.size_bytes,
        kind in (CHARACTER, BLOCK) and (entry.major, entry.minor),
        kind == DIRECTORY and times and entry.mtime_ns,
        entry.link if kind == SYMLINK else content,
        sorted((name, value) for name, value in entry.xattrs.items() if _counts(name)) if entry.xattrs else [],
    )
    return hashlib.sha256(repr(whole).encode()).digest()


def _counts(xattr: str) -> bool:
    return xattr.startswith(XATTRS) and not xattr.startswith("user.overlay.")
