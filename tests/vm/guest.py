"""What is in the guest: Debian packages, the units that it does not start, the files that make it ours. All pure."""

import shlex

SUITE = "trixie"  # its kernel (6.12) maps ids on tmpfs, and its criu knows that kernel

PACKAGES = (
    "linux-image-cloud-amd64",
    "tiny-initramfs",  # linux-image wants some initramfs maker; this one is done in no time (we bring our own initrd)
    "systemd",
    "systemd-sysv",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "udev",
    "kmod",
    "python3",
    "python3-typer",  # ctk's second door: a unit of `ctk generate systemd` says `ctk stop`
    "procps",
    "iproute2",
    "uidmap",
    "busybox-static",
    "apparmor",
    "criu",
    "iptables",  # criu stops a container's network with it while it saves it
    "podman",
    "netavark",
    "passt",
)

# Not started: what costs seconds at every boot of an emulated machine, and what a machine of minutes has no use for.
# apparmor.service loads the profiles of all packages; the LSM itself stays on.
MASKED = """
apparmor apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap fstrim.timer
getty@tty1 getty-static serial-getty@ttyS0 ldconfig netavark-dhcp-proxy netavark-dhcp-proxy.socket modprobe@dm_mod
modprobe@drm modprobe@loop systemd-binfmt proc-sys-fs-binfmt_misc.automount systemd-firstboot systemd-hwdb-update
systemd-hibernate-clear systemd-journal-catalog-update systemd-journal-flush systemd-machine-id-commit
systemd-pcrlock.socket systemd-pcrextend.socket systemd-pstore systemd-random-seed systemd-sysusers systemd-timesyncd
systemd-tmpfiles-clean.timer systemd-tpm2-setup systemd-tpm2-setup-early systemd-update-done
sys-kernel-debug.mount sys-kernel-tracing.mount systemd-ask-password-console.path systemd-ask-password-wall.path
""".split()

# Each daemon-reload starts all generators: a third of its seconds, for units that this machine has none of.
GENERATORS = {
    "system": """
podman-system-generator systemd-debug-generator systemd-fstab-generator systemd-getty-generator
systemd-gpt-auto-generator systemd-hibernate-resume-generator systemd-rc-local-generator systemd-run-generator
systemd-ssh-generator systemd-system-update-generator systemd-sysv-generator systemd-tpm2-generator
""".split(),
    "user": ["podman-user-generator", "systemd-xdg-autostart-generator"],
}

USER, USER_ID, FIRST_SUBORDINATE = "tester", 1000, 100000
# For a command of the user's: a service of his own manager, where the controllers are delegated as for an engine that
# he starts.
AS_USER = (
    f"runuser -u {USER} -- env HOME=/home/{USER} XDG_RUNTIME_DIR=/run/user/{USER_ID} "
    "systemd-run --user --quiet --pipe --wait --collect -p Delegate=yes -E PATH "
)
AGENT = "/usr/local/lib/ctk-vm/agent.py"
PROJECT = "/opt/ctk"  # where the agent unpacks the project at each boot
PORT = "ctk.agent"

# Run by the user before the guest is saved: podman's image of one busybox (inside/engine.py), without a registry.
# Neither ctk nor anything else of the project has a part in it.
BOX = """\
set -eo pipefail
mkdir -p box/bin box/dev box/etc box/mnt box/proc box/run box/sys box/tmp
cp /usr/bin/busybox box/bin/
box/bin/busybox --install box/bin
echo root:x:0:0::/:/bin/sh >box/etc/passwd
: >box/etc/hosts
tar -C box -c . | podman import --change CMD=/bin/sh - localhost/box
rm -r box
"""
PREPARE = f"{AS_USER} --working-directory=/home/{USER} bash -c {shlex.quote(BOX)}"

_AGENT_UNIT = f"""\
[Unit]
Description=Commands from the host
After=multi-user.target user@{USER_ID}.service
[Service]
ExecStart=/usr/bin/python3 {AGENT}
StandardOutput=journal+console
Delegate=yes
OOMScoreAdjust=-500
TimeoutStopSec=2
"""

FILES = {
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",  # else the first boot would be a "first boot"
    "etc/fstab": "",
    "etc/systemd/journald.conf.d/vm.conf": "[Journal]\nStorage=volatile\nAudit=no\n",
    # systemd's own default gives a user's manager no cpuset and no io.
    "etc/systemd/system/user@.service.d/delegate.conf": "[Service]\nDelegate=cpu cpuset io memory pids\n",
    "etc/systemd/system/ctk-agent.service": _AGENT_UNIT,
    "etc/modules-load.d/vm.conf": "overlay\ntun\nveth\n",
    f"var/lib/systemd/linger/{USER}": "",
}
LINKS = {
    "etc/systemd/system/multi-user.target.wants/ctk-agent.service": "../ctk-agent.service",
    "etc/systemd/system/default.target": "/usr/lib/systemd/system/multi-user.target",
    "usr/local/bin/ctk": f"{PROJECT}/bin/ctk",
    **{f"etc/systemd/system/{name if '.' in name else name + '.service'}": "/dev/null" for name in MASKED},
    **{f"etc/systemd/{whose}-generators/{name}": "/dev/null" for whose, names in GENERATORS.items() for name in names},
}
# Lines to add to files that the packages bring.
LINES = {
    "etc/passwd": f"{USER}:x:{USER_ID}:{USER_ID}::/home/{USER}:/bin/bash\n",
    "etc/group": f"{USER}:x:{USER_ID}:\n",
    "etc/shadow": f"{USER}:*:20000:0:99999:7:::\n",
    "etc/subuid": f"{USER}:{FIRST_SUBORDINATE}:65536\n",
    "etc/subgid": f"{USER}:{FIRST_SUBORDINATE}:65536\n",
}
# What no test reads; each megabyte takes its time in mke2fs.
DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt/lists")

INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b insmod /virtio_blk.ko
$b mount -t ext4 -o rw,noatime /dev/vda /root
$b mount --move /dev /root/dev
exec $b switch_root /root /usr/lib/systemd/systemd "$@"
"""

# No mitigations and no hardening that emulation would only make slower; the LSMs that the tests need, in order.
KERNEL_ARGUMENTS = (
    "console=ttyS0 panic=-1 quiet mitigations=off init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off "
    "nowatchdog no_timer_check tsc=reliable lsm=landlock,yama,apparmor,bpf systemd.show_status=0"
)
