"""Tombstones: how a package of a channel goes that no index names any more, while machines install and pushes go on.

<prefix>/channels/<channel>/pruned/<arch>/<file>      `pruned`, `revived` or `deleting`, and a word that is never twice

apk goes on using an index that it has for four hours. So an object stays for longer than that after its entry went: its
tombstone is stored behind the index, and the server's time of that is where its time begins. Then a prune claims it
(`deleting`), looks at the index once more, and deletes. A push that adds the same file before that makes it `revived`,
and the claim fails; one that comes during it waits. Each step is a conditional write, so that of two only one happens:
no index ever names an object that is being deleted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from pakman.bucket import Held
from pakman.channels import MUTABLE, Channel
from pakman.channels.contents import PRUNED

State = Literal["pruned", "revived", "deleting"]


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take at most, in seconds."""

    cached: float = 4 * 3600 + 900
    """Machines go by an index: apk's cache time (--cache-max-age in apk(8)), and a margin for what is installing."""
    deleting: float = 900
    """An object that was claimed is being deleted; whoever claimed it longer ago is taken for dead."""


_POLL = 1.0
"""Seconds."""
_MOST = 100
"""Bytes of a tombstone."""


def names(channel: Channel) -> set[str]:
    """Return the packages that have a tombstone, `<arch>/<file>`; none where the credentials allow no listing."""
    folder = f"{channel.key(PRUNED)}/"
    return {key.removeprefix(folder) for key in channel.bucket.list(folder) or ()}


def bury(channel: Channel, name: str) -> None:
    """Let the time of `<arch>/<file>` begin; an index without it is live by now."""
    while True:
        held = _read(channel, name)
        # Whoever is deleting it has found that no index names it, either.
        if (held is not None and _state(held) == "deleting") or _swap(channel, name, "pruned", held):
            return


def claim(channel: Channel, name: str, now: float, times: Times) -> bool:
    """Claim an object whose time is up (or what another one claimed who died); `now` by the server's clock."""
    held = _read(channel, name)
    if held is None:
        return False
    patience = times.deleting if _state(held) == "deleting" else times.cached
    return now - held.modified > patience and _swap(channel, name, "deleting", held)


def revive(
    channel: Channel,
    names: Collection[str],
    on_wait: Callable[[str], None] = lambda _: None,
    times: Times = Times(),  # frozen
) -> tuple[str, ...]:
    """Keep objects that are about to be added from being deleted; return those whose tombstones can go afterwards.

    Where a prune is deleting one at this moment, wait for its end, which `on_wait` is told.
    """
    stored = channel.bucket.list(f"{channel.key(PRUNED)}/")
    there = names if stored is None else [name for name in names if _key(channel, name) in stored]
    return tuple(name for name in there if _is_revived(channel, name, on_wait, times))


def _is_revived(channel: Channel, name: str, on_wait: Callable[[str], None], times: Times) -> bool:
    waited = False
    while (held := _read(channel, name)) is not None:
        if _state(held) != "deleting" or channel.bucket.now() - held.modified > times.deleting:
            if _swap(channel, name, "revived", held):
                return True
        else:
            if not waited:
                on_wait(f"{name} of channel {channel.name} is being deleted at this moment, and is added after that")
            waited = True
            time.sleep(_POLL)
    return False


def remove(channel: Channel, name: str) -> None:
    """Remove a tombstone, if there is one."""
    channel.bucket.delete([_key(channel, name)])


def _key(channel: Channel, name: str) -> str:
    return channel.key(PRUNED, *name.split("/"))


def _read(channel: Channel, name: str) -> Held | None:
    return channel.bucket.read(_key(channel, name), _MOST)


def _state(held: Held) -> str:
    return held.body.decode("ascii", "replace").partition(" ")[0]


def _swap(channel: Channel, name: str, state: State, over: Held | None) -> bool:
    # The same bytes would have the same ETag as years ago, and a condition would hold that should not.
    body = f"{state} {secrets.token_hex(8)}\n".encode()
    etag = channel.bucket.swap(
        _key(channel, name),
        body,
        over=None if over is None else over.etag,
        content_type="text/plain; charset=utf-8",
        cache_control=MUTABLE,
    )
    if etag is not None:
        return True
    # Another was quicker, or the answer was lost.
    held = _read(channel, name)
    return held is not None and held.body == body
