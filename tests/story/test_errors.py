"""What goes wrong for a user: each time one clear error, in two lines at most, and nothing is left."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import debs, user
from tests.fixtures.archive import Archive, Key, Suite
from tests.fixtures.command import Bundle, Command, Result, tool
from tests.fixtures.server import FileServer
from tests.fixtures.terminal import Terminal

pytestmark = pytest.mark.root

PACKAGES = ("base-files", "dpkg", "libc6", "mawk", "apt")


def one_error(result: Result, doing: str, because: str, hint: str = "") -> None:
    """The house's form: what we did, what stopped us, and what to try on a line of its own."""
    assert result.rc == 1, result
    lines = [line for line in result.err.splitlines() if not line.startswith("ctk: [")]  # stages that went well
    assert "Traceback" not in result.err and 1 <= len(lines) <= 2, result.err
    assert lines[0].startswith("ctk: ") and doing in lines[0] and because in lines[0], result.err
    assert lines[0] == lines[0].rstrip() and ": " in lines[0][5:], result.err
    assert lines[1:] == [] if not hint else lines[1].startswith("hint: ") and hint in lines[1], result.err


def on_a_terminal(terminal: Callable[..., Terminal], ctk: Command, *words: str, cwd: "Path | None" = None) -> Result:
    """The runtime's verbs speak to a person only on a terminal; to engines they write log lines."""
    one = terminal(ctk.argv(*words), env={**ctk.environment, "TERM": "dumb"}, cwd=str(cwd) if cwd else None)
    rc = one.wait()
    return Result(tuple(words), rc, "", one.shown.replace("\r\n", "\n"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """Suite bookworm of five packages that hold nothing: it fails, if at all, before they would matter."""
    archive = Archive(tmp_path_factory.mktemp("archive"))
    made = [
        debs.make({"Package": name, "Priority": "required", "Essential": "yes"}, {f"./usr/share/{name}": name * 999})
        for name in PACKAGES
    ]
    archive.publish(Suite("bookworm", "bookworm", packages={"main": made}))
    return archive


@pytest.fixture
def mirror(files: Archive, tmp_path: Path) -> Iterator[tuple[FileServer, Archive]]:
    """A copy of the archive that the test may spoil, on a server of its own."""
    shutil.copytree(files.folder, tmp_path / "archive")
    archive = Archive(tmp_path / "archive", files.key)
    with FileServer(archive.folder).running() as server:
        yield server, archive


def bootstrap(ctk: Command, target: Path, mirror: tuple[FileServer, Archive], *more: str) -> Result:
    server, archive = mirror
    words = ["bootstrap", "bookworm", str(target), "--mirror", server.url, "--keyring", str(archive.keyring), *more]
    return ctk(*words, "--variant", "minbase", env={"CTK_CACHE": str(target.parent / "cache")}, timeout=120)


def nothing_made(target: Path) -> None:
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(f".{target.name}")] == []


@pytest.mark.parametrize(
    ("wrong", "near"), [("bookwrom", "bookworm"), ("trixi", "trixie"), ("jamy", "jammy"), ("stabel", "stable")]
)
def test_an_unknown_suite_gets_near_names(wrong: str, near: str, ctk: Command, tmp_path: Path) -> None:
    result = ctk("bootstrap", wrong, "./fs", cwd=tmp_path)
    one_error(result, f"find suite '{wrong}'", f"did you mean '{near}'", "--mirror URL")
    nothing_made(tmp_path / "fs")


def test_an_unreachable_mirror(ctk: Command, tmp_path: Path) -> None:
    with FileServer(tmp_path).running() as server:
        port = server.port  # nobody listens there in a moment
    for url, because in (
        (f"http://127.0.0.1:{port}", "connection refused"),
        ("http://no-such-host.invalid/debian", "name"),
        (str(tmp_path / "nowhere"), "no such file"),
    ):
        result = ctk("bootstrap", "bookworm", "./fs", "--mirror", url, cwd=tmp_path, timeout=120)
        one_error(result, "fetch " if "://" in url else "", because, "--mirror")
        assert url in result.err
        nothing_made(tmp_path / "fs")


def test_a_mirror_without_the_suite(ctk: Command, tmp_path: Path, mirror: tuple[FileServer, Archive]) -> None:
    server, archive = mirror
    words = ["bootstrap", "trixie", "./fs", "--mirror", server.url, "--keyring", str(archive.keyring)]
    one_error(ctk(*words, cwd=tmp_path), "trixie", "404", "--mirror")
    nothing_made(tmp_path / "fs")


def test_a_bad_signature(ctk: Command, tmp_path: Path, mirror: tuple[FileServer, Archive]) -> None:
    _, archive = mirror
    release = archive.release("bookworm")
    dists = archive.folder / "dists/bookworm"
    signed = (dists / "InRelease").read_bytes()
    spoilt = signed.replace(b"Version: 12", b"Version: 13")
    assert spoilt != signed
    (dists / "InRelease").write_bytes(spoilt)
    target = tmp_path / "fs"
    check, read = "check the signature of the Release of 'bookworm'", "read the Release of 'bookworm'"
    for step, doing, because, hint in (
        ("changed", check, "is not good: the file was changed", "--keyring"),
        ("stranger's", check, "no good signature by a key of", "--keyring"),
        ("unsigned", read, "does not begin with a signed message", "a proxy"),
        ("detached", check, "the suite is not signed", "--no-check-gpg"),
    ):
        if step == "stranger's":
            archive.sign("bookworm", release, Key("Somebody else <else@example.invalid>"))
        elif step == "unsigned":
            (dists / "InRelease").write_bytes(release)
        elif step == "detached":
            (dists / "InRelease").unlink()
            (dists / "Release.gpg").unlink()
        one_error(bootstrap(ctk, target, mirror), doing, because, hint)
        nothing_made(target)
    assert not mirror[0].asked(r"Packages|\.deb$")  # nothing was believed


def test_a_wrong_hash_of_an_index(ctk: Command, tmp_path: Path, mirror: tuple[FileServer, Archive]) -> None:
    mirror[0].misbehave(r"Packages|by-hash", "corrupt")
    result = bootstrap(ctk, tmp_path / "fs", mirror)
    one_error(result, "check http", "its SHA-256 is", "--mirror")
    nothing_made(tmp_path / "fs")
    assert not mirror[0].asked(r"\.deb$")


def test_a_wrong_hash_of_a_package(ctk: Command, tmp_path: Path, mirror: tuple[FileServer, Archive]) -> None:
    mirror[0].misbehave(r"/mawk_.*\.deb$", "corrupt")
    result = bootstrap(ctk, tmp_path / "fs", mirror)
    one_error(result, "check package 'mawk'", "its SHA-256 is", "--mirror")
    nothing_made(tmp_path / "fs")


def test_a_full_disk(ctk: Command, tmp_path: Path, mirror: tuple[FileServer, Archive]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=16k", "none", disk], check=True)
    try:
        server, archive = mirror
        words = ["bootstrap", "bookworm", str(disk / "fs"), "--mirror", server.url, "--keyring", str(archive.keyring)]
        result = ctk(*words, "--variant", "minbase", env={"CTK_CACHE": str(tmp_path / "cache")}, timeout=120)
        assert result.rc == 1 and "Traceback" not in result.err and result.err.startswith("ctk: "), result.err
        assert "space" in result.err or "needs about" in result.err, result.err
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run([tool("umount"), disk], check=True)


def test_a_full_disk_keeps_no_half_of_a_config(ctk: Command, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=16k", "none", disk], check=True)
    try:
        with pytest.raises(OSError), open(disk / "full", "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for options in ((), ("--hostname", "box")):
            refused = ctk("spec", *options, cwd=disk)
            assert refused.rc == 1 and "no space left on device" in refused.err, refused
        assert [path.name for path in disk.iterdir()] == ["full"]
    finally:
        subprocess.run([tool("umount"), disk], check=True)


def test_a_container_without_a_root_leaves_no_folder(ctk: Command, tmp_path: Path) -> None:
    bundle = tmp_path / "new/bundle"
    words = ("up", "bookworm", ctk.id(), "--bundle", str(bundle), "--mirror", f"file://{tmp_path}/nothing")
    assert ctk(*words).rc == 1
    assert not bundle.exists()


@pytest.mark.root
def test_an_id_outside_of_the_map_is_named_by_run_and_check_and_spec_leaves_it_out(
    ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]
) -> None:
    def one_id(config: dict[str, Any]) -> None:
        only = [{"containerID": 0, "hostID": 0, "size": 1}]
        config["linux"] |= {"uidMappings": only, "gidMappings": only}
        config["linux"]["namespaces"].append({"type": "user"})

    busybox_bundle.edit(one_id)
    done = on_a_terminal(terminal, ctk, "run", "--bundle", str(busybox_bundle), ctk.id())
    one_error(done, "mount 'devpts'", "invalid argument", "'gid=5' names an id")
    assert "E127" in ctk("check", str(busybox_bundle)).out
    ctk("spec", "--update", "--gid-map", "0:0:1", cwd=str(busybox_bundle)).ok()
    assert "E127" not in ctk("check", str(busybox_bundle)).out
    ctk("run", "--bundle", str(busybox_bundle), ctk.id()).ok()


def test_neither_root_nor_a_user_namespace(ctk: Command, tmp_path: Path, busybox_bundle: Bundle) -> None:
    """An ordinary user on a host that has switched user namespaces off."""
    ctk("spec", "--rootless", "--force", "--bundle", str(busybox_bundle), cwd=busybox_bundle.path).ok()
    busybox_bundle.args("/bin/true")
    # The limit counts for the namespaces below the one that it is set in: nobody else's host is changed.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --ambient-caps=-all --inh-caps=-all "$@"'
    forbidding = [tool("unshare"), "--user", "--map-current-user", "--keep-caps", "sh", "-c", forbid, "sh"]
    state = tmp_path / "user-state"
    state.mkdir()
    shutil.chown(state, user.ID, user.ID)
    for path in (busybox_bundle.path, busybox_bundle.path / "config.json"):
        shutil.chown(path, user.ID, user.ID)
    words = ["--root", str(state), "run", "--bundle", str(busybox_bundle), "forbidden"]
    argv = [*user.prefix(str(busybox_bundle), subordinate_ids=0), *forbidding, ctk.program, *words]
    environment = {**ctk.environment, "CTK_CACHE": str(state / ".cache")}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60)
    print(done)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and "user namespace" in done.stderr, done.stderr
    assert list(state.iterdir()) == []


def test_a_missing_rootfs(
    ctk: Command, busybox_bundle: Bundle, state_root: str, terminal: Callable[..., Terminal]
) -> None:
    shutil.rmtree(busybox_bundle.rootfs)
    for verb in ("create", "run"):
        result = on_a_terminal(terminal, ctk, verb, "none", cwd=busybox_bundle.path)
        one_error(result, f"use '{busybox_bundle.rootfs}' as the root", "no such file or directory", "ctk bootstrap")
    assert not Path(state_root, "none").exists()


def test_a_missing_bundle_and_a_verb_for_an_id(ctk: Command, tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    result = on_a_terminal(terminal, ctk, "run", "some", cwd=tmp_path)
    one_error(result, "open config.json", "no such file or directory", "ctk spec")
    result = on_a_terminal(terminal, ctk, "run", "list", cwd=tmp_path)
    one_error(result, "open config.json", "no such file or directory", "did you mean `ctk list`?")


@pytest.mark.parametrize("word", ["nosuchprogram", "/bin/nosuchprogram", "/etc/passwd", "/etc"])
def test_a_missing_command_in_the_container(
    word: str, ctk: Command, busybox_bundle: Bundle, state_root: str, terminal: Callable[..., Terminal]
) -> None:
    because = {"nosuchprogram": "not found in $PATH", "/etc/passwd": "permission denied", "/etc": "is a directory"}
    busybox_bundle.args(word)
    for verb in ("create", "run"):
        result = on_a_terminal(terminal, ctk, verb, "none", cwd=busybox_bundle.path)
        assert result.err.startswith("ctk: "), result
        one_error(
            result,
            f'exec: "{word}"',
            because.get(word, "no such file or directory"),
            result.err.partition("hint: ")[2].strip(),
        )
        assert not Path(state_root, "none").exists()


def test_an_id_in_use(ctk: Command, busybox_bundle: Bundle, terminal: Callable[..., Terminal]) -> None:
    ctk("create", "taken", cwd=str(busybox_bundle)).ok()
    try:
        for verb in ("create", "run"):
            result = on_a_terminal(terminal, ctk, verb, "taken", cwd=busybox_bundle.path)
            one_error(result, "already exists", '"taken"', "ctk delete --force taken")
        assert ctk("state", "taken").json()["status"] == "created"
    finally:
        ctk("delete", "--force", "taken").ok()


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "pause", "ps"])
def test_an_id_that_is_not_there(verb: str, ctk: Command, terminal: Callable[..., Terminal]) -> None:
    one_error(on_a_terminal(terminal, ctk, verb, "nobody"), "container does not exist", '"nobody"', "ctk list")


def test_a_name_in_an_error_is_written_as_it_is(ctk: Command, busybox_bundle: Bundle) -> None:
    inside_sys = {"destination": "/sys/NewPlace", "type": "bind", "source": "/tmp", "options": ["bind"]}
    busybox_bundle.edit(lambda config: config["mounts"].append(inside_sys))
    done = ctk("run", ctk.id(), cwd=busybox_bundle.path)
    assert done.rc == 1 and "mkdir -p /sys/NewPlace: read-only file system" in done.err
