"""Tests in a virtual machine: Debian with systemd and nothing but cgroup v2, AppArmor, CRIU and podman.

What few hosts of a test have and most users' hosts do have. The guest (`guest.py`) is made by `ctk bootstrap`, booted
once (`image.py`) and then resumed by QEMU without KVM (`machine.py`). It gets the checkout (`project.py`) and carries
out the programs in `inside/`, one for each theme; they print what they saw as JSON, and the tests beside this file
judge it. By hand:

    python -m tests.vm 'systemctl status; ctk --version'
"""
