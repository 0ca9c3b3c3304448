"""What to use instead of those options of debootstrap, mmdebstrap and cdebootstrap that ctk does not have.

From the manual pages of debootstrap 1.0.128 to 1.0.145, mmdebstrap 1.3.5 and cdebootstrap 0.7.8. Options that are the
same in ctk are not listed. A test checks that every option of those pages is either accepted or listed.
"""

_ENGINE = "or drive debootstrap itself: --engine debootstrap --engine-opt={option}"

INSTEAD = {
    # debootstrap
    "--no-resolve-deps": "ctk always resolves; --variant custom or extract with --include take your own list; {engine}",
    "--resolve-deps": "ctk always resolves: leave it out",
    "--log-extra-deps": "--print-debs shows what is chosen, --verbose how; {engine}",
    "--extractor": "ctk unpacks packages itself, with neither dpkg-deb nor ar; {engine}",
    "--debian-installer": "--json prints every event as an object for programs",
    "--no-check-certificate": "REQUESTS_CA_BUNDLE=FILE names certificates to trust; what a mirror sends is checked by "
    "the archive's signature in any case, so an http:// mirror does no harm; {engine}",
    "--ca-certificate": "REQUESTS_CA_BUNDLE=FILE names certificates to trust; {engine}",
    "--inrelease-path": "ctk fetches InRelease from the suite's own folder; {engine}",
    "--no-check-sig": "--no-check-gpg",
    # mmdebstrap
    "--mode": "leave it out: root builds as root, any other user in a user namespace (unshare), automatically",
    "--architectures": "--arch for the tree's own architecture; --include NAME:ARCH brings packages of further ones",
    "--simulate": "--print-debs",
    "--dry-run": "--print-debs",
    "--skip": "leave it out: ctk leaves no caches and lists behind that need cleaning up",
    "--logfile": "--json > FILE is the whole log; the output of the scripts is also in the logs of the cache",
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
    """What to use in place of `option`; "" if none of these programs has it."""
    text = INSTEAD.get(option.partition("=")[0], "")
    if text.startswith("--"):
        text = "use " + text
    return text.format(engine=_ENGINE.format(option=option), option=option)
