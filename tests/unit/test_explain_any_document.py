"""`ctk check` and `ctk explain` of any document at all: findings and expected errors, never a traceback."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fixtures.specs import mutants
from toolkit.errors import CtkError
from toolkit.explain import check, launch, script
from toolkit.explain.codes import CODES
from toolkit.oci import defaults


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle = tmp_path_factory.mktemp("any")
    (bundle / "rootfs/bin").mkdir(parents=True)
    (bundle / "rootfs/bin/true").write_text("#!/bin/sh\n")
    return bundle


@pytest.mark.parametrize("hooks", [{"poststop": ["nosuid"]}, {"poststop": [{"path": 7}]}, {"options": ["a"]}])
def test_hooks_that_are_no_objects(folder: Path, hooks: object) -> None:
    (folder / "config.json").write_text(json.dumps({**defaults.default_spec(), "hooks": hooks}))
    assert all(finding.code in CODES for finding in check.bundle(str(folder), terminal=False, privileged=True))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(mutants())
def test_any_document(folder: Path, mutant: "tuple[dict[str, Any], bool]") -> None:
    document, _ = mutant
    (folder / "config.json").write_text(json.dumps(document))
    found = check.bundle(str(folder), terminal=False, privileged=True)
    for finding in found:
        assert finding.code in CODES and finding.message and finding.instead and finding.why
    try:
        told = launch.of(str(folder), "any")
        for act in told.acts:
            assert act.sentence and isinstance(act.shell, tuple)
        script.write(told)
    except CtkError:
        pass


def test_hooks_of_a_kind_that_there_is_not(folder: Path) -> None:
    """Nobody has checked the types of what is in them."""
    document = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "hooks": {"nosuch": ["x", {"path": 1}]}}
    (folder / "config.json").write_text(json.dumps(document))
    assert any("nosuch" in finding.path for finding in check.bundle(str(folder), terminal=False, privileged=True))
