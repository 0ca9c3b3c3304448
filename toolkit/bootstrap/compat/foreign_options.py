"""The options of debootstrap, mmdebstrap and cdebootstrap that ctk has by another name, or not: what to use instead.

From the manual pages of debootstrap 1.0.128 and 1.0.141, mmdebstrap 1.3.5 and cdebootstrap 0.7.8. An option that is
the same in ctk isn't here; a test holds that every option of those pages is either taken or here.
"""

_ENGINE = "or drive debootstrap itself: --engine debootstrap --engine-opt={option}"

INSTEAD = {
    # debootstrap
    "--no-resolve-deps": "ctk always resolves; --variant custom or extract with --include take a list of your own; "
    "{engine}",
    "--resolve-deps": "ctk always resolves: leave it out",
    "--log-extra-deps": "--print-debs shows what is chosen, --verbose how; {engine}",
    "--extractor": "ctk unpacks packages itself, with neither dpkg-deb nor ar; {engine}",
    "--debian-installer": "--json prints every event as an object for programs",
    "--no-check-certificate": "REQUESTS_CA_BUNDLE=FILE names certificates to trust; what a mirror sends is held to the "
    "archive's signature either way, so an http:// one does no harm; {engine}",
    "--inrelease-path": "ctk asks for InRelease where the suite is; {engine}",
    "--no-check-sig": "--no-check-gpg",
    # mmdebstrap
    "--mode": "leave it out: root builds as root, everybody else in a user namespace (unshare), by itself",
    "--architectures": "--arch for the tree's own architecture; --include NAME:ARCH brings packages of further ones",
    "--simulate": "--print-debs",
    "--dry-run": "--print-debs",
    "--skip": "leave it out: ctk leaves no caches and lists behind that would have to be cleaned up",
    "--logfile": "--json > FILE is the whole log; what the scripts print is kept in the cache's logs as well",
    "--quiet": "2>/dev/null, or --json",
    "--silent": "2>/dev/null, or --json",
    "--debug": "--verbose, or --json for every event",
    "--man": "ctk bootstrap --help",
    "--version": "ctk --version",
    # cdebootstrap
    "--flavour": "--variant: - (its standard), minbase (its minimal), buildd (its build)",
    "--allow-unauthenticated": "--no-check-gpg",
    "--configdir": "leave it out: ctk's table of suites is its own",
    "--helperdir": "leave it out: ctk needs no helper in the tree",
    "--suite-config": "--mirror and --keyring are enough for a suite that ctk doesn't know",
}


def instead(option: str) -> str:
    """What to use in place of `option`, "" for one that none of them has."""
    text = INSTEAD.get(option.partition("=")[0], "")
    if text.startswith("--"):
        text = "use " + text
    return text.format(engine=_ENGINE.format(option=option), option=option)
