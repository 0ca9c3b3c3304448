"""Package files of the command line (`--include ./x.deb`): read, hashed, and added to the pool beside the indexes."""

import hashlib
import os

from toolkit.bootstrap.facts.model import Source
from toolkit.bootstrap.facts.policy import Facts
from toolkit.bootstrap.facts.pool import Candidate, Member
from toolkit.deb.archive import Deb
from toolkit.deb.control import parse, write
from toolkit.deb.index import Index
from toolkit.errors import NotFound, Unsolvable, reason
from toolkit.kernel import reading

# A package named as a file has priority over every index, whatever the pins say, as in apt.
_MOST_BYTES = 16 << 30
FACTS = Facts(archive="now", fixed=30_000)


def read(path: str, number: int, architecture: str) -> tuple[Source, Candidate]:
    """A package file as source `number` of the build, and as a candidate.

    Raises NotFound, Malformed, Unsolvable (another architecture).
    """
    doing = f"include {path!r}"
    try:
        fd = reading.open_file(path, limit_bytes=_MOST_BYTES)
    except OSError as error:
        raise NotFound(doing, because=reason(error)) from None
    with open(fd, "rb") as file:
        fields = parse(Deb(fd, path).control()["control"].data, what=f"the control file of {path!r}")
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = os.fstat(fd).st_size
    folder, name = os.path.split(os.path.abspath(path))
    found = fields.get("Architecture", "")
    if found not in (architecture, "all"):
        raise Unsolvable(doing, because=f"it is for {found!r}, the root is for {architecture!r}")
    fields |= {"Filename": name, "Size": str(size), "SHA256": digest}
    index = Index(write(fields).encode(), what=f"the package file {path!r}")
    member = Member(number, "", index)
    source = Source(
        mirror=f"file://{folder}",
        suite="",
        codename="",
        origin="",
        components=(),
        date="",
        release_sha256=digest,  # in place of a Release file's; part of the key of a cached tree
        kind="file",
    )
    return source, Candidate(fields.get("Package", ""), fields, member, architecture, FACTS.fixed)
