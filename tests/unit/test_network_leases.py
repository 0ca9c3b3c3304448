"""Leases: nobody gets an address or a port that a living container has, whatever happened before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from toolkit.errors import InUse, Invalid
from toolkit.network import leases, model
from toolkit.network.leases import Holder, Lease

NETWORK = model.Network("web", "ctk-web", model.Subnet.parse("10.89.1.0/29"), model.number("10.89.1.1"))
ROOM = 5  # of eight: without the first, the last and the gateway


def holder(name: str, pid: int = 1) -> Holder:
    return Holder("/run/ctk", name, pid, 7, "boot")


class Leases(RuleBasedStateMachine):
    """Containers come, end by themselves, are released, and come again, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.leases: list[Lease] = []
        self.living: dict[str, Lease] = {}
        self.pid = 0

    def lives(self, lease: Lease) -> bool:
        return self.living.get(lease.holder.id) is lease

    @rule(name=st.sampled_from("abcdefgh"), wanted=st.sampled_from([0, 0, 2, 3, 6]))
    def begin(self, name: str, wanted: int) -> None:
        if name in self.living:
            return
        self.pid += 1
        taken = {one.address for one in self.living.values()}
        address = wanted and NETWORK.subnet.first + wanted
        before = [(one.address, one.holder.id) for one in self.leases]
        had = next((one.address for one in self.leases if one.holder.id == name), 0)
        try:
            found = leases.take(self.leases, NETWORK, holder(name, self.pid), address, self.lives)
        except InUse:
            assert address in taken or len(taken) == ROOM
            return
        assert found.address not in taken and found.address in NETWORK.subnet
        assert found.address not in (NETWORK.subnet.first, NETWORK.subnet.last, NETWORK.gateway)
        if address:
            assert found.address == address
        elif had:
            assert found.address == had, "it gets the address that it had"
        elif len({one for one, _ in before}) < ROOM:
            assert found.address not in {one for one, _ in before}, "one that nobody had"
        self.living[name] = found

    @precondition(lambda self: self.living)
    @rule(data=st.data(), released=st.booleans())
    def end(self, data: st.DataObject, released: bool) -> None:
        lease = self.living.pop(data.draw(st.sampled_from(sorted(self.living))))
        if released:
            lease.holder.pid = 0

    @invariant()
    def each_address_has_one_line(self) -> None:
        addresses = [one.address for one in self.leases]
        assert len(addresses) == len(set(addresses))
        assert all(lease in self.leases for lease in self.living.values())


TestLeases = Leases.TestCase


def test_only_the_address_in_question_is_asked_about() -> None:
    """A host with hundreds of containers must not look at hundreds of processes."""
    network = model.Network("web", "ctk-web", model.Subnet.parse("10.89.0.0/22"), model.number("10.89.0.1"))
    asked: list[int] = []

    def lives(lease: Lease) -> bool:
        asked.append(lease.address)
        return True

    found: list[Lease] = []
    for number in range(300):
        leases.take(found, network, holder(f"c{number}", number + 1), 0, lives)
    assert asked == [] and len({one.address for one in found}) == 300


def test_an_address_that_is_not_to_be_had_is_refused_with_the_reason() -> None:
    found: list[Lease] = []
    leases.take(found, NETWORK, holder("a"), NETWORK.subnet.first + 2, lambda _: True)
    for wanted, why in ((2, "container 'a' has"), (1, "gateway"), (0x100, "not one of"), (7, "not one of")):
        with pytest.raises(InUse, match=why):
            leases.take(found, NETWORK, holder("b"), NETWORK.subnet.first + wanted, lambda _: True)
    assert [one.holder.id for one in found] == ["a"]


def test_ports_of_the_living_and_of_the_dead() -> None:
    found: list[Lease] = []
    for name, text in (("a", "0.0.0.0:80:80"), ("b", "81:80"), ("c", "0.0.0.0:82:80/udp")):
        leases.take(found, NETWORK, holder(name), 0, lambda _: True).ports = model.parse_publication(text)
    mine = leases.take(found, NETWORK, holder("me"), 0, lambda _: True)
    mine.ports = model.parse_publication("90:90")
    for text, who in (("80:1", "a"), ("192.0.2.1:80:1", "a"), ("0.0.0.0:81:1", "b")):
        (port,) = model.parse_publication(text)
        with pytest.raises(InUse, match=f"container '{who}' has published it"):
            leases.check_port(found, port, lambda _: True, mine)
        leases.check_port(found, port, lambda _: False, mine)
    for text in ("192.0.2.1:81:1", "82:1", "90:1"):
        leases.check_port(found, model.parse_publication(text)[0], lambda _: True, mine)


def test_a_lease_is_read_as_it_was_written() -> None:
    one = Lease("web", model.number("10.89.1.2"), holder("a"))
    one.ports = model.parse_publication("8080:80") + model.parse_publication("0.0.0.0:53:53/udp")
    assert Lease.of(one.document(), "leases.json").document() == one.document()
    for name, value in (("address", "x"), ("pid", "many"), ("ports", [{}]), ("ethernet", 7), ("ports", 3)):
        with pytest.raises(Invalid, match=r"leases\.json"):
            Lease.of({**one.document(), name: value}, "leases.json")


@given(st.integers(-(2**40), 2**40))
def test_a_process_that_never_was_holds_nothing(pid: int) -> None:
    one = Lease("web", 1, Holder("/", "a", pid, -1, ""))
    assert not leases.alive(one, "")
