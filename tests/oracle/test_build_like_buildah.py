"""The same Containerfile built by buildah and by us: the same files, and the same configuration."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command import Command, tool
from tests.fixtures.layers import look

pytestmark = pytest.mark.root

BASE = "FROM scratch AS base\nCOPY root/ /\n"
RUN_FIELDS = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
)  # fmt: skip


@pytest.fixture(scope="module")
def context(busybox_rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    root = folder / "root"
    shutil.copytree(busybox_rootfs, root, symlinks=True)
    for name in ("dev", "proc", "sys", "tmp", "run", "usr/lib", "etc", "srv"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("etc/hosts", "etc/resolv.conf"):
        (root / name).touch()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/srv:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:44:\nmore:x:45:web\n")
    os.symlink("usr/lib", root / "lib")
    src = folder / "src"
    (src / "deep/er").mkdir(parents=True)
    (src / "deep/er/c").write_text("c\n")
    (src / "deep/b.txt").write_text("b\n")
    (src / "a.txt").write_text("a\n")
    (src / "prog").write_text("#!/bin/sh\n")
    os.chmod(src / "prog", 0o755)  # buildah drops setuid, docker and we keep it
    os.chmod(src / "deep", 0o700)
    os.chown(src / "a.txt", 55, 66)
    os.symlink("a.txt", src / "link")
    os.symlink("deep", src / "folder-link")
    os.link(src / "a.txt", src / "hard")
    (folder / "overlay/lib").mkdir(parents=True)
    (folder / "overlay/lib/new").write_text("new\n")
    with tarfile.open(folder / "some.tar.gz", "w:gz") as tar:
        for name, owner in (("t/one", 0), ("t/two", 7)):
            about = tar.gettarinfo(str(src / "a.txt"), name)
            about.uid, about.gid, about.uname, about.gname, about.type = owner, owner, "", "", tarfile.REGTYPE
            with open(src / "a.txt", "rb") as file:
                tar.addfile(about, file)
    (folder / ".dockerignore").write_text("**/secret*\n!src/deep/secret-kept\n")
    (src / "secret").write_text("s")
    (src / "deep/secret-kept").write_text("s")
    (src / "deep/er/secret").write_text("s")
    return folder


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[list[str]]:
    # Its own default of open files is more than a container without CAP_SYS_RESOURCE may have.
    settings = tmp_path / "containers.conf"
    settings.write_text('[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n')
    words = [
        tool("env"),
        f"CONTAINERS_CONF={settings}",
        tool("buildah"),
        "--root",
        f"{tmp_path}/b/root",
        "--runroot",
        f"{tmp_path}/b/run",
        "--storage-driver",
        "vfs",
    ]
    yield words
    subprocess.run([*words, "rm", "--all"], capture_output=True)
    subprocess.run([*words, "rmi", "--all", "--force"], capture_output=True)


def both(ctk: Command, buildah: list[str], context: Path, tmp_path: Path, text: str, *words: str) -> list[Any]:
    """For buildah and for us: the configuration, and the tree."""
    file = tmp_path / "Containerfile"
    file.write_text(text)
    theirs = [*buildah, "bud", "--isolation", "chroot", "-q", "-f", str(file), "-t", "it", *words, str(context)]
    done = subprocess.run(theirs, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pushed = subprocess.run([*buildah, "push", "-q", "it", f"oci:{tmp_path}/oci:it"], capture_output=True, text=True)
    assert pushed.returncode == 0, pushed.stderr
    ctk("copy", f"oci:{tmp_path}/oci:it", "store:theirs").ok()
    ctk("build", "-f", str(file), "-t", "ours", *words, str(context), timeout=300).ok()
    found = []
    for name in ("theirs", "ours"):
        ctk("unpack", name, "--bundle", str(tmp_path / name)).ok()
        config = json.loads(ctk("image", "inspect", name).ok().out)["config"]
        tree = look(tmp_path / name / "rootfs", times=False)
        found.append((config, tree))
    return found


def same(found: list[Any]) -> None:
    (theirs, their_tree), (ours, our_tree) = found
    for one in (theirs, ours):  # whether an empty image has a PATH, and where it stands, is not what is compared
        one["config"]["Env"] = sorted(
            entry for entry in one["config"].get("Env") or () if not entry.startswith("PATH=")
        )
        one["config"].setdefault("WorkingDir", "/")  # newer releases of buildah write the default
    labels = theirs["config"].get("Labels") or {}
    labels.pop("io.buildah.version", None)
    theirs["config"]["Labels"] = labels or None
    for key in RUN_FIELDS:
        assert (ours.get("config") or {}).get(key) == (theirs.get("config") or {}).get(key), key
    assert (ours["os"], ours["architecture"]) == (theirs["os"], theirs["architecture"])
    differing = {
        path: (their_tree.get(path), our_tree.get(path))
        for path in {*their_tree, *our_tree}
        if their_tree.get(path) != our_tree.get(path) and not path.endswith("etc/hostname")  # their mount point
    }
    assert not differing


# Each costs a second of processor for its base and its comparison: the copies, in folders of their own, are one.
TEXTS = {
    "copies and adds": """
COPY src/a.txt /one
COPY src/a.txt src/prog /two/
COPY src /three
COPY src/ /four/
COPY --chown=web src/deep /five
COPY --chown=33:more src/*.txt /six/
COPY --chown=99 src/link /seven
COPY --chmod=640 src/deep/b.txt /srv
COPY ["src/deep/er", "/srv/with blank"]
COPY src/folder-link /eight
COPY s?c/[a-b].txt /nine/
COPY src/deep /srv/x
COPY src/a.txt /srv/x/b.txt
COPY src/deep/ /srv/x/
RUN ln -s /srv/x /to
COPY src/prog /to
COPY src/a.txt /to/../y/
ADD some.tar.gz /tar
ADD some.tar.gz src/prog /both/
ADD src/a.txt /srv/
""",
    "configuration": """
ARG one=1
ARG two
ENV a=$one b="x  y" c=${two:-none}
ENV old style value
LABEL x=1 y="a b" z='$a'
LABEL x=$a-${b}
EXPOSE 80 53/udp
EXPOSE $one
VOLUME /data ["/x"]
VOLUME ["/v1", "/v2"]
STOPSIGNAL SIGUSR1
WORKDIR /work
WORKDIR sub/$a
USER web:more
ENTRYPOINT ["/bin/echo", "$a"]
CMD ["b"]
""",
    "runs": """
ARG word=given
ENV word2=env
WORKDIR /made/here
RUN pwd > out; echo "$word $word2" >> out; umask >> out
RUN ["/bin/sh", "-c", "id -u >> out"]
RUN rm -r /srv && mkdir /srv && echo x > /srv/x
USER web
RUN (id -u; id -g) > /tmp/id
USER root
RUN mkdir -p /a/b && chown web:more /a/b && chmod 2770 /a/b && mv /a /c
RUN ln /c /d 2>/dev/null; ln -s c /d
""",
    "stages": """
RUN echo one > /one
FROM base AS two
COPY --from=0 /etc/passwd /from-0
COPY --from=made /one /srv/
FROM two
COPY --from=two /from-0 /srv/one /srv/
COPY --from=made / /all/
""",
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_image(ctk: Command, buildah: list[str], context: Path, tmp_path: Path, name: str) -> None:
    same(both(ctk, buildah, context, tmp_path, f"{BASE}FROM base AS made\n{TEXTS[name]}", "--build-arg", "two=2"))
