"""netlink sockets against the kernel: what it refuses, by its message; dumps; transactions of nftables."""

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.fixtures.network import Machine
from toolkit.errors import SystemCall
from toolkit.kernel import netlink, rtnetlink
from toolkit.kernel.netlink import Message, attribute, text

pytestmark = pytest.mark.root

NEWTABLE, DELTABLE = 0xA00, 0xA02


@pytest.fixture
def route(machine: Machine) -> Iterator[netlink.Socket]:
    """A socket of the machine, which works from wherever we stand."""
    with machine.entered():
        end = netlink.Socket()
    with end:
        yield end


@pytest.fixture
def nft(machine: Machine) -> Iterator[netlink.Socket]:
    with machine.entered():
        end = netlink.Socket(netlink.NETFILTER)
    with end:
        yield end


def bridge(name: str) -> Message:
    return rtnetlink.new_link("bridge", name)


def table(kind: int, name: str, flags: int = 0) -> Message:
    return Message(kind, flags, bytes((1, 0, 0, 0)) + attribute(1, text(name)))


def test_the_message_that_failed_is_named_and_the_others_are_carried_out(
    machine: Machine,
    route: netlink.Socket,
) -> None:
    with pytest.raises(netlink.Refused) as caught:
        route.tell(bridge("a0"), bridge("a0"), bridge("b0"))
    assert caught.value.errno == errno.EEXIST and caught.value.at == 1
    assert caught.value.call == (
        "sendto({nlmsg_type=RTM_NEWLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK|NLM_F_EXCL|NLM_F_CREATE})"
    )
    assert "file exists" in caught.value.because
    assert "b0" in machine.run("ip", "-o", "link").stdout
    route.tell(bridge("c0"))  # and the socket is as good as before
    assert "c0" in machine.run("ip", "-o", "link").stdout


def test_the_kernels_own_words_are_told(route: netlink.Socket) -> None:
    with pytest.raises(netlink.Refused, match=r"\(.*[a-z]{3}.*\)$"):
        route.tell(rtnetlink.new_link("nosuchkind", "x0"))
    with pytest.raises(netlink.Refused) as caught:
        route.tell(rtnetlink.link(rtnetlink.NEWLINK, 0, index=99, up=True))
    assert caught.value.errno == errno.ENODEV and caught.value.at == 0


def test_a_dump_has_every_link_even_if_they_take_several_answers(route: netlink.Socket) -> None:
    names = {f"many{number}" for number in range(60)}
    route.tell(*(bridge(name) for name in sorted(names)))
    found = set()
    for body in route.dump(Message(rtnetlink.GETLINK, 0, bytes(16))):
        found.add(dict(netlink.attributes(body[16:]))[rtnetlink.IFLA_IFNAME].rstrip(b"\0").decode())
    assert found >= names | {"lo"}


def test_a_dump_that_is_refused_is_an_error(route: netlink.Socket) -> None:
    with pytest.raises(netlink.Refused, match=r"NLM_F_REQUEST\|NLM_F_DUMP"):
        route.dump(Message(0x7FF0, 0, bytes(16)))


def test_a_transaction_is_carried_out_whole_or_not_at_all(machine: Machine, nft: netlink.Socket) -> None:
    nft.commit([table(NEWTABLE, f"t{number}", netlink.CREATE | netlink.EXCL) for number in range(300)])
    assert machine.run("nft", "list", "tables").stdout.count("table") == 300
    with pytest.raises(netlink.Refused) as caught:
        nft.commit(
            [
                table(NEWTABLE, "new", netlink.CREATE),
                table(NEWTABLE, "t7", netlink.CREATE | netlink.EXCL),
                table(DELTABLE, "t8"),
                table(DELTABLE, "nobody"),
            ]
        )
    assert caught.value.errno == errno.EEXIST and caught.value.at == 1
    assert "NFT_MSG_NEWTABLE" in caught.value.call
    left = machine.run("nft", "list", "tables").stdout.split()
    assert "new" not in left and "t8" in left
    nft.commit([table(DELTABLE, "t8")])  # the socket has nothing of the failed one left
    assert "t8" not in machine.run("nft", "list", "tables").stdout.split()
    nft.commit([])


def test_a_transaction_without_the_right_to_it_is_refused_at_once(machine: Machine) -> None:
    """The kernel answers once, for the beginning: waiting for the last message's answer would be for ever."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            with machine.entered():
                end = netlink.Socket(netlink.NETFILTER)
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                end.commit([table(NEWTABLE, "t", netlink.CREATE)])
            except netlink.Refused as error:
                code = 0 if (error.errno, error.at) == (errno.EPERM, -1) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_what_another_process_sends_is_no_answer(machine: Machine, route: netlink.Socket) -> None:
    """Root may send to anybody's netlink socket; what comes from port 0 only is the kernel's."""
    route.tell(bridge("a0"))
    port, _ = route._end.getsockname()
    refusal = struct.pack("=IHHIIi", 36, 2, 0, route._sequence + 1, 0, -errno.EPERM) + bytes(16)
    with machine.entered():
        stranger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.ROUTE)
    with stranger:
        stranger.sendto(refusal, (port, 0))
    route.tell(bridge("b0"))
    assert "b0" in machine.run("ip", "-o", "link").stdout


def test_a_socket_that_cannot_be_made_is_told_as_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "x")

    monkeypatch.setattr(netlink._socket, "socket", refuse)
    with pytest.raises(SystemCall) as caught:
        netlink.Socket(netlink.NETFILTER)
    assert caught.value.call == "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_NETFILTER)"
    assert caught.value.errno == errno.EAFNOSUPPORT
