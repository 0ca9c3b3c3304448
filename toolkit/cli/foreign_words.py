"""Commands and options of Docker, podman and umoci that ctk doesn't have: what to use, or why there is nothing."""

_ROOT = "a container here is a folder with files and a config.json, not an image"

INSTEAD = {
    "build": "ctk bootstrap SUITE ./root --include PACKAGES --customize-hook … makes a root, ctk spec its config.json",
    "rmi": "ctk image rm IMAGE; ctk bootstrap --remove DIR removes a tree",
    "commit": f"{_ROOT}; what a container writes is in its root already, and ctk diff NAME shows it",
    "history": "ctk image history IMAGE; ctk diff NAME shows what a container has changed",
    "tag": "ctk image tag IMAGE NAME",
    "untag": "ctk image rm NAME",
    "stat": "ctk image history IMAGE shows the layers, ctk image inspect IMAGE everything",
    "save": "a root is plain files: save them with tar -C ROOT -c . for docker import or podman import",
    "export": "a root is plain files: export them with tar -C ROOT -c . for docker import or podman import",
    "load": "unpack the files into a folder and describe it with ctk spec --rootfs DIR",
    "import": "unpack the files into a folder and describe it with ctk spec --rootfs DIR",
    "search": "ctk up takes the name of a suite: bookworm, trixie, jammy, noble, …",
    "container": "leave the word out: ctk list, ctk rm, ctk inspect",
    "containers": "ctk list",
    "ls": "ctk list",
    "volume": "ctk up SUITE NAME -v ./folder:/folder, as in ctk spec -v",
    "network": "ctk up SUITE NAME --share-net uses the host's network; without it there is only lo",
    "port": "ctk inspect NAME shows the open ports; with --share-net they are the host's",
    "compose": "ctk generate systemd NAME writes a unit; systemd starts several",
    "system": "ctk doctor checks what the host can do, ctk gc removes what dead containers left behind",
    "prune": "ctk gc removes what dead containers left behind, ctk cache prune what builds have cached",
    "info": "ctk doctor, ctk features",
    "version": "ctk --version",
    "wait": "ctk attach NAME waits, and exits with the container's exit code",
    "unpause": "ctk resume NAME",
    "rename": "a container keeps its name; ctk up --replace gives it to a new one",
    "shell": "ctk exec -t NAME sh",
    "enter": "ctk exec -t NAME sh",
    "debootstrap": "ctk bootstrap SUITE TARGET",
    "remove": "ctk rm NAME, ctk image rm IMAGE, or ctk bootstrap --remove DIR for a tree",
    "image ls": "ctk images",
    "image list": "ctk images",
    "image remove": "ctk image rm IMAGE",
    "image delete": "ctk image rm IMAGE",
    "image untag": "ctk image rm NAME",
    "image exists": "ctk image inspect IMAGE has the exit code 1 if it is not there",
    "image gc": "ctk image prune",
    "image fsck": "ctk image check",
    "image stat": "ctk image history IMAGE shows the layers, ctk image inspect IMAGE everything",
    "image tree": "ctk image history IMAGE shows the layers",
}


# Options of `docker run` that `up` has under another name, or not at all.
OPTIONS = {
    "--name": "the name is the second word: ctk up SUITE NAME",
    "-p": "ctk publishes no ports; --share-net uses the host's network, ports and all",
    "--publish": "ctk publishes no ports; --share-net uses the host's network, ports and all",
    "--network": "--share-net uses the host's network; without it there is only lo",
    "--net": "--share-net uses the host's network; without it there is only lo",
    "-it": "leave it out: the program gets a terminal if you have one (override with --tty or --no-tty)",
    "-i": "leave it out: standard input is passed on, and the program gets a terminal if you have one: "
    "ctk up SUITE NAME -- COMMAND",
    "-t": "leave it out: the program gets a terminal if you have one (override with --tty or --no-tty)",
    "-w": "--cwd DIR",
    "--workdir": "--cwd DIR",
    "--entrypoint": "the command comes last: ctk up SUITE NAME -- COMMAND",
    "--restart": "ctk generate systemd NAME writes a unit that restarts it",
}


def instead(word: str, group: str = "") -> str:
    """What to type instead of the command `word` of `group`; '' if it isn't in the table."""
    return INSTEAD.get(f"{group} {word}".strip(), "")


def option(word: str) -> str:
    """What to give `ctk up` instead of Docker's option `word`; '' if the word isn't in the table."""
    return OPTIONS.get(word, "")
