"""Every reader of a file that a stranger may have made: bounded, and no fifo, device or folder holds it up (S54).

containers/storage CVE-2024-9676: a fifo for /etc/passwd held the engine for ever, a sparse file filled its memory.
"""

import os
import resource
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from toolkit.bootstrap.acquire import mirrors, repositories
from toolkit.bootstrap.compat import second_stage
from toolkit.bootstrap.facts.debootstrap_files import FOLDER
from toolkit.bootstrap.facts.hooks_config import _file_or
from toolkit.bootstrap.facts.model import Request
from toolkit.bootstrap.output import builds_in_progress, target
from toolkit.bootstrap.plan import load_sources
from toolkit.bootstrap.resolve import lockfile, package_files
from toolkit.bundle import build, document, image, rights
from toolkit.errors import CtkError
from toolkit.explain import check, program
from toolkit.explain import launch as explained
from toolkit.fetch import verify
from toolkit.fetch.http import Client
from toolkit.image import layout
from toolkit.image.name import locate
from toolkit.kernel import reading
from toolkit.places import shipped
from toolkit.recipe import progress, shelf
from toolkit.recipe.model import Recipe
from toolkit.runtime import launch
from toolkit.runtime import record as records
from toolkit.runtime.verbs import exec as exec_
from toolkit.runtime.verbs import update
from toolkit.up import bundle

pytestmark = pytest.mark.timeout(30)


class Options(SimpleNamespace):
    """What a verb was given; everything else is not."""

    def __getattr__(self, name: str) -> str:
        return ""


MORE: dict[str, Any] = {"user": "1", "env": ["A=b"], "cap": ["CHOWN"], "additional_gids": [1]}


def options(**given: Any) -> Any:
    return Options(given=(), **given)


def wanting(sources: str) -> Request:
    return Request("bookworm", "", source_files=(sources,))


def record(path: Path) -> records.Record:
    made = records.Record(str(path.parent.parent), "web")
    return records.load(made.root, "web")


def programs(path: Path) -> Any:
    if not path.is_symlink():
        path.chmod(0o755)
    spec = {"root": {"path": str(path.parent)}, "process": {"args": ["/" + path.name]}}
    return program.findings(spec, str(path.parent))


def homes(path: Path) -> Any:
    return explained._home(Options(spec={"root": {"path": str(path.parent.parent)}}, bundle=str(path.parent)))


def marked(folder: Path) -> str:
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(folder)


def first_of(place: str) -> Any:
    source = layout.open_source(locate(place))
    try:
        return source.manifest()
    finally:
        source.close()


A_RECIPE = Recipe("a", "", "", (), shipped("recipes") + "/a.md")
# What reads it: where it is below a folder, and how. A reader says so in our words, or takes the file for none.
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config.json of a bundle": ("config.json", lambda path: document.read(str(path.parent))),
    "config.json to run": ("config.json", lambda path: launch.read_bundle(options(bundle=str(path.parent)))),
    "config.json to explain": ("config.json", lambda path: check.read(str(path.parent))),
    "a bundle's program": ("fs/p", lambda path: {one.code for one in programs(path)} - {"E202", "E203", "E207"}),
    "an image's users": ("fs/etc/passwd", lambda path: homes(path) != "/"),
    "exec --process": ("p.json", lambda path: exec_._process(options(process=str(path), **MORE), {})),
    "update --resources": ("r.json", lambda path: update._from_document(str(path))),
    "a record": ("root/web/state.json", record),
    "a record's config.json": ("root/web/config.json", lambda path: record(path).config()),
    "a recipe": ("01-a.md", lambda path: shelf.load(str(path))),
    "a recipe's progress": ("ctk/recipes/a.json", lambda path: progress.load(A_RECIPE)),
    "a lock": ("lock.json", lambda path: lockfile.load(str(path))),
    "--seccomp": ("profile.json", lambda path: rights.seccomp_profile(str(path))),
    "--env-file": ("env", lambda path: list(build._env_files((str(path),)))),
    "os-release": ("etc/os-release", lambda path: mirrors._os_release(str(path.parent.parent))),
    "sources.list": ("etc/apt/sources.list", lambda path: mirrors.host_sources(str(path.parent.parent.parent))),
    "--include-file": ("words", lambda path: load_sources._read(str(path), "--include-file")),
    "--sources": ("a.sources", lambda path: list(repositories.further(wanting(str(path)), None, "amd64"))),
    "a list": ("list", lambda path: _file_or(str(path))),
    "a package": ("a.deb", lambda path: package_files.read(str(path), 0, "amd64")),
    "a keyring": ("a.gpg", lambda path: verify.load_keyring(str(path))),
    "a mirror's file": ("Release", lambda path: Client().read(str(path), limit=1000)),
    "an image's index": ("index.json", lambda path: image.read(marked(path.parent))),
    "a layout's marker": ("oci-layout", lambda path: image.read(str(path.parent))),
    "an image's archive": ("image.tar", lambda path: first_of(f"oci-archive:{path}")),
    "docker's archive": ("image.tar", lambda path: first_of(f"docker-archive:{path}")),
    "a bundle's marker": ("ctk-up.json", lambda path: bundle.read_marker(str(path.parent))),
    "a bundle's file": ("config.json", lambda path: bundle.file_id(str(path))),
    "a tree's result": (".fs.ctk.json", lambda path: target.read_result(str(path.parent / "fs"))),
    "a first stage": (f"fs/{FOLDER}/suite", lambda path: second_stage.read_facts(str(path.parent.parent))),
    "a build's note": ("ctk/building/x", lambda path: builds_in_progress.targets()),
}  # fmt: skip
KINDS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terabytes": lambda path: (path.touch(), os.truncate(path, 1 << 42)),
}


@pytest.fixture
def memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    for name in ("CTK_DATA", "CTK_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "ctk"))

    def make(name: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, mode=0o755, exist_ok=True)
        (tmp_path / "fs").mkdir(exist_ok=True)
        return path

    return make


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("reader", READERS)
def test_s54_no_file_holds_a_reader_up(reader: str, place: Callable[[str], Path]) -> None:
    name, read = READERS[reader]
    for kind, plant in KINDS.items():
        path = place(name)
        plant(path)
        try:
            found = read(path)
        except CtkError as error:
            assert str(error), kind
        except OSError as error:  # what the doors tell with the file's name
            assert error.filename, kind
        else:
            assert not found or isinstance(found, records.Record) or found == (str(path),), (kind, found)
        path.rmdir() if kind == "folder" else path.unlink()


BROKEN = [
    "[" * 100_000, '{"user": 7}', '{"capabilities": {"bounding": 7}}', '{"user": {"additionalGids": {}}, "env": 7}',
    '{"a":' * 990 + "null" + "}" * 990, '{"a":' * 50_000, "7", '"x"', "null", "[]", "[7]", "{", "",
    "NaN",
    '{"a": ' + "9" * 5000 + "}", "\udcff", '{"packages": 7}', '{"packages": [7]}', '{"lock": {"packages": [[]]}}',
    '{"step": [], "work": {}, "folders": 7, "room": []}', '{"manifests": {}}', '{"defaultAction": []}',
]  # fmt: skip
DOCUMENTS = [name for name in READERS if READERS[name][0].endswith(".json") and name != "a bundle's file"]


@pytest.mark.parametrize("reader", DOCUMENTS)
def test_s54_broken_json_is_one_error(reader: str, place: Callable[[str], Path]) -> None:
    name, read = READERS[reader]
    for text in BROKEN:
        path = place(name)
        path.write_bytes(text.encode(errors="surrogateescape"))
        try:
            read(path)
        except (CtkError, FileNotFoundError) as error:
            assert len(str(error)) < 400, text[:50]


def test_s54_a_pipe_that_was_handed_over_is_read_to_its_end(tmp_path: Path) -> None:
    """`--process <(…)` of a shell is a name like this; a fifo that merely lies about is none."""
    reader, writer = os.pipe()
    os.write(writer, b'{"args": ["sh"], "cwd": "/"}')
    os.close(writer)
    assert exec_._process(options(process=f"/dev/fd/{reader}"), {})["args"] == ["sh"]
    os.close(reader)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        reading.named(str(tmp_path / "fifo"))


def test_s54_a_file_that_grows_meanwhile_has_a_bound_too(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    fd = reading.open_file(str(path), limit_bytes=100)
    path.write_bytes(b"x" * 200)
    with pytest.raises(OSError, match="too large"):
        reading.whole(fd, str(path), 100)
    os.close(fd)


def elf(*, table: int = 64, entries: int = 1, size: int = 56, offset: int = 120, length: int = 10) -> bytes:
    """The head of a 64 bit program for this machine, with one entry that names its loader (elf(5))."""
    head = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, table, 0, 0, 64, size, entries, 64, 0, 0)
    return b"\x7fELF\x02\x01\x01" + bytes(9) + head + struct.pack("<IIQQQQQQ", 3, 4, offset, 0, 0, length, length, 1)


@pytest.mark.parametrize(
    "head",
    [
        elf(length=1 << 62), elf(length=1 << 63), elf(length=1 << 36), elf(offset=1 << 63), elf(table=(1 << 63) + 5),
        elf(table=1 << 40, entries=65535, size=65535), elf()[:70], elf()[:20],
    ],
)  # fmt: skip
def test_s54_a_program_whose_header_lies_is_looked_at_all_the_same(head: bytes, tmp_path: Path, memory: None) -> None:
    (tmp_path / "p").write_bytes(head)
    os.truncate(tmp_path / "p", 1 << 37)
    assert isinstance(programs(tmp_path / "p"), list)
