"""A package that Alpine's mirror would have, made here because tests and demo do without a network of their own.

nginx is Debian's own program with the libraries it needs, packed by pakman under Alpine's name and paths: glibc's
loader and libraries lie in directories that Alpine does not have, so both live in one root.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.machine import Machine

_DEBIAN = ("nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g")
_KEPT = ("usr/sbin/nginx", "lib64", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")

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
    """Return a package tree of nginx under `cache`, made once from Debian's packages (apt-get download)."""
    tree = cache / "nginx"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "nginx.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            _make_tree(cache / "nginx.making", tree)
    return tree


def _make_tree(scratch: Path, tree: Path) -> None:
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "debs").mkdir(parents=True, mode=0o755)
    # The sandbox user of apt may not write here; root downloads as itself.
    subprocess.run(
        ["apt-get", "-o", "APT::Sandbox::User=root", "download", "--quiet=2", *_DEBIAN],
        cwd=scratch / "debs",
        check=True,
        capture_output=True,
    )
    for deb in (scratch / "debs").iterdir():
        subprocess.run(["dpkg-deb", "--extract", str(deb), str(scratch / "all")], check=True, capture_output=True)
    made = scratch / "tree"
    for name in _KEPT:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(scratch / "all" / name), str(made / name)], check=True)
    (made / "etc/nginx/http.d").mkdir(parents=True)
    (made / "etc/nginx/nginx.conf").write_text(_NGINX_CONF)
    for folder in ("var/log/nginx", "var/lib/nginx/body", "var/lock"):
        (made / folder).mkdir(parents=True)
    made.rename(tree)
    shutil.rmtree(scratch)
