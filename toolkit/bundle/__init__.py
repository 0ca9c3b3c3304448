"""Rootfs to bundle: the spec builder behind `ctk spec`.

    spec = edited(default_spec(), [root.writable(), process.args(["bash"]), mounts.share_net(HostFiles.read())])

Every customisation is one small pure edit (`Spec -> Spec`); `build.py` turns a request into the list of edits, reads
what they need from the host beforehand, and writes the result. `document.py` alone knows the file's form.
"""
