"""Keys at the control interface: a key that is not taken is named, with Flower's reason."""

from pathlib import Path

import pytest

pytest.importorskip("flwr")
import httpx
from flwr.supercore.control import ControlHttpClient

from ipfl.engines import flower_control
from ipfl.errors import NetworkError
from ipfl.network.certificates import make_authority
from ipfl.network.keys import make_participant_key


def test_a_key_that_is_not_taken_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_authority(tmp_path, "test")
    lines = {name: make_participant_key(tmp_path / name).public_text for name in ("north", "south")}
    taken: list[str] = []

    def register(client: ControlHttpClient, request: object) -> None:
        name = str(getattr(request, "name", ""))
        assert getattr(request, "public_key", b"").startswith(b"-----BEGIN PUBLIC KEY-----")
        if name == "south":
            answer = httpx.Response(409, text="in use", request=httpx.Request("POST", "https://market"))
            raise httpx.HTTPStatusError("409", request=answer.request, response=answer)
        taken.append(name)

    monkeypatch.setattr(ControlHttpClient, "RegisterNode", register)
    with pytest.raises(NetworkError, match="Flower did not register the key of south: in use"):
        flower_control.register("localhost:1", tmp_path / "ca.crt", lines)
    assert taken == ["north"]
    monkeypatch.undo()
    with pytest.raises(NetworkError, match="Flower did not register the key of north: "):
        flower_control.register("localhost:1", tmp_path / "ca.crt", lines)
