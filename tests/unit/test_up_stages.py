"""What `ctk up` says of a bundle that is there already."""

from pathlib import Path

import pytest

from toolkit.bootstrap.model import Lock, Request, Result
from toolkit.bootstrap.target import write_result
from toolkit.bundle.build import SpecRequest
from toolkit.errors import InUse
from toolkit.events import silent
from toolkit.up import stages


@pytest.mark.parametrize(("variant", "word"), [("-", "default"), ("minbase", "minbase")])
def test_a_root_of_another_request_is_named_in_words(variant: str, word: str, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs"
    rootfs.mkdir()
    made = Result(str(rootfs), "bookworm", "debian", variant, "amd64", 5, 0, 1.0, "")
    write_result(str(rootfs), made, Lock("bookworm", "debian", variant, "amd64", (), (), (), ""))
    request = stages.UpRequest("web", Request("bookworm", ""), SpecRequest(), bundle=str(tmp_path))
    with pytest.raises(InUse, match=rf"made from another request \(bookworm, {word}, 5 packages\)"):
        stages.prepare(request, silent)
