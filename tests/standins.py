"""Packages that Alpine's mirror would have, made here because tests and demo do without a network of their own.

nginx and s6 are this machine's own distribution's programs (Debian's, Ubuntu's) with the libraries they need, under
Alpine's paths: glibc's loader and libraries lie in directories that Alpine does not have, so both live in one root.
"""

from __future__ import annotations

import fcntl
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from pakman import signing
from pakman.apk.index import write_index
from pakman.apk.metadata import Metadata
from pakman.apk.write import write_package
from tests.machine import Sandbox

_BUILT_IN = ("lib/rc",)
"""What programs were built to find in one place."""

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

    return _debian_tree(cache, "nginx", ("nginx",), ("usr/sbin/nginx",), configure)


def s6_tree(cache: Path) -> Path:
    """Return a package tree of s6 and execline under `cache`."""
    return _debian_tree(cache, "s6", ("s6", "execline"), ("usr/bin",))


def older_openrc_tree(cache: Path) -> Path:
    """Return a package tree of an OpenRC from before 0.63, which changed what supervisor=s6 means, under `cache`."""

    def finish(tree: Path) -> None:
        # Debian's wants it; its start-stop-daemon is dpkg's, and not taken.
        (tree / "etc").mkdir()
        (tree / "etc/insserv.conf").write_text("")

    programs = ("sbin/openrc-run", "sbin/rc-service", "sbin/supervise-daemon", "bin/rc-status")
    return _debian_tree(cache, "openrc", ("openrc",), (*programs, "lib/rc"), finish)


def _debian_tree(
    cache: Path,
    name: str,
    packages: tuple[str, ...],
    kept: tuple[str, ...],
    finish: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return `cache`/`name`, made once of what is kept of packages and the libraries they depend on, then finished."""
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
        _apt("apt-get", "-o", "APT::Sandbox::User=root", "download", *_with_libraries(packages), cwd=scratch / "debs")
        unpacked, made = scratch / "all", scratch / "tree"
        for deb in (scratch / "debs").iterdir():
            subprocess.run(["dpkg-deb", "--extract", str(deb), str(unpacked)], check=True, capture_output=True)
        _copy(unpacked, made, kept)
        finish(made)
        made.rename(tree)
        shutil.rmtree(scratch)
    return tree


def _copy(unpacked: Path, made: Path, kept: tuple[str, ...]) -> None:
    """Copy what is kept, all libraries, and a link to the loader where programs look for it."""
    libraries = f"lib/{next(unpacked.rglob('libc.so.6')).parent.name}"
    for path in (*kept, libraries):
        # Later releases have everything below usr. Programs go where Alpine has them; libraries are found in either.
        for place in (path, f"usr/{path}"):
            if (unpacked / place).exists():
                target = made / (place if path in _BUILT_IN else path)
                target.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "-aT", str(unpacked / place), str(target)], check=True)
    program = made / kept[0]
    program = program if program.is_file() else program / "s6-svscan"
    headers = ["env", "LC_ALL=C", "readelf", "--program-headers", str(program)]
    said = subprocess.run(headers, capture_output=True, text=True, check=True).stdout
    found = re.search(r"program interpreter: /(\S+)]", said)
    assert found is not None, said
    loader = made / found[1]
    loader.parent.mkdir(parents=True, exist_ok=True)
    loader.symlink_to(f"/{libraries}/{loader.name}")


def _with_libraries(packages: tuple[str, ...]) -> list[str]:
    """Return packages and the libraries that they depend on, whatever this release calls those."""
    found: set[str] = set()
    wanted = set(packages)
    while wanted:
        stanzas = _apt("apt-cache", "show", "--no-all-versions", *wanted).split("\n\n")
        wanted = set()
        for fields in (dict(re.findall(r"^(\S+): (.*)$", stanza, re.MULTILINE)) for stanza in stanzas):
            # Ubuntu's begins with the component: universe/libs.
            if fields.get("Package") in packages or fields.get("Section", "").endswith("libs"):
                found.add(fields["Package"])
                wanted |= {word.split()[0].split(":")[0] for word in fields.get("Depends", "").split(", ") if word}
        wanted -= found
    return sorted(found)


def _apt(*argv: str, cwd: Path | None = None) -> str:
    """Run a program of apt's; raise RuntimeError where it fails, as where the package lists are old or not there."""
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"`{' '.join(argv)}` failed, run `apt-get update` first: {done.stderr.strip()[-500:]}")
    return done.stdout


def nginx_repository(machine: Sandbox, cache: Path) -> str:
    """Give the machine a repository with nginx in it, and trust in its key; return what to say of it."""
    key = packages(machine.path / "srv/mirror", {"nginx": nginx_tree(cache)})
    (machine.path / "etc/apk/keys" / key.name).write_bytes(key.public_pem)
    repositories = machine.path / "etc/apk/repositories"
    repositories.write_text(f"{repositories.read_text()}/srv/mirror\n")
    return "(nginx: Debian's, repacked)"


def packages(repository: Path, trees: Mapping[str, Path]) -> signing.SigningKey:
    """Make a repository with a package of each tree, by its name; return the key that it is signed with."""
    folder = repository / platform.machine()
    folder.mkdir(parents=True)
    key = signing.generate("mirror.rsa.pub")
    made = [
        write_package(
            folder / f"{name}-1.22.1-r0.apk",
            Metadata(
                pkgname=name,
                pkgver="1.22.1-r0",
                pkgdesc="For tests",
                arch=platform.machine(),
                origin=name,
                license="custom",
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
