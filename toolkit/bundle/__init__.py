"""From a rootfs to a bundle: the spec builder behind `ctk spec`.

    spec = edited(default_spec(), [root.writable(), process.args(["bash"]), mounts.share_net(HostFiles.read())])

Each change is one small pure edit (`Spec -> Spec`). `build.py` turns a request into a list of edits, reads what they
need from the host beforehand, and writes the result. Only `document.py` knows the format of the file.
"""
