"""Where a server listens: ``HOST:PORT``, IPv6 in brackets."""

import ipaddress
import re
from typing import Annotated, NamedTuple

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from centernetd.config.places import show

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):([0-9]{1,5})")


class Address(NamedTuple):
    """A host (name, IPv4 or bare IPv6) and a port; port 0 lets the system choose one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse ``HOST:PORT``; raises ValueError with a sentence for the user."""
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > 65535:
            raise ValueError(
                f"{show(text)} is no address: write HOST:PORT, as in 127.0.0.1:10864 or [::1]:10864"
            )
        if match[1]:
            ipaddress.IPv6Address(match[1])  # raises ValueError with a sentence of its own
        return cls(match[1] or match[2], int(match[3]))

    @property
    def is_loopback(self) -> bool:
        """True if only this machine can connect."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("write HOST:PORT, as in 127.0.0.1:10864")  # noqa: TRY004 (pydantic's)
    return Address.parse(value)


ListenAddress = Annotated[
    Address,
    PlainValidator(_address),
    PlainSerializer(str, when_used="json"),
    WithJsonSchema({"type": "string", "examples": ["127.0.0.1:10864", "[::1]:10864"]}),
]
