"""A bill of materials of a lock: SPDX 2.3 by spdx-tools, CycloneDX 1.6 by cyclonedx-python-lib (the extra `sbom`).

Each library is imported only when it is needed. Both validate what they write.
"""

import importlib.util
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from toolkit import __version__
from toolkit.archive.epoch import epoch_s
from toolkit.bootstrap import beside
from toolkit.bootstrap.facts.model import Lock, Package
from toolkit.bootstrap.output import licences
from toolkit.errors import CtkError, HostLacks, Usage, reason

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from spdx_tools.spdx.model.package import Package as SpdxPackage

_LIBRARIES = {"spdx": "spdx_tools", "cyclonedx": "cyclonedx"}


def parse(written: str) -> tuple[str, str]:
    """`spdx=FILE` as (kind, path). Raises Usage, and HostLacks if the library is not installed."""
    kind, equals, path = written.partition("=")
    if kind not in _LIBRARIES or not equals or not path:
        raise Usage(
            f"read --sbom {written!r}",
            because="it is not KIND=FILE",
            hint="kinds are: " + ", ".join(_LIBRARIES),
        )
    if importlib.util.find_spec(_LIBRARIES[kind]) is None:
        raise HostLacks(
            f"write a bill of materials as {kind}",
            because=f"the Python package {_LIBRARIES[kind]!r} is not installed",
            hint="pip install 'ctk-oci[sbom]', in the environment that ctk runs in",
        )
    return kind, path


def write(lock: Lock, kind: str, path: str, rootfd: int = -1) -> None:
    """Write one document. Licences are read from `rootfd`, the finished tree, if given. Raises CtkError."""
    stated = {one.name: licences.licence(rootfd, one.name) for one in lock.packages} if rootfd >= 0 else {}
    text = spdx(lock, stated) if kind == "spdx" else cyclonedx(lock, stated)
    try:
        beside.write(path, text)
    except OSError as error:
        raise CtkError(f"write {path!r}", because=reason(error)) from None


def purl(lock: Lock, package: Package) -> str:
    """The package's URL (purl-spec, type deb)."""
    distribution = quote(lock.distribution or "debian", safe="")
    name, version = quote(package.name, safe=""), quote(package.version, safe="")
    return f"pkg:deb/{distribution}/{name}@{version}?arch={package.architecture}&distro={quote(lock.suite, safe='')}"


def spdx(lock: Lock, stated: dict[str, str]) -> str:
    """The document as JSON. `stated` are licences by package name, "" for unknown."""
    import io

    from spdx_tools.spdx.model.actor import Actor, ActorType
    from spdx_tools.spdx.model.document import CreationInfo, Document
    from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
    from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

    creation = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id="SPDXRef-DOCUMENT",
        name=f"{lock.suite}-{lock.variant.strip('-') or 'default'}-{lock.architecture}",
        document_namespace=f"urn:uuid:{_uuid(lock)}",
        creators=[Actor(ActorType.TOOL, f"ctk-{__version__}")],
        created=_created(),
    )
    packages = [_spdx_package(lock, number, stated) for number in range(len(lock.packages))]
    relations = [Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, one.spdx_id) for one in packages]
    document = Document(creation, packages, relationships=relations)
    problems = validate_full_spdx_document(document)
    if problems:
        raise CtkError("write a bill of materials as spdx", because=problems[0].validation_message)
    stream = io.StringIO()
    write_document_to_stream(document, stream, validate=False)
    return stream.getvalue() + "\n"


def _spdx_package(lock: Lock, number: int, stated: dict[str, str]) -> "SpdxPackage":
    from spdx_tools.common.spdx_licensing import spdx_licensing
    from spdx_tools.spdx.model.actor import Actor, ActorType
    from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
    from spdx_tools.spdx.model.package import ExternalPackageRef, ExternalPackageRefCategory
    from spdx_tools.spdx.model.package import Package as SpdxPackage
    from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
    from spdx_tools.spdx.validation.uri_validators import validate_download_location, validate_url

    one = lock.packages[number]
    source = lock.sources[one.source]
    address = f"{source.mirror}/{quote(one.filename, safe='/+~:=@,')}"
    homepage = one.paragraph.get("Homepage", "")
    licence = stated.get(one.name, "")
    maintainer = re.match(r"(.*?)\s*(?:<(.*)>)?\Z", one.paragraph.get("Maintainer", ""))
    return SpdxPackage(
        spdx_id=f"SPDXRef-{number}-{re.sub('[^A-Za-z0-9.]', '-', one.name)}-{one.architecture}",
        name=one.name,
        version=one.version,
        download_location=address if not validate_download_location(address) else SpdxNoAssertion(),
        supplier=Actor(ActorType.ORGANIZATION, maintainer[1], maintainer[2]) if maintainer and maintainer[1] else None,
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, one.sha256)],
        homepage=homepage if homepage and not validate_url(homepage) else None,
        license_concluded=SpdxNoAssertion(),
        license_declared=spdx_licensing.parse(licence) if licence else SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[
            ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", purl(lock, one)),
        ],
    )


def cyclonedx(lock: Lock, stated: dict[str, str]) -> str:
    """The document as JSON (schema 1.6)."""
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    tool = Component(name="ctk", version=__version__, type=ComponentType.APPLICATION, bom_ref="ctk")
    root = Component(
        name=f"{lock.distribution} {lock.suite}",
        version=lock.build_id,
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref=f"build:{lock.build_id}",
    )
    components = [_component(lock, one, stated) for one in lock.packages]
    metadata = BomMetaData(component=root, timestamp=_created())
    metadata.tools.components.add(tool)
    document = Bom(components=components, serial_number=_uuid(lock), metadata=metadata)
    document.register_dependency(root, components)
    text = make_outputter(document, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return text + "\n"


def _component(lock: Lock, one: Package, stated: dict[str, str]) -> "Component":
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    address = purl(lock, one)
    homepage = one.paragraph.get("Homepage", "")
    licence = stated.get(one.name, "")
    licence_of: list[DisjunctiveLicense | LicenseExpression] = []
    if licence:
        licence_of = [LicenseExpression(licence) if " " in licence else DisjunctiveLicense(id=licence)]
    return Component(
        name=one.name,
        version=one.version,
        type=ComponentType.LIBRARY,
        bom_ref=address,
        purl=PackageURL.from_string(address),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one.sha256)],
        description=one.paragraph.get("Description", "").split("\n")[0] or None,
        licenses=licence_of,
        external_references=(
            [ExternalReference(type=ExternalReferenceType.WEBSITE, url=XsUri(homepage))] if _is_web(homepage) else []
        ),
    )


def _uuid(lock: Lock) -> UUID:
    """A UUID from the build id: the same build gives the same document."""
    return uuid5(NAMESPACE_URL, f"ctk:{lock.build_id}")


def _created() -> datetime:
    seconds = epoch_s()
    if seconds is not None:
        return datetime.fromtimestamp(seconds, timezone.utc)  # noqa: UP017
    return datetime.now(timezone.utc).replace(microsecond=0)  # noqa: UP017


def _is_web(address: str) -> bool:
    return re.match(r"https?://[^\s<>\"]+\Z", address) is not None
