"""What `ctk up` says of a bundle that is there already."""

from pathlib import Path

import pytest
import typer.main

from toolkit.bootstrap.facts.model import Lock, Request, Result
from toolkit.bootstrap.output.target import write_result
from toolkit.bundle.build import SpecRequest
from toolkit.cli.options import spec as spec_options
from toolkit.cli.with_typer import application
from toolkit.errors import InUse
from toolkit.events import silent
from toolkit.up import stages
from toolkit.up.bundle import UpRequest


def test_up_takes_every_option_of_spec_that_it_does_not_settle_itself() -> None:
    commands = typer.main.get_command(application()).commands  # type: ignore[attr-defined]
    spec, up = ({name for one in commands[verb].params for name in one.opts} for verb in ("spec", "up"))
    own = {"--rootfs", "--rootless", "--from-image", "--arg", "--args", "--update", "--diff"}
    assert spec - up == own
    assert {word.field for word in spec_options.WORDS if not word.field.startswith("device_")} <= set(
        SpecRequest._fields
    )


@pytest.mark.parametrize(("variant", "word"), [("-", "default"), ("minbase", "minbase")])
def test_a_root_of_another_request_is_named_in_words(variant: str, word: str, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    made = Result(str(rootfs), "bookworm", "debian", variant, "amd64", 5, 0, 1.0, "")
    write_result(str(rootfs), made, Lock("bookworm", "debian", variant, "amd64", (), (), (), ""))
    request = UpRequest("web", SpecRequest(), bundle=str(tmp_path))
    with pytest.raises(InUse, match=rf"made from another request \(bookworm, {word}, 5 packages\)"):
        stages.prepare(request, Request("bookworm", ""), silent)
