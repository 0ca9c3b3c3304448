"""Trees made, replaced and removed by root in folders that others may write to (b18)."""

import os
from pathlib import Path

import pytest

from tests.fixtures.command import Command
from tests.security.test_build_isolation import Tree, tree  # noqa: F401
from toolkit.bootstrap.facts.model import Request
from toolkit.bootstrap.output import outputs, removal, target
from toolkit.bootstrap.sandbox.sandbox import Sandbox
from toolkit.errors import HostLacks, InUse, NotFound
from toolkit.events import silent

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
STRANGER = 12345


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder as /tmp is, with files of others in it, and a stranger's marker."""
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "victim").write_text("of somebody else\n")
    (folder / target.MARKER).write_text("{}\n")
    os.chown(folder / target.MARKER, STRANGER, STRANGER)
    folder.chmod(0o1777)
    return folder


def test_b18_a_strangers_marker_makes_no_folder_ours(shared: Path, ctk: Command) -> None:
    said = ctk("bootstrap", "--remove", str(shared))
    assert said.rc and "ctk did not make it" in said.err
    told = ctk("gc", "--dry-run", str(shared))
    assert "it is not a half-made tree" in told.out + told.err
    assert (shared / "victim").exists()


def test_b18_force_empties_no_folder_that_a_stranger_marked(shared: Path, tmp_path: Path) -> None:
    """His link for the folder that was asked for leads there."""
    link = tmp_path / "root"
    link.symlink_to(shared)
    asked = target.Target(Request(suite="bookworm", target=str(link), restart=True))
    with pytest.raises(InUse, match="the folder is not empty"):
        asked.open()
    asked.remove()
    assert (shared / "victim").exists()


def test_b18_a_tree_that_is_exchanged_while_it_is_removed(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at it and the removal are of one folder, whatever the path leads to by then."""
    his, bait = tmp_path / "his", tmp_path / "bait"
    (bait / "root").mkdir(parents=True)
    (bait / "root" / target.MARKER).write_text("{}\n")
    shared.rename(tmp_path / "root")
    his.symlink_to(bait)
    looked = removal.check_unmounted

    def exchanged(path: str) -> None:
        looked(path)
        his.unlink()
        his.symlink_to(tmp_path)

    monkeypatch.setattr(removal, "check_unmounted", exchanged)
    with pytest.raises(NotFound, match="ctk did not make it"):
        removal.remove_here(str(his / "root"), silent)
    assert (tmp_path / "root" / "victim").exists()


def test_b18_scripts_do_not_run_in_what_has_taken_the_trees_place(tree: Tree, tmp_path: Path) -> None:  # noqa: F811
    rootfd = os.open(tree.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree.root.rename(tmp_path / "moved")
        tree.root.symlink_to("/")
        with (
            pytest.raises(HostLacks, match="another folder is there now"),
            Sandbox(str(tree.root), str(tree.log), lambda _: None, lambda _: None, rootfd=rootfd),
        ):
            pass
    finally:
        os.close(rootfd)


def test_b18_a_file_of_ours_that_somebody_linked_is_not_written_over(tmp_path: Path) -> None:
    """Where fs.protected_hardlinks is 0, as the kernel has it without an init that sets it."""
    ours = tmp_path / "ours"
    ours.write_text("of root\n")
    os.link(ours, tmp_path / ".out.tar.ctk-part")
    request = Request(suite="bookworm", target=str(tmp_path / "out.tar"))
    with pytest.raises(InUse, match="somebody else's"), outputs.Part(request):
        pass
    assert ours.read_text() == "of root\n"
