"""Runs that ship, each with what it finds in a bucket: to go wrong there again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pakman.bucket import Location
from tests.packages import key as key_called
from tests.processes import start
from tests.readers import Reader
from tests.repositories import signed_repository
from tests.servers import S3Server
from tests.stores import ARCH, KEY, Store, pem

OTHER = "aarch64" if ARCH == "x86_64" else "x86_64"
COMMIT = f"{110:040x}"
LARGE = 9 << 20
"""Bytes: two parts."""


@dataclass
class Scene:
    """A bucket in some state, and the command line of a run that changes it."""

    reader: Reader
    argv: list[str]
    requests: int = 0
    """That it makes when nobody disturbs it, and below what is in the bucket then: whoever has run it notes both."""
    expected: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.server = self.reader.store.server
        self._client = self.reader.store.client
        self._bucket = self.reader.store.location.name
        listed = self.reader.listed()
        answers = {key: self._client.get_object(Bucket=self._bucket, Key=key) for key in listed}
        self._before = {
            key: {"Body": answer["Body"].read(), "Metadata": answer["Metadata"], "ContentType": answer["ContentType"]}
            for key, answer in answers.items()
        }
        self._etags = {key: etag for key, (etag, _) in listed.items()}

    def restore(self) -> None:
        """Make the bucket what it was at first."""
        for upload in self.reader.uploads():
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        now = self.reader.listed()
        for key in now.keys() - self._before.keys():
            self._client.delete_object(Bucket=self._bucket, Key=key)
        for key, thing in self._before.items():
            if key not in now or now[key][0] != self._etags[key]:
                self._client.put_object(Bucket=self._bucket, Key=key, **thing)


class Scenes:
    """The scenes of a bucket, each made when it is first asked for."""

    def __init__(self, server: S3Server, bucket: str, folder: Path) -> None:
        self._server = server
        self._client: Any = server.client()
        self._client.create_bucket(Bucket=bucket)
        self._bucket = bucket
        self._folder = folder
        self._made: dict[str, Scene] = {}
        self._log = folder / "log"
        (folder / "key.pem").write_bytes(pem(key_called(KEY)))
        (folder / "instellar.yml").write_text("stack: alpine/3.23\nrun:\n  name: notes\nbuild:\n  destinations: [a]\n")

    def __getitem__(self, name: str) -> Scene:
        """Return the scene of `push`, `push --channel`, `release` or `deploy`."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str) -> Scene:
        location = Location(self._bucket, name.replace(" --", "-"))
        bucket = ["--bucket", str(location)]
        flags = [*bucket, "--public-url", "https://packages.example.com"]
        channel = ["--channel", "stable", "--signing-key", str(self._folder / "key.pem")]
        commit = [f"--sha={COMMIT}", "--project=acme/notes"]
        if name in ("push --channel", "release"):
            self._run("push", self._built(ARCH, "1.0.0"), *flags, *channel)
        if name in ("release", "deploy"):
            self._run("push", self._built(ARCH, "1.1.0"), *flags)
            self._run("push", self._built(OTHER, "1.1.0"), *flags)
        argv = {
            "push": ["push", self._built(ARCH, "1.1.0"), *flags],
            "push --channel": ["push", self._built(ARCH, "1.1.0"), *flags, *channel],
            "release": ["release", f"--expect={ARCH},{OTHER}", *commit, *flags, *channel],
            "deploy": ["deploy", str(self._folder / "instellar.yml"), "--ref=refs/heads/main", *commit, *bucket],
        }
        return Scene(Reader(Store(self._server, location, self._client), self._folder / "read"), argv[name])

    def _built(self, arch: str, version: str) -> str:
        directory = self._folder / f"{version}-{arch}"
        if not directory.exists():
            commit = f"{int(version.replace('.', '')):040x}"
            names = ("notes", "notes-openrc", "notes-large") if (arch, version) == (ARCH, "1.1.0") else ("notes",)
            signed_repository(
                directory, f"{version}-r0", arch=arch, commit=commit, names=names, sizes={"notes-large": LARGE}
            )
        return str(directory)

    def _run(self, *argv: str) -> None:
        process = start(argv, self._server.env, self._log)
        process.join()
        assert process.exitcode == 0, self._log.read_text()
