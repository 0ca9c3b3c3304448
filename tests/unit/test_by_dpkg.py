"""What dpkg says while it unpacks, in the words of each of its versions."""

import pytest

from toolkit.bootstrap.install.by_dpkg import taken


@pytest.mark.parametrize("other", ["a:amd64 1:2.3-1", "a:amd64 (1:2.3-1)"], ids=["1.21", "1.22"])
def test_what_was_taken_is_told_alike(other: str) -> None:
    lines = [
        "Unpacking b (4) over (3) ...",
        "dpkg: warning: overriding problem because --force enabled:",
        f"dpkg: warning: trying to overwrite '/t/f', which is also in package {other}",
        f"dpkg: warning: trying to overwrite '/t/g', which is also in package {other}",
        "Unpacking c (5) ...",
        f"dpkg: warning: trying to overwrite '/t/h', which is also in package {other}",
    ]
    assert taken(lines) == {("b 4", "a:amd64 1:2.3-1"): [b"t/f", b"t/g"], ("c 5", "a:amd64 1:2.3-1"): [b"t/h"]}
