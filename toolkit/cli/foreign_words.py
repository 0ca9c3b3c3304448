"""Commands and options of docker, podman, skopeo and umoci that ctk doesn't have: what to use, or why there is none."""

_ROOT_AS_TAR = "a root is plain files: tar -C ROOT -c . writes them as a tar"

_OTHERS = "leave the word out; ctk --help lists what there is"
_SIGN = "ctk push --sign-by KEY IMAGE"

INSTEAD = {
    "buildx": "ctk build -t NAME DIR",
    "bud": "ctk build -t NAME DIR",
    "from": "ctk up IMAGE NAME",
    "rmi": "ctk image rm IMAGE; ctk bootstrap --remove DIR removes a tree",
    "repack": "ctk commit ID IMAGE adds a layer of what has changed; ctk pack DIR IMAGE makes an image of a root",
    "history": "ctk image history IMAGE; ctk diff NAME shows what a container has changed",
    "tag": "ctk image tag IMAGE NAME",
    "untag": "ctk image rm NAME",
    "stat": "ctk image history IMAGE shows the layers, ctk image inspect IMAGE everything",
    "tree": "ctk image history IMAGE shows the layers",
    "save": "ctk copy IMAGE docker-archive:FILE:NAME, for docker load and podman load",
    "load": "ctk copy docker-archive:FILE store:NAME, or oci-archive:FILE",
    "export": _ROOT_AS_TAR,
    "import": "ctk pack DIR IMAGE, when the files are unpacked into a folder",
    "search": "there is no search: ctk pull takes a name, ctk up the name of a suite, too (bookworm, noble, …)",
    "sync": "ctk copy --all SOURCE DESTINATION, once for each image",
    "manifest": "ctk image inspect IMAGE; ctk pull --all-platforms takes all that an index lists",
    "mount": "ctk unpack IMAGE --bundle DIR makes a folder of it; ctk up mounts the layers by itself",
    "raw": "ctk unpack IMAGE --bundle DIR",
    "container": "leave the word out: ctk list, ctk rm, ctk inspect",
    "containers": "ctk list",
    "ls": "ctk list",
    "volume": "ctk up IMAGE NAME -v ./folder:/folder, as in ctk spec -v",
    "compose": "ctk generate systemd NAME writes a unit; systemd starts several",
    "system": "ctk doctor checks what the host can do, ctk gc removes what dead containers left behind",
    "prune": "ctk image prune, ctk gc (what dead containers left behind), ctk cache prune (what builds have cached)",
    "info": "ctk doctor, ctk features",
    "version": "ctk --version",
    "wait": "ctk attach NAME waits, and exits with the container's exit code",
    "unpause": "ctk resume NAME",
    "rename": "a container keeps its name; ctk up --replace gives it to a new one",
    "shell": "ctk exec -t NAME sh",
    "enter": "ctk exec -t NAME sh",
    "debootstrap": "ctk bootstrap SUITE TARGET",
    "remove": "ctk rm NAME, ctk image rm IMAGE, or ctk bootstrap --remove DIR for a tree",
    "umount": "nothing is mounted on the host: ctk rm NAME removes a container with what it wrote",
    "unmount": "nothing is mounted on the host: ctk rm NAME removes a container with what it wrote",
    "insert": "ctk unpack IMAGE --bundle DIR, change DIR/rootfs, ctk pack DIR IMAGE",
    "config": "ctk commit or ctk pack with --change 'CMD [\"sh\"]'; ctk image inspect IMAGE shows it",
    "init": "ctk bootstrap SUITE --tag NAME makes an image, ctk copy IMAGE oci:DIR a layout",
    "new": "ctk bootstrap SUITE --tag NAME makes an image, ctk pack DIR IMAGE one of a folder",
    "sbom": "ctk bootstrap --sbom FILE writes one, ctk push --attach-sbom FILE attaches one",
    "standalone-sign": _SIGN,
    "sign": _SIGN,
    "trust": "ctk pull --policy FILE checks signatures; ctk push --sign-by KEY makes them",
    "skopeo": _OTHERS,
    "umoci": _OTHERS,
    "podman": _OTHERS,
    "docker": _OTHERS,
    "tags": "ctk image tags REPOSITORY",
    "referrers": "ctk image referrers IMAGE",
    "image build": "ctk build -t NAME DIR",
    "image ls": "ctk images",
    "image list": "ctk images",
    "image remove": "ctk image rm IMAGE",
    "image delete": "ctk image rm IMAGE",
    "image untag": "ctk image rm NAME",
    "list-tags": "ctk image tags REPOSITORY",
    "image list-tags": "ctk image tags REPOSITORY",
    "image exists": "ctk image inspect IMAGE has the exit code 1 if it is not there",
    "image gc": "ctk image prune",
    "image fsck": "ctk image check",
    "image pull": "ctk pull IMAGE",
    "image push": "ctk push IMAGE [NAME]",
    "image copy": "ctk copy SOURCE DESTINATION",
    "image unpack": "ctk unpack IMAGE --bundle DIR",
    "image export": "ctk copy IMAGE oci-archive:FILE",
}


_TLS = (
    "--plain-http HOST[:PORT] for a registry without TLS; the certificate of its own authority goes to "
    "/etc/containers/certs.d/HOST/ca.crt"
)
_PLATFORM = "--platform OS/ARCH[/VARIANT]"
_LOGIN = "ctk login --username NAME REGISTRY; the environment's REGISTRY_AUTH_FILE names another file of logins"
_SAME_BYTES = "leave it out: nothing in an image is converted, so it keeps its digest"
_REGISTRY = {
    "--tls-verify": _TLS,
    "--src-tls-verify": _TLS,
    "--dest-tls-verify": _TLS,
    "--arch": _PLATFORM,
    "--os": _PLATFORM,
    "--variant": _PLATFORM,
    "--override-arch": _PLATFORM,
    "--override-os": _PLATFORM,
    "--creds": _LOGIN,
    "--src-creds": _LOGIN,
    "--dest-creds": _LOGIN,
    "--authfile": _LOGIN,
    "--format": _SAME_BYTES,
    "--preserve-digests": _SAME_BYTES,
    "--dest-compress": _SAME_BYTES,
    "--dest-compress-format": _SAME_BYTES,
    "--multi-arch": "--all",
    "--all-tags": "pull each tag by its name",
    "-a": "with --all-platforms ctk pull takes every platform; tags are pulled one by one",
}
_NO_PORTS = "no ports are published; --share-net uses the host's network, ports and all"
_OWN_NETWORK = "--share-net uses the host's network; without it there is only lo"
_WHOLE_LIST = "leave it out: every image is listed; --json has whole digests, and jq filters it"
_NEVER_ASKS = "leave it out: it never asks; --dry-run shows what would go"

OPTIONS = {
    "up": {
        "--name": "the name is the second word: ctk up IMAGE NAME",
        "-p": _NO_PORTS,
        "--publish": _NO_PORTS,
        "--network": _OWN_NETWORK,
        "--net": _OWN_NETWORK,
        "-it": "leave it out: the program gets a terminal if you have one (override with --tty or --no-tty)",
        "-i": "leave it out: standard input is passed on, and the program gets a terminal if you have one: "
        "ctk up SUITE NAME -- COMMAND",
        "-t": "leave it out: the program gets a terminal if you have one (override with --tty or --no-tty)",
        "-w": "--cwd DIR",
        "--workdir": "--cwd DIR",
        "--entrypoint": "the command comes last: ctk up SUITE NAME -- COMMAND",
        "--restart": "ctk generate systemd NAME writes a unit that restarts it",
        "--tls-verify": _TLS,
    },
    "pull": _REGISTRY,
    "push": _REGISTRY,
    "copy": _REGISTRY | {"-a": "--all"},
    "unpack": _REGISTRY
    | {
        "--image": "the image is a word: ctk unpack oci:DIR:TAG --bundle BUNDLE",
        "--uid-map": "--rootless uses your subordinate ids",
        "--gid-map": "--rootless uses your subordinate ids",
    },
    "login": {
        "-p": "--password-stdin: what is on a command line is shown by ps",
        "--password": "--password-stdin: what is on a command line is shown by ps",
        "--tls-verify": _TLS,
        "--authfile": "the environment's REGISTRY_AUTH_FILE names another file",
    },
    "images": dict.fromkeys(("-a", "--all", "--digests", "--no-trunc", "--format", "--filter", "-f"), _WHOLE_LIST),
    "image rm": {"-a": "ctk image prune --all", "--all": "ctk image prune --all"},
    "image prune": {"-f": _NEVER_ASKS, "--force": _NEVER_ASKS, "--filter": _NEVER_ASKS},
    "image inspect": {"-f": "it prints JSON, for jq", "--format": "it prints JSON, for jq", "--raw": "it prints JSON"},
}


def instead(word: str, group: str = "") -> str:
    """What to type instead of the command `word` of `group`; '' if it isn't in the table."""
    found = INSTEAD.get(f"{group} {word}".strip(), "")
    return found or (INSTEAD.get(word, "") if group == "image" else "")  # docker has most words twice


def option(command: str, word: str) -> str:
    """What to give `command` instead of another tool's option `word`; '' if it isn't in the table."""
    return OPTIONS.get(command, {}).get(word, "")
