"""The lines of curl of `ctk pull --explain`."""

import subprocess
from pathlib import Path

from toolkit.explain.pull import curl


def test_all_authorities_of_a_registry_are_given(tmp_path: Path) -> None:
    """curl takes the last --cacert only."""
    files = [tmp_path / "one.crt", tmp_path / "it's two.crt"]
    for path in files:
        path.write_text(f"{path.name}\n")
    tls = {"authorities": [str(path) for path in files], "verify": True, "certificate": "", "private_key": ""}
    facts = {"method": "GET", "status": 200, "url": "u", "headers": {}, "authorization": "", "fields": [], "tls": tls}
    for line in (curl.get(facts, "f"), curl.head(facts), curl.head(facts | {"method": "HEAD"}), curl.token(facts)):
        (tmp_path / "authorities.pem").unlink(missing_ok=True)
        done = subprocess.run(["sh", "-c", f"curl() {{ echo $* >&2; }}; {line}"], cwd=tmp_path, capture_output=True)
        assert b"--cacert authorities.pem" in done.stderr, line
        assert (tmp_path / "authorities.pem").read_text() == "one.crt\nit's two.crt\n"
    assert "--cacert /a.crt " in curl.get(facts | {"tls": tls | {"authorities": ["/a.crt"]}}, "f")
