"""The libraries that are found are those that the host's own loader loads."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.command import tool
from toolkit.bootstrap.host import elf
from toolkit.errors import NotFound


def loaded(program: str) -> set[str]:
    """What ld.so itself says that it loads, without links; the vdso is no file."""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = [line.split("=>")[-1].split()[0] for line in told.splitlines() if line.strip()]
    return {os.path.realpath(word) for word in words if word.startswith("/")}


def found(program: str) -> set[str]:
    return {os.path.realpath(path) for path in elf.Loader().closure(program)}


@pytest.mark.parametrize("name", ["sh", "ls", "ps", "mount", "grep", "tar", "gpgv", "bash", "strace"])
def test_the_hosts_programs(name: str) -> None:
    program = tool(name)
    assert found(program) == loaded(program)


def test_a_static_program_and_a_script_need_none() -> None:
    assert elf.Loader().closure(tool("busybox")) == []
    assert elf.Loader().closure("/etc/passwd") == []


def test_the_cache_is_read_as_ldconfig_prints_it() -> None:
    told = subprocess.run([tool("ldconfig"), "-p"], capture_output=True, text=True, check=True).stdout
    lines = [line.split() for line in told.splitlines() if "=>" in line]
    entries = elf.cache_entries(Path("/etc/ld.so.cache").read_bytes())
    assert [(words[0], words[-1]) for words in lines] == [
        (name, path) for name, paths in entries.items() for path, _ in paths
    ]
    assert elf.cache_entries(b"nonsense") == {}


def compile_(target: Path, source: str, *options: str) -> None:
    command = [tool("gcc"), "-x", "c", "-", "-o", str(target), *options]
    subprocess.run(command, input=source, text=True, check=True)


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """a/program needs libouter, which needs libinner: one of each in two folders."""
    for folder in ("one", "two", "program"):
        (tmp_path / folder).mkdir()
        if folder != "program":
            compile_(tmp_path / folder / "libinner.so", "int inner(void) { return 1; }", "-shared")
    link = ("-shared", f"-L{tmp_path}/one", "-linner", "-Wl,--no-as-needed")
    compile_(tmp_path / "one/libouter.so", "int inner(void); int outer(void) { return inner(); }", *link)
    return tmp_path


@pytest.mark.parametrize(
    ("tag", "origin"), [("--disable-new-dtags", "$ORIGIN/../"), ("--disable-new-dtags", ""), ("--enable-new-dtags", "")]
)
def test_search_paths_are_inherited_only_the_old_way(family: Path, tag: str, origin: str) -> None:
    program = family / "program/program"
    base = origin or f"{family}/"
    path = f"-Wl,-rpath,{base}two:{base}one"
    options = (f"-L{family}/one", f"-Wl,-rpath-link,{family}/one", "-louter", path, f"-Wl,{tag}")
    compile_(program, "int outer(void); int main(void) { return outer(); }", *options)
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
    if tag == "--enable-new-dtags":  # DT_RUNPATH is the program's own: its libraries are on their own
        assert "libinner.so => not found" in told
        with pytest.raises(NotFound, match=r"libinner\.so"):
            elf.Loader().closure(str(program))
    else:
        assert f"{family}/two/libinner.so" in {os.path.normpath(word) for word in told.split()}
        assert found(str(program)) == loaded(str(program))


def test_a_variant_for_a_better_processor_comes_beside_the_plain_one(family: Path) -> None:
    better = family / "one/glibc-hwcaps/x86-64-v2"
    better.mkdir(parents=True)
    compile_(better / "libouter.so", "int outer(void) { return 2; }", "-shared")
    compile_(
        family / "program/program",
        "int outer(void); int main(void) { return outer(); }",
        *(f"-L{family}/one", f"-Wl,-rpath,{family}/one", "-louter", "-Wl,-rpath-link," + f"{family}/one"),
        "-Wl,--disable-new-dtags",
    )
    assert {str(better / "libouter.so"), f"{family}/one/libouter.so"} <= found(str(family / "program/program"))
