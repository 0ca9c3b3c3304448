"""Bills of materials, read and validated by the standards' own libraries.

They are imported in the tests: it takes half as long as to collect all tests, and each worker collects them.
"""

import json
from pathlib import Path

import pytest

from tests.fixtures import debs
from tests.fixtures.archive import Archive, Suite
from tests.fixtures.server import FileServer
from toolkit.bootstrap.facts.model import Lock, Request
from toolkit.bootstrap.output import sbom
from toolkit.bootstrap.plan.plan_build import solve
from toolkit.events import silent


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """A lock whose bills are in the test's folder; one package has a name and a version that URLs must quote."""
    monkeypatch.setenv("CTK_CACHE", str(tmp_path / "cache"))
    archive = Archive(tmp_path / "served/debian")
    required = [debs.make({"Package": name, "Priority": "required"}, {}) for name in ("dpkg", "apt", "usr-is-merged")]
    odd = debs.make({"Package": "libc++1", "Version": "1:2.0~rc1+b1", "Homepage": "https://example.org/x"}, {})
    archive.publish(Suite("bookworm", "bookworm", packages={"main": [*required, odd]}))
    with FileServer(tmp_path / "served").running() as server:
        request = Request(
            "bookworm",
            "",
            variant="minbase",
            architecture="amd64",
            mirror=server.url + "/debian",
            keyring=str(archive.keyring),
            include=("libc++1",),
            sboms=(f"spdx={tmp_path}/s.spdx.json", f"cyclonedx={tmp_path}/c.cdx.json"),
        )
        return solve(request, silent)


def test_spdx_is_valid_and_whole(lock: Lock, tmp_path: Path) -> None:
    from spdx_tools.spdx.parser.json.json_parser import parse_from_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = parse_from_file(str(tmp_path / "s.spdx.json"))
    assert validate_full_spdx_document(document) == []
    assert [(one.name, one.version) for one in document.packages] == [(one.name, one.version) for one in lock.packages]
    assert document.packages[-1].checksums[0].value in {one.sha256 for one in lock.packages}


def test_cyclonedx_is_valid_and_whole(lock: Lock, tmp_path: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (tmp_path / "c.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {one["name"]: one for one in json.loads(text)["components"]}
    assert set(components) == {one.name for one in lock.packages}
    address = "pkg:deb/debian/libc%2B%2B1@1%3A2.0~rc1%2Bb1?arch=amd64&distro=bookworm"
    assert sbom.purl(lock, next(one for one in lock.packages if one.name == "libc++1")) == address
    assert components["libc++1"]["purl"].endswith("arch=amd64&distro=bookworm")
