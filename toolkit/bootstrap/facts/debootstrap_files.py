"""Where debootstrap keeps what one half of a build leaves for the other: in a tree, and in a tarball of packages."""

ARCHIVES = "var/cache/apt/archives"
LISTS = "var/lib/apt/lists"
FOLDER = "debootstrap"
OWN = "ctk.lock"  # in FOLDER: ours, which debootstrap ignores
