"""What ctk bootstrap says at its end fits who typed it."""

from types import SimpleNamespace

import pytest

from toolkit.bootstrap.facts.model import Result
from toolkit.bootstrap.output.next_steps import image_steps, next_steps


@pytest.mark.parametrize(
    ("by_sudo", "user_namespace", "run"),
    [
        (True, False, "sudo ctk run NAME"),
        (False, False, "ctk run NAME"),  # root has no need of sudo, and a fresh Debian does not have it
        (True, True, "ctk run NAME"),  # sudo -u user: built, and to be run, without root
    ],
)
def test_sudo_is_named_for_who_used_it(
    by_sudo: bool, user_namespace: bool, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SimpleNamespace(in_user_namespace=user_namespace)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if by_sudo:
        monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setattr("toolkit.bootstrap.output.next_steps.HostFacts", lambda: host)
    spec, last = next_steps("tree")
    assert last == run
    assert spec.endswith("ctk spec --rootfs tree --writable")
    assert spec.startswith("sudo ") == run.startswith("sudo ")


@pytest.mark.parametrize(
    ("by_sudo", "user_namespace", "uid", "steps"),
    [
        (False, False, 0, ("mount x /mnt",)),
        (True, False, 0, ("sudo mount x /mnt",)),
        (False, True, 0, ("unpack x", "or: sudo mount x /mnt")),
        (False, False, 1000, ("unpack x", "or: sudo mount x /mnt")),
    ],
)
def test_an_image_is_mounted_by_root_and_unpacked_by_others(
    by_sudo: bool, user_namespace: bool, uid: int, steps: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = SimpleNamespace(in_user_namespace=user_namespace)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if by_sudo:
        monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setattr("toolkit.bootstrap.output.next_steps.HostFacts", lambda: host)
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert image_steps("mount {} /mnt", "unpack {}", "x") == steps
    assert image_steps("tar {}", "", "x") == ("tar x",)


@pytest.mark.parametrize(("variant", "title"), [("-", "bookworm (amd64)"), ("minbase", "bookworm (minbase, amd64)")])
def test_title_leaves_the_default_variant_out(variant: str, title: str) -> None:
    assert Result("t", "bookworm", "Debian", variant, "amd64", 1, 1, 1.0, "id").title == title
