"""Which architectures a build is begun for."""

import os

import pytest

from toolkit.bootstrap.facts import architectures
from toolkit.bootstrap.sandbox import emulation
from toolkit.errors import HostLacks, NotFound


class Uname:
    def __init__(self, machine: str) -> None:
        self.machine = machine


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> "object":
    def be(machine: str) -> None:
        monkeypatch.setattr(os, "uname", lambda: Uname(machine))
        monkeypatch.setattr(os.path, "exists", lambda path: path.endswith("/qemu-riscv64"))

    return be


@pytest.mark.parametrize(
    ("machine", "name"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("ppc64le", "ppc64el"), ("riscv64", "riscv64")]
)
def test_debians_name_of_the_host(machine: str, name: str, on) -> None:  # type: ignore[no-untyped-def]
    on(machine)
    assert architectures.host_architecture() == name and architectures.is_native(name)


def test_an_unknown_machine_is_told(on) -> None:  # type: ignore[no-untyped-def]
    on("vax")
    with pytest.raises(HostLacks, match="'vax'") as caught:
        architectures.host_architecture()
    assert "--arch" in caught.value.hint
    assert not architectures.is_native("amd64")


@pytest.mark.parametrize(
    ("typed", "name"), [("amd46", "amd64"), ("x86_64", "amd64"), ("AArch64", "arm64"), ("armfh", "armhf")]
)
def test_a_slip_is_no_foreign_architecture(typed: str, name: str) -> None:
    with pytest.raises(NotFound, match=f"did you mean '{name}'"):
        emulation.emulation(typed)


def test_what_is_near_nothing_is_told_as_before() -> None:
    with pytest.raises(HostLacks, match="vax"):
        emulation.emulation("vax")


def test_only_what_an_archive_has_is_meant() -> None:
    assert architectures.suggestion("amd46", ("amd64v3", "amd64")) == "; did you mean 'amd64'?"
    assert architectures.suggestion("amd64v3", ("amd64v3", "amd64")) == ""
    assert architectures.suggestion("vax", ("riscv64", "amd64")) == ""
