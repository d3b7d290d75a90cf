"""Whoever reads a bucket while others write to it: what an index names is there, and is what it says it is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from pakman.apk.index import Index, parse_index
from pakman.apk.read import read_package
from pakman.apk.signature import signed_by
from tests.packages import key as key_called
from tests.stores import KEY, Store

INDEX = "/APKINDEX.tar.gz"


class Reader:
    """Reads all indexes in a store, which one key has signed; what it has read once it knows by its ETag.

    `folder` is room for a file.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.looks = 0
        self._folder = folder
        self._key = key_called(KEY).public_key()
        self._indexes: dict[str, Index] = {}
        self._packages: set[tuple[str, str]] = set()
        self._looking = threading.Lock()

    def listed(self) -> dict[str, tuple[str, int]]:
        """Return the ETag and the size of every object."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(**self._where)
        return {item["Key"]: (item["ETag"], item["Size"]) for page in pages for item in page.get("Contents", ())}

    def uploads(self) -> list[dict[str, Any]]:
        """Return the uploads that have not come to their end."""
        return list(self.store.client.list_multipart_uploads(**self._where).get("Uploads", ()))

    @property
    def _where(self) -> dict[str, str]:
        return {"Bucket": self.store.location.name, "Prefix": f"{self.store.location.prefix}/"}

    def look(self) -> dict[str, tuple[str, ...]]:
        """Return the files that each index names, by its key; raise AssertionError for one that is not there."""
        with self._looking:
            return self._look()

    def _look(self) -> dict[str, tuple[str, ...]]:
        indexes = {key: self._index(key, etag) for key, (etag, _) in self.listed().items() if key.endswith(INDEX)}
        there = self.listed()
        named: dict[str, tuple[str, ...]] = {}
        for key, index in indexes.items():
            files = []
            for stanza in index.stanzas:
                file = f"{stanza.name}-{stanza.version}.apk"
                package = f"{key.removesuffix(INDEX)}/{file}"
                assert package in there, f"{key} names {file}, which is not there"
                etag, size = there[package]
                assert size == int(stanza.field("S")), f"{key} names {file}, which has another size"
                assert self._checksum(package, etag, stanza.checksum), f"{key} names {file}, which is another one"
                files.append(file)
            named[key] = tuple(sorted(files))
        self.looks += 1
        return named

    def _index(self, key: str, etag: str) -> Index:
        if etag not in self._indexes:
            # It may be a newer one than the one that was listed: it is kept under its own name.
            answer = self._get(key)
            etag = answer["ETag"]
            found = parse_index(BytesIO(answer["Body"].read()), key)
            assert signed_by(self._key, found.signatures, found.digests), f"{key} is not signed"
            self._indexes[etag] = found
        return self._indexes[etag]

    def _checksum(self, key: str, etag: str, expected: str) -> bool:
        if (etag, expected) not in self._packages:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / "read.apk"
            path.write_bytes(self._get(key)["Body"].read())
            # All of the file: its control segment vouches for its data.
            if read_package(path)[0].checksum != expected:
                return False
            self._packages.add((etag, expected))
        return True

    def _get(self, key: str) -> Any:
        return self.store.client.get_object(Bucket=self.store.location.name, Key=key)

    @contextmanager
    def polling(self, pause: float = 0.01) -> Iterator[None]:
        """Look again and again, in another thread, until the block ends; raise what went wrong then."""
        ends = threading.Event()
        wrong: list[BaseException] = []

        def poll() -> None:
            try:
                while not ends.wait(pause):
                    self.look()
            except BaseException as error:
                wrong.append(error)

        thread = threading.Thread(target=poll)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()
        if wrong:
            raise wrong[0]
        self.look()
