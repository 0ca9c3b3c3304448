"""The configuration of a new image: instructions as `docker commit --change` takes them, history, and what stays."""

import json
from typing import Any

import pytest

from toolkit.errors import Usage
from toolkit.image.document import config_write
from toolkit.image.document.config_write import Step
from toolkit.image.document.platform import Platform

AMD64 = Platform("linux", "amd64", "")
NOW = Step("test", "")
ONE, TWO = f"sha256:{1:064}", f"sha256:{2:064}"


def written(base: dict[str, Any], *changes: str, step: Step = NOW) -> dict[str, Any]:
    data = json.dumps(base).encode() if base else b""
    found: dict[str, Any] = json.loads(config_write.written(data, None if base else AMD64, changes, step))
    return found


def run(base: dict[str, Any], *changes: str) -> dict[str, Any]:
    found: dict[str, Any] = written({"os": "linux", "architecture": "arm64", "config": base}, *changes)
    return dict(found.get("config", {}))


def test_a_step_on_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = written({}, step=Step("first", ONE))
    assert first == {
        "created": "2023-11-14T22:13:20Z", "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [ONE]},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "first"}],
    }  # fmt: skip
    second = written(first | {"x-vendor": [1]}, step=Step("second", TWO, "me", "why"))
    assert second["rootfs"]["diff_ids"] == [ONE, TWO] and second["x-vendor"] == [1] and second["author"] == "me"
    assert second["history"][1] == {
        "created": "2023-11-14T22:13:20Z", "created_by": "second", "author": "me", "comment": "why",
    }  # fmt: skip
    third = written(second, step=Step("third", ""))
    assert third["rootfs"] == second["rootfs"] and third["history"][2]["empty_layer"] is True
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(Usage, match="seconds since 1970"):
        written({})


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({}, ['CMD ["a b", "c"]'], {"Cmd": ["a b", "c"]}),
        ({}, ["cmd=a b"], {"Cmd": ["/bin/sh", "-c", "a b"]}),
        ({"Cmd": ["old"]}, ['ENTRYPOINT ["x"]'], {"Entrypoint": ["x"]}),
        ({"Cmd": ["old"]}, ["CMD [\"new\"]", 'ENTRYPOINT ["x"]'], {"Entrypoint": ["x"], "Cmd": ["new"]}),
        ({"Env": ["A=1", "B=2"]}, ["ENV A=3 C='d e'"], {"Env": ["B=2", "A=3", "C=d e"]}),
        ({}, ["ENV A b c"], {"Env": ["A=b c"]}),
        ({}, ["ENV=A=b"], {"Env": ["A=b"]}),
        ({"Labels": {"a": "1"}}, ['LABEL b="2 3"'], {"Labels": {"a": "1", "b": "2 3"}}),
        ({"ExposedPorts": {"1/udp": {}}}, ["EXPOSE 80"], {"ExposedPorts": {"1/udp": {}, "80/tcp": {}}}),
        ({}, ['VOLUME ["/a b"]', "VOLUME /c /d"], {"Volumes": {"/a b": {}, "/c": {}, "/d": {}}}),
        ({"WorkingDir": "/srv"}, ["WORKDIR www/../x"], {"WorkingDir": "/srv/x"}),
        ({}, ["USER web:33", "STOPSIGNAL SIGINT"], {"User": "web:33", "StopSignal": "SIGINT"}),
        ({"Healthcheck": {"Test": ["NONE"]}}, [], {"Healthcheck": {"Test": ["NONE"]}}),
    ],
)  # fmt: skip
def test_changes(before: dict[str, Any], changes: list[str], after: dict[str, Any]) -> None:
    assert run(before, *changes) == after


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ("RUN id", "can be changed"),
        ("CMD", "nothing new"),
        ("CMD [1]", "JSON array"),
        ('CMD ["a"', "JSON array"),
        ("ENV A", "NAME=VALUE"),
        ("ENV A=b C", "NAME=VALUE"),
        ("LABEL a='b", "quotation"),
    ],
)
def test_what_can_not_be(change: str, because: str) -> None:
    with pytest.raises(Usage, match=because):
        run({}, change)
