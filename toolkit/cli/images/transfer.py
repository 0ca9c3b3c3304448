"""Images between registries, files and the store: `ctk pull`, `push`, `copy`, `unpack`, `login`, `logout`."""

import sys
from typing import Annotated

from toolkit.cli import declare, output
from toolkit.cli.images.explain import explained
from toolkit.cli.images.options import Devices, LockFile, PlainHttp, Platform, Policy, SquashIds, UpdateLock
from toolkit.cli.options.display import Json, Verbose
from toolkit.cli.output import progress

_PANEL = "Images"

Jobs = Annotated[int, declare.Option("--jobs", "-j", metavar="N", min=1, max=16, help="Blobs to move at once.")]
Name = Annotated[
    str,
    declare.Argument(metavar="IMAGE", help="[REGISTRY/]REPOSITORY[:TAG][@DIGEST]; debian is docker.io/library/debian."),
]
SignBy = Annotated[
    str,
    declare.Option(
        "--sign-by", metavar="KEY", show_default=False,
        help="Sign the image with this key: an OpenPGP one (a file, or GnuPG's name of it), or in PEM, as cosign does.",
    ),
]  # fmt: skip
PassphraseFile = Annotated[
    str,
    declare.Option(
        "--sign-passphrase-file", metavar="FILE", help="The passphrase of the key in a file.", show_default=False
    ),
]
_PLACE = "docker://NAME, oci:DIR[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], or store:NAME"


def register(app: declare.App) -> None:
    """Add the group's commands."""
    for function, example in (
        (pull, "ctk pull debian:bookworm"),
        (push, "ctk push debian:bookworm localhost:5000/mine:1"),
        (copy, "ctk copy docker://debian:bookworm oci:./layout:bookworm"),
        (unpack, "ctk unpack debian:bookworm --bundle ./web"),
        (login, "ctk login --username me registry.example.org"),
        (logout, "ctk logout registry.example.org"),
    ):
        app.command(function.__name__, rich_help_panel=_PANEL, epilog=f"Example: {example}")(function)


def pull(
    image: Name,
    platform: Platform = "",
    every: Annotated[bool, declare.Option("--all-platforms", help="Every platform that the index lists.")] = False,
    no_layers: Annotated[
        bool, declare.Option("--no-layers", help="Keep the layers packed; the first run unpacks them.")
    ] = False,
    squash_ids: SquashIds = False,
    devices: Devices = False,
    plain_http: PlainHttp = None,
    lock_file: LockFile = "",
    update_lock: UpdateLock = False,
    policy: Policy = "",
    jobs: Jobs = 3,
    explain: Annotated[
        bool,
        declare.Option(
            "--explain", help="Afterwards, show all that was asked and verified, with lines for curl and tar."
        ),
    ] = False,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Download an image from a registry into the store. Blobs that are in the store are not downloaded again."""
    from toolkit.image.transfer.pull import PullRequest, fetched

    request = PullRequest(
        image.removeprefix("docker://"),
        platform,
        every,
        tuple(plain_http or ()),
        not no_layers,
        squash_ids,
        devices,
        jobs,
        lock_file,
        update_lock,
        explain,
        policy,
    )
    if explain:
        explained(request, json=json, verbose=verbose)
        return
    with progress(json=json, verbose=verbose) as emit:
        fetched(request, emit)


def push(
    image: Annotated[str, declare.Argument(metavar="IMAGE", help="An image in the store.", show_default=False)],
    destination: Annotated[
        str,
        declare.Argument(
            metavar="[NAME]", help="Destination: REGISTRY/REPOSITORY[:TAG].", show_default="IMAGE's own name"
        ),
    ] = "",
    platform: Platform = "",
    every: Annotated[bool, declare.Option("--all-platforms", help="Every platform that the index lists.")] = False,
    sbom: Annotated[
        str,
        declare.Option(
            "--attach-sbom", metavar="FILE", help="Attach a bill of materials: SPDX or CycloneDX, as JSON.",
            show_default=False,
        ),
    ] = "",
    plain_http: PlainHttp = None,
    sign_by: SignBy = "",
    sign_passphrase_file: PassphraseFile = "",
    jobs: Jobs = 3,
    json: Json = False,
    verbose: Verbose = False,
) -> None:  # fmt: skip
    """Upload an image from the store to a registry, byte for byte: its digest stays the same."""
    from toolkit.image import name
    from toolkit.image.transfer.push import CopyRequest
    from toolkit.image.transfer.push import copy as move

    to = name.locate(destination or image, default=name.DOCKER)
    request = CopyRequest(
        name.locate(image),
        to,
        platform,
        every,
        tuple(plain_http or ()),
        jobs,
        sbom,
        sign_by=sign_by,
        passphrase=_passphrase(sign_passphrase_file),
    )
    with progress(json=json, verbose=verbose) as emit:
        move(request, emit)


def copy(
    source: Annotated[str, declare.Argument(metavar="SOURCE", help=_PLACE, show_default=False)],
    destination: Annotated[str, declare.Argument(metavar="DESTINATION", help="As SOURCE.", show_default=False)],
    platform: Platform = "",
    every: Annotated[bool, declare.Option("--all", help="Every platform that the index lists.")] = False,
    referrers: Annotated[
        bool,
        declare.Option("--referrers", help="Also copy what is attached to it in a registry: signatures, SBOMs."),
    ] = False,
    plain_http: PlainHttp = None,
    policy: Policy = "",
    sign_by: SignBy = "",
    sign_passphrase_file: PassphraseFile = "",
    jobs: Jobs = 3,
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Copy an image from one place to another. Nothing in it changes, so it keeps its digest."""
    from toolkit.image import name
    from toolkit.image.transfer.push import CopyRequest
    from toolkit.image.transfer.push import copy as move

    request = CopyRequest(
        name.locate(source),
        name.locate(destination),
        platform,
        every,
        tuple(plain_http or ()),
        jobs,
        policy=policy,
        sign_by=sign_by,
        passphrase=_passphrase(sign_passphrase_file),
        referrers=referrers,
    )
    with progress(json=json, verbose=verbose) as emit:
        move(request, emit)


def unpack(
    image: Annotated[
        str, declare.Argument(metavar="IMAGE", help=f"An image in the store, or {_PLACE}.", show_default=False)
    ],
    bundle: Annotated[
        str,
        declare.Option("--bundle", "-b", metavar="DIR", help="Make rootfs and config.json here.", show_default=False),
    ],
    platform: Platform = "",
    rootless: Annotated[
        bool,
        declare.Option(
            "--rootless", help="Use a user namespace with your subordinate ids.", show_default="if you are not root"
        ),
    ] = False,
    squash_ids: SquashIds = False,
    devices: Devices = False,
    plain_http: PlainHttp = None,
    policy: Policy = "",
    json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Make a bundle of an image: all its layers as one folder, and a config.json from its configuration."""
    from toolkit.image import name
    from toolkit.up.unpack import UnpackRequest, unpacked

    request = UnpackRequest(
        name.locate(image), bundle, platform, rootless, squash_ids, devices, tuple(plain_http or ()), policy
    )
    with progress(json=json, verbose=verbose) as emit:
        unpacked(request, emit)


def _passphrase(path: str) -> str:
    """The first line of a file. Raises Usage."""
    from toolkit.errors import Usage, reason
    from toolkit.kernel import reading

    if not path:
        return ""
    try:
        return reading.text(path, limit_bytes=4096).partition("\n")[0]
    except OSError as error:
        raise Usage(f"read the passphrase in {path!r}", because=reason(error)) from None


Host = Annotated[str, declare.Argument(metavar="REGISTRY", help="HOST[:PORT]; docker.io is Docker Hub.")]


def login(
    registry: Host,
    username: Annotated[
        str, declare.Option("--username", "-u", metavar="NAME", help="User name.", show_default=False)
    ] = "",
    password_stdin: Annotated[
        bool, declare.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    plain_http: PlainHttp = None,
) -> None:
    """Check a user name and password with a registry, and store them for later commands."""
    from toolkit.errors import Usage
    from toolkit.image import name
    from toolkit.image.registry import client
    from toolkit.image.registry import login as logins

    registry = name.registry(registry)
    if not username:
        if not sys.stdin.isatty():
            because, hint = "there is no --username, and no terminal to ask on", "give --username NAME --password-stdin"
            raise Usage("read the command line of 'ctk login'", because=because, hint=hint)
        username = _asked("Username")
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = _asked("Password", hidden=True)
    else:
        because, hint = "there is no terminal to ask the password on", "give --password-stdin"
        raise Usage("read the command line of 'ctk login'", because=because, hint=hint)
    plain = True if registry in (plain_http or ()) else None
    probe = client.open(
        name.Reference(registry, "library/login"), plain_http=plain, username=username, password=password
    )
    try:
        asked = probe.check_login()
    finally:
        probe.close()
    where = logins.save(registry, username, password)
    if asked:
        output.err(f"ctk: {username} is logged in to {registry}; the password is in {where}\n")
    else:
        told = f"{registry} does not ask for a login here, so the password was not checked; it is in {where}"
        output.err(f"ctk: warning: {told}\n")


def _asked(what: str, *, hidden: bool = False) -> str:
    import typer

    try:
        return str(typer.prompt(what, hide_input=hidden, err=True))
    except typer.Abort:
        raise KeyboardInterrupt from None


def logout(registry: Host) -> None:
    """Remove the stored login of a registry."""
    from toolkit.image import name
    from toolkit.image.registry import login as logins

    registry = name.registry(registry)
    known = logins.forget(registry)
    output.err(f"ctk: {'forgot the login' if known else 'there was no login'} of {registry}\n")
