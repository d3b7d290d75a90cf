"""Packages that Alpine's mirror would have, made here because tests and demo do without a network of their own.

nginx and s6 are Debian's own programs with the libraries they need, under Alpine's paths: glibc's loader and libraries
lie in directories that Alpine does not have, so both live in one root.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pakman import signing
from pakman.apk.index import write_index
from pakman.apk.metadata import Metadata
from pakman.apk.write import write_package
from tests.machine import Sandbox

_NGINX = ("nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g")
_S6 = ("s6", "execline", "libs6-2.11", "libexecline2.9", "libskarnet2.13", "libc6")
_OPENRC = (
    "openrc",
    "librc1",
    "libeinfo1",
    "libaudit1",
    "libpam0g",
    "libselinux1",
    "libpcre2-8-0",
    "libcap-ng0",
    "libc6",
)
_LIBRARIES = ("lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")

_NGINX_CONF = """\
user nobody;
worker_processes 1;
error_log /var/log/nginx/error.log;
events { worker_connections 64; }
http {
    types { text/html html; text/css css; }
    access_log off;
    include /etc/nginx/http.d/*.conf;
}
"""


def nginx_tree(cache: Path) -> Path:
    """Return a package tree of nginx under `cache`."""

    def configure(tree: Path) -> None:
        (tree / "etc/nginx/http.d").mkdir(parents=True)
        (tree / "etc/nginx/nginx.conf").write_text(_NGINX_CONF)
        for folder in ("var/log/nginx", "var/lib/nginx/body", "var/lock"):
            (tree / folder).mkdir(parents=True)

    return _debian_tree(cache, "nginx", _NGINX, ("usr/sbin/nginx", *_LIBRARIES), configure)


def s6_tree(cache: Path) -> Path:
    """Return a package tree of s6 and execline under `cache`."""
    return _debian_tree(cache, "s6", _S6, ("usr/bin", *_LIBRARIES))


def older_openrc_tree(cache: Path) -> Path:
    """Return a package tree of OpenRC 0.45 under `cache`: from before 0.63, which changed what supervisor=s6 means."""

    def finish(tree: Path) -> None:
        # Debian's wants it; its start-stop-daemon is dpkg's, and not taken.
        (tree / "etc").mkdir()
        (tree / "etc/insserv.conf").write_text("")

    programs = ("sbin/openrc-run", "sbin/rc-service", "sbin/supervise-daemon", "bin/rc-status", "lib/rc")
    return _debian_tree(cache, "openrc", _OPENRC, (*programs, *_LIBRARIES), finish)


def _debian_tree(
    cache: Path,
    name: str,
    packages: tuple[str, ...],
    kept: tuple[str, ...],
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """Return `cache`/`name`, made once of what is kept of Debian's packages (apt-get download), and then finished."""
    tree = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if tree.is_dir():
            return tree
        scratch = cache / f"{name}.making"
        shutil.rmtree(scratch, ignore_errors=True)
        (scratch / "debs").mkdir(parents=True, mode=0o755)
        # The sandbox user of apt may not write here; root downloads as itself.
        subprocess.run(
            ["apt-get", "-o", "APT::Sandbox::User=root", "download", "--quiet=2", *packages],
            cwd=scratch / "debs",
            check=True,
            capture_output=True,
        )
        for deb in (scratch / "debs").iterdir():
            subprocess.run(["dpkg-deb", "--extract", str(deb), str(scratch / "all")], check=True, capture_output=True)
        made = scratch / "tree"
        for path in kept:
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", str(scratch / "all" / path), str(made / path)], check=True)
        if finish is not None:
            finish(made)
        made.rename(tree)
        shutil.rmtree(scratch)
    return tree


def nginx_repository(machine: Sandbox, cache: Path) -> str:
    """Give the machine a repository with nginx in it, and trust in its key; return what to say of it."""
    key = packages(machine.path / "srv/mirror", {"nginx": nginx_tree(cache)})
    (machine.path / "etc/apk/keys" / key.name).write_bytes(key.public_pem)
    repositories = machine.path / "etc/apk/repositories"
    repositories.write_text(f"{repositories.read_text()}/srv/mirror\n")
    return "(nginx: Debian's, repacked)"


def packages(repository: Path, trees: Mapping[str, Path]) -> signing.SigningKey:
    """Make a repository with a package of each tree, by its name; return the key that it is signed with."""
    folder = repository / "x86_64"
    folder.mkdir(parents=True)
    key = signing.generate("mirror.rsa.pub")
    made = [
        write_package(
            folder / f"{name}-1.22.1-r0.apk",
            Metadata(
                pkgname=name, pkgver="1.22.1-r0", pkgdesc="For tests", arch="x86_64", origin=name, license="custom"
            ),
            tree,
            scripts={},
            owners={0: "root"},
            groups={0: "root"},
            mtime=0,
            keys=[key],
            threads=2,
        )
        for name, tree in trees.items()
    ]
    write_index(folder / "APKINDEX.tar.gz", [each.path for each in made], [key], "a stand-in for Alpine's mirror")
    return key
