"""The bench runs every case on this host, and leaves nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.command import installed_ctk, tool

BENCH = Path(__file__).parents[2] / "scripts/bench"


@pytest.mark.root
def test_every_case_of_the_runtime_bench(tmp_path: Path) -> None:
    tool("runc")
    words = ["runtime", "--runs", "1", "--containers", "2", "--json", "--dir", str(tmp_path), "--ctk", installed_ctk()]
    done = subprocess.run(
        [sys.executable, BENCH, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ours = {row["case"]: row["values"] for row in result["times_ms"] if row["tool"] == "ctk"}
    theirs = {row["case"]: row["values"] for row in result["times_ms"] if row["tool"] == "runc"}
    assert ours.keys() == theirs.keys() >= {"run true", "create+start+delete", "exec true", "state"}
    assert all(len(values) == 1 and 0 < values[0] < 60_000 for values in [*ours.values(), *theirs.values()])
    peaks = {row["case"]: row["value"] for row in result["peak_kib"] if row["tool"] == "ctk"}
    assert peaks.keys() == ours.keys() and all(1_000 < value < 200_000 for value in peaks.values()), peaks
    assert result["crowd"]["ctk"][1] > 0
    assert os.listdir(tmp_path) == []


@pytest.mark.root
@pytest.mark.timeout(900)
def test_every_case_of_the_image_bench(tmp_path: Path) -> None:
    tool("umoci")
    (tmp_path / "tree").mkdir()
    for number in range(20):
        (tmp_path / f"tree/{number}").write_text("text")
    (tmp_path / "tree/bin").mkdir()
    for name in ("true", "sh"):
        shutil.copy(tool("busybox"), tmp_path / "tree/bin" / name)
    subprocess.run(["tar", "-czf", tmp_path / "layer.tar.gz", "-C", tmp_path / "tree", "."], check=True)
    (tmp_path / "dir").mkdir()
    words = ["images", "--runs", "1", "--json", "--dir", tmp_path / "dir", "--layer", tmp_path / "layer.tar.gz"]
    words += ["--images", "minbase", "--cases", "minbase"]  # all but the bomb, for which reliability/test_bombs.py is
    done = subprocess.run(
        [sys.executable, BENCH, *words, "--ctk", installed_ctk()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    found = {(row["case"], row["tool"]): row["values"] for row in result["times_ms"]}
    assert all(len(values) == 1 and 0 < values[0] < 60_000 for values in found.values())
    compared = {case: [tool for other, tool in found if other == case] for case, _ in found}
    assert compared == {
        "unpack minbase": ["umoci", "tar -xzf (verifies nothing)", "ctk, isal", "ctk, zlib"],
        "pull minbase, laid out": ["podman", "ctk, isal", "ctk, zlib"],
        "pull minbase again": ["podman", "ctk"],
        "minbase into a layout": ["skopeo", "ctk"],
        "push minbase, unseen": ["skopeo", "ctk"],
        "run --rm of minbase": ["podman", "ctk", "docker"],
        "pack minbase, gzip": ["tar | pigz", "ctk, isal", "ctk, zlib"],
        "pack minbase, zstd": ["tar | zstd -T2", "ctk"],
        "commit one file of minbase": ["umoci repack", "ctk"],
    }
    assert result["requests_of_a_second_pull"] == ["HEAD"]
    peaks = {(row["case"], row["tool"]): row["value"] for row in result["peak_kib"]}
    assert peaks.keys() == found.keys()
    assert all(5_000 < peak < 60_000 for (_, tool), peak in peaks.items() if tool.startswith("ctk"))
    assert os.listdir(tmp_path / "dir") == []


@pytest.mark.root
@pytest.mark.timeout(600)
def test_every_case_of_the_everyday_bench(tmp_path: Path) -> None:
    tool("podman")
    tool("runc")
    words = ["everyday", "--runs", "1", "--json", "--dir", str(tmp_path), "--ctk", installed_ctk()]
    done = subprocess.run(
        [sys.executable, BENCH, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    found = {(row["case"], row["tool"]): row["values"] for row in result["times_ms"]}
    assert all(len(values) == 1 and 0 < values[0] < 60_000 for values in found.values())
    compared = {(case, ours): (peer, goal) for case, ours, peer, goal in result["goals"]}
    assert {case for case, _ in compared} >= {"logs", "stop", "rm", "restart", "cp", "attach", "images", "one Tab"}
    for (case, ours), (peer, goal) in compared.items():
        assert (case, ours) in found and (case, peer) in found and goal in (1.5, 2)
        assert result["cpu_ms"][ours][case][0] > 0 and result["cpu_ms"][peer][case][0] > 0
    assert os.listdir(tmp_path) == []
