"""Words that Docker's and podman's users type: what does that here, or why nothing does."""

_ROOT = "a container here is a folder with files and a config.json, not an image"

INSTEAD = {
    "images": f"{_ROOT}; ctk cache list tells the trees that are kept, ctk list the containers",
    "image": f"{_ROOT}; ctk bootstrap makes the files, ctk spec --from-image reads an image's configuration",
    "build": "ctk bootstrap SUITE ./root --include PACKAGES --customize-hook … makes a root, ctk spec its description",
    "pull": "nothing is pulled: ctk up SUITE NAME makes the files from the distribution's packages",
    "push": f"{_ROOT}; ctk bootstrap SUITE root.tar writes one that docker import and podman import take",
    "rmi": f"{_ROOT}; ctk bootstrap --remove DIR takes a tree away, ctk cache prune the kept ones",
    "commit": f"{_ROOT}; what a container writes is in its root already, ctk diff NAME tells it",
    "history": f"{_ROOT}, so there are no layers; ctk diff NAME tells what has changed",
    "save": "tar -C ROOT -c . is all there is to save; docker import and podman import take it",
    "export": "tar -C ROOT -c . is all there is to export; docker import and podman import take it",
    "load": "unpack the files into a folder and describe it with ctk spec --rootfs DIR",
    "import": "unpack the files into a folder and describe it with ctk spec --rootfs DIR",
    "search": "ctk up takes the name of a suite: bookworm, trixie, jammy, noble, …",
    "login": "no registry is asked for anything",
    "container": "leave the word out: ctk list, ctk rm, ctk inspect",
    "containers": "ctk list",
    "ls": "ctk list",
    "volume": "ctk up SUITE NAME -v ./folder:/folder, as in ctk spec -v",
    "network": "ctk up SUITE NAME --share-net uses the host's network; alone it has only lo",
    "port": "ctk inspect NAME tells the open ports; with --share-net they are the host's",
    "compose": "ctk generate systemd NAME writes a unit; systemd starts several",
    "system": "ctk doctor tells what the host can do, ctk gc takes away what the dead have left",
    "prune": "ctk gc takes away what the dead have left, ctk cache prune what builds keep",
    "info": "ctk doctor, ctk features",
    "version": "ctk --version",
    "wait": "ctk attach NAME ends with the container's exit code",
    "unpause": "ctk resume NAME",
    "rename": "a container keeps its name; --replace gives the name to a new one",
    "shell": "ctk exec -t NAME sh",
    "enter": "ctk exec -t NAME sh",
    "debootstrap": "ctk bootstrap SUITE TARGET",
    "remove": "ctk rm NAME, or ctk bootstrap --remove DIR for a tree",
}


# Options of `docker run` that `up` has by another name, or not.
OPTIONS = {
    "--name": "the name is the second word: ctk up SUITE NAME",
    "-p": "no port is published; --share-net uses the host's network, ports and all",
    "--publish": "no port is published; --share-net uses the host's network, ports and all",
    "--network": "--share-net uses the host's network, without it there is only lo",
    "--net": "--share-net uses the host's network, without it there is only lo",
    "-it": "leave it out: on a terminal it gets one (--tty and --no-tty say otherwise)",
    "-i": "leave it out: standard input is passed on, and on a terminal it gets one: ctk up SUITE NAME -- COMMAND",
    "-t": "leave it out: on a terminal it gets one (--tty and --no-tty say otherwise)",
    "-w": "--cwd DIR",
    "--workdir": "--cwd DIR",
    "--entrypoint": "the command is what follows: ctk up SUITE NAME -- COMMAND",
    "--restart": "ctk generate systemd NAME writes a unit that does",
}


def instead(word: str) -> str:
    """What to type in place of `word`; '' for one that we don't know either."""
    return INSTEAD.get(word, "")


def option(word: str) -> str:
    """What to type to `ctk up` in place of an option of Docker's; '' for one that we don't know either."""
    return OPTIONS.get(word, "")
