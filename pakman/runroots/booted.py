"""Making a fresh root look like a machine that has booted."""

from __future__ import annotations

from pakman.errors import BuildError
from pakman.runroots.shell import Shell

# What /sbin/openrc leaves behind in the end: without it, OpenRC refuses to start anything.
_SCRIPT = """
set -e
mkdir -p /tmp /var/tmp /run/openrc
chmod 1777 /tmp /var/tmp
echo default >/run/openrc/softlevel
cat /etc/alpine-release
apk --print-arch
"""
_SECONDS = 30.0


def booted(shell: Shell, *, hint: str) -> tuple[str, str]:
    """Return the root's release and architecture; raise BuildError where it does not work."""
    ran = shell.run(_SCRIPT, _SECONDS)
    if ran.status != 0 or len(ran.lines) < 2:
        reason = "".join(ran.lines[-1:]) or "it does not answer"
        raise BuildError(f"the Alpine root does not work: {reason}", hint=hint)
    return ran.lines[-2].strip(), ran.lines[-1].strip()
