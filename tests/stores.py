"""Room in a real bucket for one test, and what another client than ours finds there."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from pakman.bucket import Bucket, Location
from pakman.channels import Channel
from pakman.signing import SigningKey
from tests.packages import key as key_called
from tests.servers import S3Server

ARCH = platform.machine()
KEY = "acme-notes.rsa.pub"


@dataclass(frozen=True)
class Store:
    """A prefix of its own in the server's one bucket."""

    server: S3Server
    location: Location
    client: Any

    @property
    def bucket(self) -> Bucket:
        """A newly opened bucket."""
        return Bucket(self.location, env=self.server.env)

    def channel(self, name: str = "stable", *, key: SigningKey | None = None) -> Channel:
        """A newly opened channel."""
        return Channel(self.bucket, name, [key or key_called(KEY)])

    def objects(self) -> dict[str, bytes]:
        """All that is there, by the key without the prefix."""
        top = f"{self.location.prefix}/"
        return {
            name: bytes(self.client.get_object(Bucket=self.location.name, Key=top + name)["Body"].read())
            for name in self.names()
        }

    def names(self) -> list[str]:
        """The keys of all that is there, without the prefix; what tells about the server itself aside."""
        top = f"{self.location.prefix}/"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.location.name, Prefix=top)
        found = [item["Key"].removeprefix(top) for page in pages for item in page.get("Contents", ())]
        return [name for name in found if name != "conditional-writes"]

    def put(self, name: str, body: bytes) -> None:
        """Store an object as somebody else would."""
        self.client.put_object(Bucket=self.location.name, Key=f"{self.location.prefix}/{name}", Body=body)

    def remove(self, name: str) -> None:
        """Remove an object as somebody else would."""
        self.client.delete_object(Bucket=self.location.name, Key=f"{self.location.prefix}/{name}")

    def versions(self, name: str = "stable", arch: str = ARCH) -> list[str]:
        """What the index has, each as NAME-VERSION."""
        live = self.channel(name).index(arch)
        return [] if live is None else [f"{each.name}-{each.version}" for each in live.stanzas]


def pem(key: SigningKey) -> bytes:
    """Return a private key's file."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
