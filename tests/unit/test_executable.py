"""Why a program can't be executed, from its first bytes."""

import os
import struct

import pytest

from toolkit.runtime import executable


def elf(machine: int, loader: str = "") -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(64) + loader.encode() + b"\0"


OURS = {"x86_64": 62, "aarch64": 183}[os.uname().machine]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"#!/bin/sh\necho", ""),
        (b"#! /bin/sh -e\n", ""),
        (b"#!/bin/nosuch\n", "its interpreter '/bin/nosuch' does not exist"),
        (b"#!/bin/sh\r\necho", "carriage return"),
        (b"\n#!/bin/sh\n", "first line is blank"),
        (b"echo hi\n", "neither an ELF file nor a script"),
        (b"", "neither an ELF file nor a script"),
        (elf(OURS), ""),
        (elf(OURS, "/lib64/ld-linux-x86-64.so.2"), "its dynamic loader '/lib64/ld-linux-x86-64.so.2' is not in"),
        (elf(243), "another machine (riscv64)"),
        (elf(22), "another machine (e_machine 22)"),
    ],
)
def test_reasons(head: bytes, told: str) -> None:
    found = executable.explain(head, {"/bin/sh"}.__contains__)
    assert told in found and bool(told) == bool(found)
