"""`ctk run --net` and `-p`: what reaches what, on a host made of a network namespace (tests/fixtures/network.py)."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from tests.fixtures import user
from tests.fixtures.command import tool
from tests.fixtures.network import Machine, Town
from tests.fixtures.waiting import until

pytestmark = pytest.mark.root

SAYS_WHO_ASKED = """
import socket
end, who = socket.create_server(("", 7000)).accept()
end.sendall(who[0].encode())
"""
ECHOES = """
import socket
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.bind(("", 53))
while True:
    end.sendto(*end.recvfrom(100))
"""
ASKS = """
import socket
end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end.settimeout(5)
end.sendto(b"heard", ("127.0.0.1", 5300))
print(end.recv(100).decode())
"""


def test_a_published_port_is_for_this_host_unless_it_is_opened(town: Town) -> None:
    name = town.serve("-p", "8080:80", "-p", "0.0.0.0:8081:80")
    address = town.address(name)
    assert town.asks(town.host, "127.0.0.1:8080") == name
    assert town.asks(town.host, "127.0.0.1:8081") == name
    assert town.asks(town.host, f"{town.HOST}:8081") == name
    assert town.asks(town.host, f"{address}:80") == name
    assert town.asks(town.neighbour, f"{town.HOST}:8081") == name
    assert town.asks(town.neighbour, f"{town.HOST}:8080") == ""
    assert town.asks(town.neighbour, f"{address}:80") == ""
    # And from containers: another's opened port by the host's address, and one's own (hairpin), and directly.
    other = town.serve()
    assert town.asks(other, f"{address}:80") == name
    for who in (name, other):
        assert town.asks(who, f"{town.HOST}:8081") == name
        assert town.asks(who, f"{town.HOST}:8080") == ""


def test_a_container_reaches_out_with_the_hosts_address(town: Town) -> None:
    name = town.serve()
    with subprocess.Popen(town.neighbour.argv(sys.executable, "-I", "-c", SAYS_WHO_ASKED)) as server:
        try:
            heard = until(
                lambda: town.inside(name, "busybox", "nc", "-w1", town.NEIGHBOUR, "7000", check=False).stdout,
                "what the neighbour saw",
            )
            assert heard == town.HOST
        finally:
            server.kill()


def test_udp_a_range_and_a_free_port(town: Town) -> None:
    name = town.serve("-p", "5300:53/udp", "-p", "8000-8001:80-81", "-p", "80")
    there = [tool("nsenter"), f"--net=/proc/{town.pid(name)}/ns/net", "--", sys.executable, "-I", "-c"]
    with subprocess.Popen([*there, ECHOES]) as server:
        try:
            until(lambda: ":0035 " in town.inside(name, "cat", "/proc/net/udp").stdout, "its socket")
            asked = subprocess.run(town.host.argv(sys.executable, "-I", "-c", ASKS), capture_output=True, text=True)
            assert asked.stdout == "heard\n"
        finally:
            server.kill()
    ports = facts(town, name)["ports"]
    assert [one["port"] for one in ports[:3]] == [5300, 8000, 8001]
    assert ports[3]["port"] > 1023 and town.asks(town.host, f"127.0.0.1:{ports[3]['port']}") == name
    assert town.asks(town.host, "127.0.0.1:8000") == name


def facts(town: Town, name: str) -> Any:
    with open(f"{town.ctk.root}/{name}/state.json") as file:
        return json.load(file)["extra"]["networks"][0]


def test_a_port_that_is_taken_names_who_has_it(town: Town) -> None:
    first = town.serve("-p", "8080:80", "-p", "192.0.2.1:8082:80")
    bundle = str(town._bundle("none"))

    def refused(*ports: str) -> str:
        words = [word for port in ports for word in ("-p", port)]
        done = town.ctk("run", *words, "--bundle", bundle, town.ctk.id())
        assert done.rc == 1
        return done.err

    assert f"container '{first}' has published it" in refused("8080:80")
    assert f"container '{first}' has published it" in refused("0.0.0.0:8080:80")
    assert f"container '{first}' has published it" in refused("0.0.0.0:8082:80")
    assert "asked for twice" in refused("0.0.0.0:8090:80", "8090:81")
    assert "cannot assign requested address" in refused("203.0.113.7:80:80")
    server = subprocess.Popen(town.host.argv(tool("busybox"), "httpd", "-f", "-p", "127.0.0.1:8081"))
    try:
        until(lambda: ":1F91 " in town.host.run("cat", "/proc/net/tcp").stdout, "the host's own server")
        assert "busybox (pid " in refused("8081:80")
    finally:
        server.kill()
        server.wait()
    assert len(town.elements()["ports_at"]) == 2, "nothing of the refused ones"
    # The same port at another address, or of another protocol, is another port.
    town.serve("-p", "192.0.2.1:8080:80", "-p", "8080:80/udp")


@pytest.mark.parametrize("what", ["hook", "program"])
def test_a_launch_that_fails_leaves_nothing(what: str, town: Town) -> None:
    bundle = town._bundle("fails")
    if what == "hook":
        bundle.edit(lambda config: config.update(hooks={"createRuntime": [{"path": "/bin/false"}]}))
    else:
        bundle.args("/nowhere")
    name = town.ctk.id()
    done = town.ctk("run", "--net", "bridge", "-p", "8080:80", "--bundle", str(bundle), name)
    assert done.rc != 0 and ("hook #0" in done.err or "/nowhere" in done.err)
    assert town.ctk("list", "-q").out == ""
    until(lambda: not town.left(), "the end of its link")
    assert town.elements()["links"] == ["ctk0"], "it had come as far as a network"


def test_a_killed_container_leaves_no_link(town: Town) -> None:
    name = town.serve("-p", "8080:80")
    links = town.host.run("ip", "-o", "link").stdout
    assert "ctkv0a590002" in links
    os.kill(town.pid(name), signal.SIGKILL)
    until(lambda: "ctkv" not in town.host.run("ip", "-o", "link").stdout, "the end of its link")


@pytest.mark.parametrize("held", [True, False])
def test_a_restart_keeps_address_and_ports(held: bool, town: Town) -> None:
    town.serve()
    name = town.serve("-p", "8080:80", "-p", "0.0.0.0:8081:80", more=["--hold"] if held else [])
    before = facts(town, name)
    if not held:
        bundle = town.ctk("state", name).json()["bundle"]
        town.ctk("delete", "--force", name).ok()
        words = ("-d", "--net", "bridge", "-p", "8080:80", "-p", "0.0.0.0:8081:80")
        town.ctk("run", *words, "--bundle", bundle, name).ok()
    else:
        town.ctk("restart", "--time", "0", name).ok()
    assert facts(town, name) == before
    until(lambda: town.asks(town.host, "127.0.0.1:8080") == name, "its server")


def test_the_tables_come_back_after_a_firewall_has_flushed_them(town: Town) -> None:
    first = town.serve("-p", "8080:80")
    town.host.run("nft", "flush", "ruleset")
    assert town.asks(town.host, "127.0.0.1:8080") == ""
    town.serve()
    assert town.asks(town.host, "127.0.0.1:8080") == first
    assert len(town.elements()["addresses"]) == 2


def test_a_reboot_is_survived(town: Town) -> None:
    """The bridge, the tables and all processes are gone, the files are there."""
    first = town.serve("-p", "8080:80")
    os.kill(town.pid(first), signal.SIGKILL)
    until(lambda: town.ctk("state", first).json()["status"] == "stopped", "its end")
    town.host.run("nft", "flush", "ruleset")
    town.host.run("ip", "link", "delete", "ctk0")
    town.host.run("sysctl", "-q", "net.ipv4.ip_forward=0")
    second = town.serve("-p", "8080:80")
    assert town.asks(town.host, "127.0.0.1:8080") == second
    assert town.asks(second, f"{town.HOST}:8080") == ""


def test_a_bridge_of_somebody_elses_is_left_alone(town: Town) -> None:
    town.host.run("ip", "link", "add", "ctk0", "type", "bridge")
    done = town.ctk("run", "--net", "bridge", "--bundle", str(town._bundle("none")), town.ctk.id())
    assert done.rc == 1 and "there is a link 'ctk0' already, which is not ours" in done.err
    assert "ctk0" in town.host.run("ip", "-o", "link").stdout
    town.host.run("ip", "link", "delete", "ctk0")


def test_a_subnet_that_is_in_use_is_avoided(town: Town) -> None:
    town.host.run("ip", "route", "add", "10.89.0.0/23", "via", town.NEIGHBOUR)
    assert town.address(town.serve()) == "10.89.2.2"


def test_the_mtu_is_that_of_the_way_out(town: Town) -> None:
    town.host.run("ip", "link", "set", "eth0", "mtu", "1400")
    name = town.serve()
    assert town.inside(name, "cat", "/proc/net/route").stdout.count("\n") == 3
    for where in (town.host.run("ip", "link", "show", "ctk0"), town.inside(name, "ip", "link", "show", "eth0")):
        assert "mtu 1400" in where.stdout


def namespace_of(pid: "int | str") -> str:
    return os.readlink(f"/proc/{pid}/ns/net")


def test_none_host_and_namespaces_of_others(town: Town) -> None:
    bundle = town._bundle("seen").sh("readlink /proc/self/ns/net; ip -o link | wc -l")

    def seen(net: str) -> list[str]:
        return town.ctk("run", "--net", net, "--bundle", str(bundle), town.ctk.id()).ok().out.split()

    server = town.serve()
    assert seen("none")[1] == "1" and seen("none")[0] != namespace_of(town.host.pid)
    assert seen("host")[0] == namespace_of(town.host.pid)
    assert seen(f"container:{server}")[0] == namespace_of(town.pid(server))
    assert seen(f"ns:{town.neighbour.path}")[0] == namespace_of(town.neighbour.pid)
    refused = town.ctk("run", "--net", "container:nobody", "--bundle", str(bundle), town.ctk.id())
    assert refused.rc == 1 and "nobody" in refused.err
    for net in ("none", "host", f"container:{server}", f"ns:{town.neighbour.path}"):
        refused = town.ctk("run", "--net", net, "-p", "80:80", "--bundle", str(bundle), town.ctk.id())
        assert refused.rc == 1 and "there is no network of ctk's to publish it on" in refused.err
    ended = town.serve()
    os.kill(town.pid(ended), signal.SIGKILL)
    until(lambda: town.ctk("state", ended).json()["status"] == "stopped", "its end")
    refused = town.ctk("run", "--net", f"container:{ended}", "--bundle", str(bundle), town.ctk.id())
    assert refused.rc == 1 and "does not run" in refused.err


def test_what_a_path_names_must_be_a_network_namespace(town: Town) -> None:
    for path in ("/etc/passwd", f"/proc/{os.getpid()}/ns/uts", "/nowhere"):
        words = ("run", "--net", f"ns:{path}", "--bundle", str(town._bundle(path.replace("/", "-"))), town.ctk.id())
        assert town.ctk(*words).rc == 1


def test_an_address_and_an_ethernet_address_of_ones_own(town: Town) -> None:
    name = town.serve(net="bridge:ip=10.89.0.200,mac=02:00:00:00:00:07")
    told = town.inside(name, "ip", "address", "show", "eth0").stdout
    assert "10.89.0.200/24 brd 10.89.0.255" in told and "02:00:00:00:00:07" in told
    assert town.asks(town.host, "10.89.0.200:80") == name
    bundle = str(town._bundle("none"))
    refused = town.ctk("run", "--net", "bridge:ip=10.89.0.200", "--bundle", bundle, town.ctk.id())
    assert refused.rc == 1 and f"container '{name}' has 10.89.0.200" in refused.err
    refused = town.ctk("run", "--net", "nosuch", "--bundle", bundle, town.ctk.id())
    assert refused.rc == 1 and "there is no such network" in refused.err


def test_in_a_user_namespace(town: Town) -> None:
    bundle = town._bundle("mapped").sh("ip -o -4 address show eth0; id -u")
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]

    def change(config: dict[str, Any]) -> None:
        config["linux"].update(uidMappings=maps, gidMappings=maps)
        config["linux"]["namespaces"].append({"type": "user"})

    bundle.edit(change)
    subprocess.run(["chown", "-R", "100000:100000", str(bundle.rootfs)], check=True)
    os.chmod(bundle.path, 0o755)
    for folder in (bundle.path, *bundle.path.parents[:3]):
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
    out = town.ctk("run", "--net", "bridge", "--bundle", str(bundle), town.ctk.id()).ok().out
    assert "10.89.0.2/24" in out and out.endswith("0\n")


def test_explained_line_by_line_and_nothing_is_made(town: Town) -> None:
    bundle = str(town._bundle("told"))
    words = ("run", "--net", "bridge", "-p", "0.0.0.0:8080:80", "--bundle", bundle, town.ctk.id(), "--explain")
    told = " ".join(town.ctk(*words).ok().out.split())
    for line in (
        "ip link add ctkv0a590002 mtu 1500 master ctk0 up type veth peer name eth0 mtu 1500 address 02:63:0a:59:00:02",
        "ip address add 10.89.0.2/24 broadcast + dev eth0",
        "ip route add default via 10.89.0.1",
        "nft create element inet ctk ports { tcp . 8080 : 10.89.0.2 . 80 }",
        'nft add element bridge ctk addresses { "ctkv0a590002" . 10.89.0.2 }',
    ):
        assert line in told, told
    assert town.elements() == {} and not os.path.exists(town.ctk.environment["CTK_DATA"] + "/networks")


def test_an_ordinary_user_is_told_what_it_takes(town: Town) -> None:
    bundle = town._bundle("none")
    for folder in (bundle.path, *bundle.path.parents[:3]):
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
    nobody = user.prefix(str(bundle.path))
    run = (town.ctk.program, "run", "--net", "bridge", "--bundle", str(bundle), "x")
    argv = town.host.argv(*nobody, *run)
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=town.ctk.environment)
    assert done.returncode == 1 and "that takes root" in done.stderr


def test_a_host_without_the_right_to_its_settings(town: Town) -> None:
    """/proc/sys can't be written to in most containers."""
    run = town.ctk.argv("run", "--net", "bridge", "--bundle", str(town._bundle("none")), town.ctk.id())
    argv = [tool("unshare"), "--mount", "sh", "-c", 'mount -o bind,ro /proc/sys /proc/sys && exec "$@"', "sh", *run]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=town.ctk.environment)
    assert done.returncode == 1 and "set net.ipv4.conf.ctk0.route_localnet to 1: read-only file system" in done.stderr
    assert "ctk0" not in town.host.run("ip", "-o", "link").stdout


def test_runs_on_a_machine_are_not_this_machines(town: Town, machine: Machine) -> None:
    """What the tests stand on: two machines, one store each, no link of the one in the other."""
    town.serve()
    assert "ctk0" in town.host.run("ip", "-o", "link").stdout
    assert "ctk0" not in machine.run("ip", "-o", "link").stdout
    assert not os.path.exists("/sys/class/net/ctk0")
