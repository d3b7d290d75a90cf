"""Building without being root: as root of a user namespace, in which all of Alpine's users exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pakman import command
from pakman.errors import UsageError


def as_root_of_a_namespace(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Return the command that runs `argv` as root of a user namespace of its own.

    Its users are this user's subordinate ids (/etc/subuid), so files may have owners in it, and nothing outside is any
    more reachable than before. Raises UsageError where this machine cannot do that.
    """
    unshare = command.which("unshare", env)
    if unshare is None or command.which("newuidmap", env) is None:
        raise UsageError(
            "a build needs users of its own, which this user cannot make: newuidmap is missing",
            hint="run pakman as root (sudo), or run `apt-get install uidmap`",
        )
    namespace = [unshare, "--user", "--map-root-user", "--map-auto"]
    if command.capture([*namespace, "--", "true"], env=env).status != 0:
        raise UsageError(
            "a build needs users of its own, and this machine refuses user namespaces to this user",
            hint="run pakman as root (sudo), or give this user a range of ids in /etc/subuid and /etc/subgid",
        )
    return [*namespace, "--", *argv]
