"""The file of compiled modules is used when it is fresh, renewed when it is not, and never in the way."""

import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit import images_of_verbs, precompile, preload

TOOLKIT = Path(__file__).resolve().parent.parent.parent / "toolkit"
SHOW = """
import sys
sys.path.insert(0, {folder!r})
sys.argv = ["ctk", "state", "nosuch"]
import os
end = os._exit
def exit(code):
    from toolkit import preload
    from toolkit.runtime import record
    given = [n for n, m in sys.modules.items() if n.startswith("toolkit.") and m.__spec__ is None]
    os.write(1, repr((len(given), getattr(record, "MARK", 0))).encode())
    end(code)
os._exit = exit
from toolkit.__main__ import main
main()
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(TOOLKIT, tmp_path / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def state(copy: Path) -> tuple[int, int]:
    """(how many modules came from the file, what the module `record` is marked with)."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SHOW.format(folder=str(copy))],
        capture_output=True,
        text=True,
        env={**os.environ, "CTK_ROOT": str(copy / "root")},
    )
    assert done.returncode == 1 and "does not exist" in done.stderr, done.stderr
    result: tuple[int, int] = eval(done.stdout)
    return result


def file_of(copy: Path) -> Path:
    return copy / f"toolkit/__pycache__/hot.{sys.implementation.cache_tag}.bin"


def test_the_second_call_reads_what_the_first_wrote(copy: Path) -> None:
    assert state(copy)[0] == 0
    assert file_of(copy).is_file()
    assert state(copy)[0] > 8


def test_a_changed_source_counts_at_once(copy: Path) -> None:
    state(copy)
    with open(copy / "toolkit/runtime/record.py", "a") as source:
        source.write("\nMARK = 7\n")
    assert state(copy)[1] == 7  # found stale
    assert state(copy) == (state(copy)[0], 7)  # written anew
    assert state(copy)[0] > 8


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xfb\x02" + bytes(10)])
def test_a_damaged_file_does_no_harm(copy: Path, damage: bytes) -> None:
    state(copy)
    file_of(copy).write_bytes(damage)
    assert state(copy)[0] == 0
    assert state(copy)[0] > 8


def test_the_order_holds_what_a_verb_imports(copy: Path) -> None:
    """Else the import system fetches the rest one by one, and the file hardly helps."""
    state(copy)
    script = f"""
import sys
sys.path.insert(0, {str(copy)!r})
from toolkit import preload
for name in ("toolkit.runtime.main", "toolkit.runtime.verbs.run"):
    preload.load(name)
before = set(sys.modules)
import toolkit.runtime.verbs.run
ours = [n for n in before if n.startswith("toolkit.") and n != "toolkit.preload"]
print(
    sorted(n for n in set(sys.modules) - before if n.startswith("toolkit")),
    [n for n in ours if sys.modules[n].__spec__ is not None],
)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_the_order_holds_what_an_image_needs_to_be_run(copy: Path) -> None:
    """Beside the runtime's own modules, which it needs, too; what is not read with them comes by the finder."""
    state(copy)
    script = f"""
import sys
sys.path.insert(0, {str(copy)!r})
from toolkit import preload
for name in ("toolkit.runtime.main", preload.RUN, preload.RUN_IMAGE):
    preload.load(name)
before = set(sys.modules)
import toolkit.cli.images.run
ours = [m for n, m in sys.modules.items() if n.startswith("toolkit.") and n != "toolkit.preload"]
loaders = {{type(m.__spec__.loader).__name__ for m in ours if m.__spec__ is not None}}
print(sorted(n for n in set(sys.modules) - before if n.startswith("toolkit")), loaders - {{"_Finder"}}, len(ours) > 80)
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[] set() True\n"


LATER = """
import os, sys
sys.path.insert(0, {folder!r})
from toolkit import preload
preload.load("toolkit.runtime.main")
{between}
from toolkit.runtime.cgroups import v2
from toolkit.runtime import seccomp
loaders = [type(m.__spec__.loader).__name__ for m in (v2, v2.files, seccomp)]
print(loaders, v2.__file__, seccomp.__path__, preload._stale)
"""


def later(copy: Path, between: str = "") -> str:
    """What is imported by the way after `load`: kinds of loaders, file, folder, whether the file is to be renewed."""
    script = LATER.format(folder=str(copy), between=between)
    return subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True).stdout


def test_what_functions_import_comes_from_the_file_too(copy: Path) -> None:
    state(copy)
    folder = copy / "toolkit/runtime"
    loaders = "['_Finder', '_Finder', '_Finder']"
    assert later(copy) == f"{loaders} {folder}/cgroups/v2.py ['{folder}/seccomp'] False\n"


def test_its_changed_source_counts_at_once(copy: Path) -> None:
    state(copy)
    with open(copy / "toolkit/runtime/cgroups/files.py", "a") as source:
        source.write("\nMARK = 7\n")
    said = later(copy)
    assert said.startswith("['_Finder', 'SourceFileLoader', '_Finder']") and said.endswith("True\n")


def test_a_file_replaced_under_way_is_not_read_by_the_old_index(copy: Path) -> None:
    state(copy)
    path = file_of(copy)
    # As another process renews it: the same bytes would be code at other places.
    between = (
        f"data = open({str(path)!r}, 'rb').read(); os.unlink({str(path)!r}); open({str(path)!r}, 'wb').write(data)"
    )
    assert later(copy, between).startswith("['SourceFileLoader', 'SourceFileLoader', 'SourceFileLoader']")


def test_a_copy_has_a_file_of_its_own(copy: Path, tmp_path: Path) -> None:
    """Times and sizes go with the copy (cp -a); the code that it runs is its own, whatever becomes of the first."""
    state(copy)
    other = tmp_path / "other"
    other.mkdir()
    shutil.copytree(copy / "toolkit", other / "toolkit")
    assert (
        os.stat(other / "toolkit/runtime/record.py").st_mtime_ns
        == os.stat(copy / "toolkit/runtime/record.py").st_mtime_ns
    )
    source = other / "toolkit/runtime/record.py"
    source.write_text(source.read_text() + "\nMARK = 7\n")
    assert state(other) == (0, 7) and state(other)[0] > 8 and state(other)[1] == 7
    assert state(copy)[1] == 0
    shutil.rmtree(copy / "toolkit")
    assert later(other).count("_Finder") == 3 and str(copy / "toolkit") not in later(other)


def test_a_folder_that_moved_compiles_anew(copy: Path, tmp_path: Path) -> None:
    state(copy)
    (tmp_path / "moved").mkdir()
    (copy / "toolkit").rename(tmp_path / "moved/toolkit")
    assert state(tmp_path / "moved")[0] == 0 and state(tmp_path / "moved")[0] > 8


@pytest.mark.parametrize("kind", ["file", "folder", "owner"])
@pytest.mark.root
def test_what_others_may_write_to_is_not_read(copy: Path, kind: str) -> None:
    state(copy)
    path = file_of(copy)
    if kind == "owner":
        os.chown(path, 65534, 65534)
    else:
        (path if kind == "file" else path.parent).chmod(0o777)
    assert state(copy)[0] == (0 if kind != "folder" else state(copy)[0])
    if kind == "folder":  # a file of ours in it is ours, but nothing new is written there
        path.unlink()
        assert state(copy)[0] == 0 and not path.exists()
    else:
        assert state(copy)[0] > 8


def test_an_order_is_read_from_the_syntax_and_not_from_the_layout() -> None:
    source = """
import toolkit.a
from toolkit.b import c as d, e
from toolkit import (  # a comment (in brackets)
    f,
)
import os, toolkit.g
TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolkit.not_run import x
try:
    from toolkit.h import i
except ImportError:
    from toolkit.j import k

def later():
    from toolkit.left import y
"""
    assert list(precompile._imports(precompile._parsed(source).body, "it")) == [
        "toolkit.a", "toolkit.b", "toolkit.b.c", "toolkit.b.e", "toolkit", "toolkit.f", "toolkit.g", "toolkit.h",
        "toolkit.h.i", "toolkit.j", "toolkit.j.k",
    ]  # fmt: skip


EVERYDAY = """
import sys
sys.path.insert(0, {folder!r})
from toolkit import preload
for name in (preload.MAIN, preload.SECOND):
    preload.load(name)
from toolkit.cli import commands, declare
app = declare.App()
commands.register(app, {command!r})
preload.load_for(app.commands[{command!r}].function)
for name in {wanted!r}:
    __import__(name)
ours = {{n: m for n, m in sys.modules.items() if n.startswith("toolkit.") and n != "toolkit.preload"}}
print(len(ours), [n for n, m in ours.items() if m.__spec__ is not None])
"""
# Packages whose own code imports their modules: the import system does that, from the same file.
BY_THEMSELVES = {
    "images": [
        "toolkit.image.document.manifest", "toolkit.image.layout.index_json", "toolkit.image.layout.roots",
        "toolkit.image.layout.source", "toolkit.image.layout.folder",
    ],
}  # fmt: skip


def of_the_second_door(copy: Path, command: str, wanted: tuple[str, ...]) -> tuple[int, list[str]]:
    """(how many modules there are, which of them did not come with a group) before `command` is run."""
    script = EVERYDAY.format(folder=str(copy), command=command, wanted=wanted)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, _, names = done.stdout.partition(" ")
    return int(count), eval(names)


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        ("logs", ("toolkit.runtime.comfort.logs",)), ("attach", ("toolkit.runtime.comfort.attach",)),
        ("stop", ("toolkit.runtime.comfort.stopping",)), ("restart", ("toolkit.runtime.comfort.stopping",)),
        ("rm", ("toolkit.runtime.comfort.stopping",)), ("cp", ("toolkit.runtime.comfort.copying",)),
        ("inspect", ("toolkit.observe.inspection", "toolkit.ui.tables")),
        ("stats", ("toolkit.observe.rows", "toolkit.ui.tables", "toolkit.ui.keys")), ("top", ("toolkit.observe.rows",)),
        ("images", ("toolkit.image.store.listing", "toolkit.ui.quantity")),
    ],
)  # fmt: skip
def test_an_everyday_command_comes_from_the_file_as_one(copy: Path, command: str, wanted: tuple[str, ...]) -> None:
    state(copy)
    count, one_by_one = of_the_second_door(copy, command, wanted)
    assert count > 20
    kernel = {name for name in one_by_one if name.startswith("toolkit.kernel")} if command == "images" else set()
    assert set(one_by_one) == {*BY_THEMSELVES.get(command, []), *kernel}


def test_the_second_door_writes_the_file_too(copy: Path) -> None:
    def call() -> None:
        script = f"import sys; sys.path.insert(0, {str(copy)!r}); sys.argv = ['ctk', 'logs', 'nosuch']\n"
        script += "from toolkit.__main__ import main; main()"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True,
            env={**os.environ, "CTK_ROOT": str(copy / "root")},
        )  # fmt: skip
        assert done.returncode == 1 and "does not exist" in done.stderr

    call()
    first = file_of(copy).stat()
    call()
    assert file_of(copy).stat().st_ino == first.st_ino
    with open(copy / "toolkit/cli/plain.py", "a") as source:
        source.write("\n")
    call()
    assert file_of(copy).stat().st_ino != first.st_ino
    assert of_the_second_door(copy, "logs", ("toolkit.runtime.comfort.logs",))[1] == []


@pytest.mark.root
@pytest.mark.parametrize("folder", ["recipe", "cli/options", "explain"])
def test_no_other_folder_of_compiled_code_is_trusted_blindly(copy: Path, folder: str) -> None:
    """What is not in the file has Python's own compiled code, and others must not be able to write that either."""
    bitten = copy / "bitten"
    script = f"import sys; sys.path.insert(0, {str(copy)!r}); from toolkit import preload; preload.load(preload.MAIN)\n"
    script += f"import toolkit.{folder.replace('/', '.')}"

    def call() -> None:
        subprocess.run([sys.executable, "-I", "-S", "-c", script], check=True)

    state(copy)
    call()
    kept = copy / f"toolkit/{folder}/__pycache__"
    (module,) = kept.glob("__init__.*.pyc")
    head = module.read_bytes()[:16]
    module.unlink()
    module.write_bytes(head + marshal.dumps(compile(f"open({str(bitten)!r}, 'w')", "x", "exec")))
    kept.chmod(0o777)
    call()
    assert not bitten.exists()
    kept.chmod(0o755)  # the control: such a file is what Python would run
    call()
    assert bitten.exists()


# A Python that begins as for `ctk VERB` of a copy, and then does something else.
BEGIN = """
import sys
sys.argv = ["launch.py", {command!r}, {verb!r}]
launch = open({launch!r}).read()
exec(compile(launch.replace("from toolkit.__main__ import main", "def main(): pass"), "launch.py", "exec"))
{then}
"""
LAUNCH = TOOLKIT.parent / "scripts/launcher/launch.py"


def begun(copy: Path, verb: str, then: str) -> str:
    """What it says."""
    (copy / "bin").mkdir(exist_ok=True)
    script = BEGIN.format(command=f"{copy}/bin/ctk", verb=verb, launch=str(LAUNCH), then=then)
    done = subprocess.run([sys.executable, "-I", "-S", "-X", "utf8", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOOK = """
from toolkit import lean_os, preload
import os
assert os is lean_os
ours = {name: module for name, module in sys.modules.items() if name.startswith("toolkit")}
late = [name for name, module in ours.items() if "__getattr__" in vars(module) and module is not os]
__import__("toolkit.runtime.verbs." + sys.argv[1])
assert not [name for name in sys.modules if name.startswith("toolkit") and name not in ours]
for name in late:
    assert not hasattr(ours[name], "nosuch") and "__getattr__" not in vars(ours[name])
fetched = 0
def look(module, found):
    global fetched
    for each in list(vars(found).values()):
        if type(each) is type(look) and each.__module__ == module and "__thaw__" in each.__code__.co_names:
            offset, length, name = [one for one in each.__code__.co_consts if one is not None]
            code, stand_in = preload._read((offset, length)), each.__code__
            assert (code.co_filename, code.co_qualname) == (stand_in.co_filename, name)
            assert preload._compiled_function(code.co_filename, stand_in).co_code == code.co_code
            target = ours[module]
            for part in name.split("."):
                target = vars(target)[part]
            assert target is each, name
            fetched += 1
        elif type(each) is type and each.__module__ == module:
            look(module, each)
for name, module in ours.items():
    look(name, module)
print(len(late), fetched)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its file, for tests that change neither."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(TOOLKIT, folder / "toolkit", ignore=shutil.ignore_patterns("__pycache__"))
    state(folder)
    return folder


def test_a_module_comes_behind_its_packages() -> None:
    """delete ended with a KeyError: its list named modules of a package that it did not name."""
    names = ["toolkit.kernel.program.program", "toolkit.text", "toolkit.kernel.program"]
    packages = ["toolkit", "toolkit.kernel", "toolkit.kernel.program"]
    assert images_of_verbs.with_packages(names) == [*packages, "toolkit.kernel.program.program", "toolkit.text"]


@pytest.mark.parametrize("verb", preload.IMAGES)
def test_an_image_has_all_that_its_verb_imports(written: Path, verb: str) -> None:
    """And each function that it leaves out can be fetched, and is the one of its name."""
    copy = written
    late, fetched = map(int, begun(copy, verb, LOOK).split())
    assert late > 0 and fetched > 20


AWAY = """
import os
from toolkit import preload
preload.leave_files()
os.chroot({empty!r})
try:
    import colorsys
except ImportError:
    pass
"""


@pytest.mark.root
@pytest.mark.parametrize("verb", ["delete", "state"])  # those of run need modules of Python's, too
def test_who_leaves_the_files_takes_code_from_the_open_one_only(written: Path, tmp_path: Path, verb: str) -> None:
    """A function that was left out of an image was read by its path, in whatever root the process had by then."""
    (empty := tmp_path / "empty").mkdir()
    source = "            assert preload._compiled_function(code.co_filename, stand_in).co_code == code.co_code\n"
    assert source in LOOK
    away = AWAY.format(empty=str(empty)) + LOOK.replace(source, "")
    assert begun(written, verb, away) == begun(written, verb, LOOK)


CALL = """
from toolkit.oci import json_text
from toolkit.runtime import lifecycle, record, signals
assert "__thaw__" in json_text._whole.__code__.co_names and "__getattr__" in vars(signals)
{between}
print(json_text._whole(["x"], False), "__thaw__" in json_text._whole.__code__.co_names, signals.SIGKILL)
"""


def test_what_an_image_leaves_out_comes_when_it_is_wanted(copy: Path) -> None:
    state(copy)
    assert (
        begun(copy, "kill", CALL.replace('and "__getattr__" in vars(signals)', "").format(between=""))
        == "['x'] False 9\n"
    )


@pytest.mark.parametrize("held", [False, True])
def test_it_comes_from_the_sources_if_the_file_was_replaced(copy: Path, held: bool) -> None:
    state(copy)
    path = str(file_of(copy))
    between = f"import posix; from toolkit import preload; {'preload.hold(); ' * held}"
    between += (
        f"data = open({path!r}, 'rb').read(); posix.unlink({path!r}); open({path!r}, 'wb').write(bytes(len(data)))"
    )
    call = CALL.replace('and "__getattr__" in vars(signals)', "").format(between=between)
    assert begun(copy, "kill", call) == "['x'] False 9\n"


def test_a_module_that_changed_since_counts_as_it_is_now(copy: Path) -> None:
    state(copy)
    path = str(copy / "toolkit/runtime/cgroups/v1.py")
    then = f"from toolkit.runtime.cgroups import v1; open({path!r}, 'a').write('\\nMARK = 7\\n'); print(v1.MARK)"
    assert (
        begun(
            copy,
            "state",
            then.replace("from toolkit.runtime.cgroups import v1", "v1 = sys.modules['toolkit.runtime.cgroups.v1']"),
        )
        == "7\n"
    )


@pytest.mark.parametrize("changed", ["preload.py", "runtime/main.py", "lean_os.py"])
def test_an_image_with_a_changed_source_is_not_used(copy: Path, changed: str) -> None:
    state(copy)
    with open(copy / "toolkit" / changed, "a") as source:
        source.write("\nMARK = 7\n")
    name = "toolkit." + changed.removesuffix(".py").replace("/", ".")
    assert begun(copy, "state", f"__import__({name!r}); print(sys.modules[{name!r}].MARK)") == "7\n"


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o666, 0o664, 0o644])
def test_an_image_that_others_can_write_is_not_run(copy: Path, mode: int) -> None:
    state(copy)
    path = file_of(copy)
    bitten = copy / "bitten"
    data = path.read_bytes()
    home, index, images, (*facts, _) = marshal.loads(data)
    evil = compile(f"open({str(bitten)!r}, 'w'); begin = lambda *_: None", "x", "exec")
    head = marshal.dumps((home, index, images, (*facts, evil)))
    path.write_bytes(head.ljust(preload.HEAD_BYTES, b"\0") + data[preload.HEAD_BYTES :])
    path.chmod(mode)
    begun(copy, "state", "")
    assert bitten.exists() == (mode == 0o644)  # the control: such a file is what would run
