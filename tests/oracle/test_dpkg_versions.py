"""Version order: dpkg's opinion on generated pairs."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.command import tool
from toolkit.deb.version import Version

TEXT = st.text(alphabet="01298aZ.+~-", min_size=1, max_size=9).filter(lambda text: text[0].isdigit())


@given(TEXT, TEXT)
def test_as_dpkg_orders(one: str, other: str) -> None:
    dpkg = tool("dpkg")
    for text in (one, other):
        if subprocess.run([dpkg, "--validate-version", text], capture_output=True).returncode:
            return
    says = subprocess.run([dpkg, "--compare-versions", one, "lt", other]).returncode == 0
    assert (Version(one) < Version(other)) is says
