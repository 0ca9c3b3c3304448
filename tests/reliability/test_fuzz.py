"""config.json changed at random, where its structure is: refused with a word or carried out, never a third thing."""

import copy
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fixtures.chamber import Chamber, chamber
from tests.fixtures.command import Command, Result
from tests.fixtures.leaks import TAG
from tests.fixtures.specs import defuse, mutants
from toolkit.errors import CtkError, Invalid
from toolkit.oci import check, json_text
from toolkit.runtime import plan, seccomp
from toolkit.runtime.ending import Ending
from toolkit.runtime.identity import Identity

# In CI the same examples each time: a new failure there is one of the change at hand.
IN_CI = settings(
    max_examples=60, deadline=None, derandomize=True, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
AT_LENGTH = settings(IN_CI, max_examples=5000, derandomize=False)
# No process is started for these.
IN_PROCESS = settings(IN_CI, max_examples=10 * settings.default.max_examples, phases=[Phase.generate, Phase.shrink])


@IN_PROCESS
@given(mutants())
def test_checks_and_plan_raise_nothing_but_their_own(mutant: tuple[dict[str, Any], bool]) -> None:
    given_spec, refused = mutant
    text = json.dumps(given_spec)
    try:
        spec = json_text.loads(text)
    except Invalid:
        return
    before = copy.deepcopy(spec)
    found = check.errors(spec)
    assert spec == before
    for finding in found:
        assert finding.message and str(finding.as_error())
    if refused:
        assert found, "a value of a wrong type went through"
    if found:
        return
    try:
        made = plan.plan(spec, "/b", plan.root_path(spec, "/b"))
        for step in made.steps:
            sentence, call, shell = step.describe()
            assert sentence and isinstance(call, str) and isinstance(shell, str)
        Identity(spec.get("process") or {})
        Ending(spec.get("process") or {})
        if (spec.get("linux") or {}).get("seccomp"):
            seccomp.program_for(spec["linux"]["seccomp"], None)
    except CtkError as error:
        assert error.doing and error.because


@IN_PROCESS
@given(mutants(), st.data())
def test_text_cut_or_changed_anywhere_is_invalid_json_or_a_document(
    mutant: tuple[dict[str, Any], bool], data: st.DataObject
) -> None:
    text = json.dumps(mutant[0]).encode()
    at = data.draw(st.integers(0, len(text)))
    inserted = data.draw(
        st.sampled_from([b"", b"\xff", b"\0", b"{", b"]", b",", b'"', b"\\", b"1e999", b"NaN", b"null"])
    )
    spoilt = text[:at] + inserted + (b"" if data.draw(st.booleans()) else text[at + 1 :])
    try:
        check.findings(json_text.loads(spoilt))
    except Invalid as error:
        assert error.because


class Trial:
    """Tries documents with the real runtime, and looks at what is there afterwards."""

    def __init__(self, inside: Chamber, ctk: Command, rootfs: Path) -> None:
        self.chamber = inside
        self.bundle, self.bundle_inside = inside.outside / "bundle", str(inside.room / "bundle")
        self.state, state_inside = inside.outside / "state", str(inside.room / "state")
        self.group = f"{TAG}-fuzz"
        self.numbers = itertools.count(1)
        self.outcomes: dict[str, int] = {}
        (self.bundle / "shared").mkdir(parents=True)
        self.state.mkdir(mode=0o700)
        shutil.copytree(rootfs, self.bundle / "rootfs", symlinks=True)
        self.command = Command(ctk.program, state_inside, ctk.environment, ("--root", state_inside))
        self.mounts = inside.mounts()

    def ctk(self, *words: str) -> Result:
        argv = (*self.chamber.prefix, *self.command.argv(*words))
        result = Command(argv[0], self.command.root, self.command.environment, argv[1:])(timeout=60)
        assert "Traceback" not in result.err and "internal error" not in result.err, result.err
        return result

    def cgroups(self) -> list[str]:
        return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if TAG in folder]

    def __call__(self, spec: dict[str, Any], refused: bool) -> None:
        number = next(self.numbers)
        container = f"{self.group}-{number}"
        defuse(spec, self.bundle_inside, self.group)
        (self.bundle / "config.json").write_text(json.dumps(spec))
        try:
            refused = refused or bool(check.errors(json_text.loads(json.dumps(spec))))
        except Invalid:
            refused = True
        verb = ("create", "run")[number % 2]
        result = self.ctk(verb, "--bundle", self.bundle_inside, container)
        listed = self.ctk("list", "-q").ok().out.split()
        # The program is /bin/true: what ends it is itself, we, or a signal (a filter, a limit).
        assert result.rc in (0, 1) or (verb == "run" and 128 < result.rc < 128 + 32), result
        if refused:
            assert result.rc == 1, f"carried out: {result}"
        if result.rc == 0 and verb == "create":
            assert listed == [container] and self.ctk("state", container).json()["status"] in ("created", "stopped")
            self.ctk("delete", "--force", container).ok()
        else:
            assert listed == []
        if result.rc == 1:
            assert "level=error msg=" in result.err, result
        self.outcomes[f"{verb} {min(result.rc, 2)}"] = self.outcomes.get(f"{verb} {min(result.rc, 2)}", 0) + 1
        assert os.listdir(self.state) == []
        assert self.chamber.wait_empty() == {}
        # Of the mounts that the chamber began with some go, when their mount points are removed on the host.
        assert self.chamber.mounts() - self.mounts == set()
        # The parents that a cgroupsPath names stay, as with runc: these two only.
        left = [path for path in self.cgroups() if not path.endswith((self.group, self.group + "/a"))]
        assert left == []


@pytest.fixture
def trial(tmp_path: Path, ctk: Command, busybox_rootfs: Path) -> Iterator[Trial]:
    with chamber(tmp_path / "room") as inside:
        made = Trial(inside, ctk, busybox_rootfs)
        try:
            yield made
        finally:
            for path in sorted(made.cgroups(), reverse=True):
                try:
                    os.rmdir(path)
                except OSError:
                    continue  # the `leaks` fixture tells


def tried(trial: Trial, how_many: settings) -> None:
    """Try so many; the first that goes wrong is shown whole."""

    @how_many
    @given(mutants(well_typed=True))
    def each(mutant: tuple[dict[str, Any], bool]) -> None:
        spec, refused = copy.deepcopy(mutant)
        try:
            trial(spec, refused)
        except BaseException:
            print(json.dumps(spec))  # pytest shows it with the failure
            raise

    each()


@pytest.mark.root
def test_the_runtime_carries_out_or_refuses(trial: Trial) -> None:
    tried(trial, IN_CI)
    # Both happen, and often: else this would show nothing.
    often = IN_CI.max_examples // 15
    assert min(trial.outcomes.get(f"{verb} {rc}", 0) for verb in ("create", "run") for rc in (0, 1)) > often, (
        trial.outcomes
    )


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_runtime_at_length(trial: Trial) -> None:
    tried(trial, AT_LENGTH)
