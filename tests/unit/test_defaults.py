"""The default spec is the reference binary's, to the byte; the help has its shape."""

import os
import re
import shutil
import subprocess

import pytest

from toolkit.oci import check
from toolkit.oci.defaults import default_spec
from toolkit.oci.json_text import dumps

RUNC = shutil.which("runc") or "/usr/sbin/runc"


@pytest.mark.skipif(not os.path.exists(RUNC), reason="the reference runtime is not installed")
@pytest.mark.parametrize("flags", [[], ["--rootless"]], ids=["root", "rootless"])
def test_equals_runcs_file(tmp_path, flags):
    version = subprocess.run([RUNC, "--version"], capture_output=True, text=True, check=True).stdout
    subprocess.run([RUNC, "spec", "--bundle", str(tmp_path), *flags], check=True)
    theirs = (tmp_path / "config.json").read_text()
    ours = default_spec(bool(flags))
    # Only the version of the standard is the reference's own: 1.1.5 names 1.0.2-dev, 1.1.15 names 1.2.0.
    ours["ociVersion"] = re.search(r"^spec: (\S+)", version, re.MULTILINE)[1]
    if '"ambient"' not in theirs:
        del ours["process"]["capabilities"]["ambient"]  # runc 1.3 gives none any more
    assert dumps(ours, "\t") == theirs, version


@pytest.mark.parametrize("rootless", [False, True])
def test_is_a_good_spec(rootless):
    assert check.findings(default_spec(rootless)) == []


def test_each_call_gives_a_fresh_document():
    first, second = default_spec(), default_spec()
    first["process"]["args"].append("x")
    first["process"]["capabilities"]["bounding"].append("x")
    first["mounts"][1]["options"].append("x")
    first["linux"]["maskedPaths"].append("x")
    assert second == default_spec()
    assert "x" not in dumps(second["process"]["capabilities"])


def test_the_mapped_ids_can_be_named():
    spec = default_spec(True, uid=1000, gid=2000)
    assert spec["linux"]["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert spec["linux"]["gidMappings"] == [{"containerID": 0, "hostID": 2000, "size": 1}]
