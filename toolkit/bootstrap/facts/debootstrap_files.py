"""Where debootstrap stores what the first stage leaves for the second: in a tree, and in a tarball of packages."""

ARCHIVES = "var/cache/apt/archives"
LISTS = "var/lib/apt/lists"
FOLDER = "debootstrap"
OWN = "ctk.lock"  # in FOLDER: ours, which debootstrap ignores
