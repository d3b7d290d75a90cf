"""The capabilities (capabilities(7)) that root has in a build root: what the task needs, never what the machine has."""

from __future__ import annotations

from enum import IntEnum


class Capability(IntEnum):
    """The numbers of linux/capability.h."""

    CAP_CHOWN = 0
    CAP_DAC_OVERRIDE = 1
    CAP_FOWNER = 3
    CAP_FSETID = 4
    CAP_KILL = 5
    CAP_SETGID = 6
    CAP_SETUID = 7
    CAP_NET_BIND_SERVICE = 10
    CAP_SYS_CHROOT = 18
    CAP_SETFCAP = 31


BUILD: frozenset[Capability] = frozenset()
"""The unprivileged user."""

PACKAGE = frozenset(
    {
        Capability.CAP_CHOWN,
        Capability.CAP_DAC_OVERRIDE,
        Capability.CAP_FOWNER,
        Capability.CAP_FSETID,
        Capability.CAP_SETFCAP,
    }
)
"""Root where it lays out a package: owners, modes, file capabilities; no mount, no network, no other's process."""

INSTALL = PACKAGE | {Capability.CAP_SETGID, Capability.CAP_SETUID, Capability.CAP_SYS_CHROOT}
"""Root where apk installs: its scripts run in a chroot, and may become another user."""

SERVICES = INSTALL | {Capability.CAP_KILL, Capability.CAP_NET_BIND_SERVICE}
"""Root of a run root: it installs packages, and starts and ends the services in them."""
