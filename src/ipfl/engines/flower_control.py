"""Keys entered at a SuperLink's control interface, as `flwr supernode register` does, which takes seconds for each."""

from collections.abc import Mapping
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key
from flwr.proto.control_pb2 import RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from ipfl.errors import NetworkError

SHOWN = 200


def register(address: str, ca: Path, keys: Mapping[str, str]) -> None:
    """Have a SuperLink let these keys in.

    Args:
      address: HOST:PORT of the SuperLink, which its certificate is for.
      ca: certificate of the authority that signed it.
      keys: OpenSSH's line of each participant's public key, by the participant's name.
    Raises:
      NetworkError: a key was not taken; the sentence says whose, and why.
    """
    versions = RuntimeVersionHttpInterceptor(component_name="flwr CLI")
    client = ControlHttpClient.from_server_address(address, False, ca.read_bytes(), [versions])
    try:
        for name, line in keys.items():
            public = load_ssh_public_key(line.encode()).public_bytes(
                Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
            )
            try:
                client.RegisterNode(RegisterNodeRequest(public_key=public, name=name))
            except httpx.HTTPStatusError as error:
                raise NetworkError(
                    f"Flower did not register the key of {name}: {error.response.text[:SHOWN]}"
                ) from error
            except httpx.HTTPError as error:
                raise NetworkError(f"Flower did not register the key of {name}: {error}") from error
    finally:
        client.close()
