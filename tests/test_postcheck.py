"""What Alpine refuses in a package's tree."""

from __future__ import annotations

import pytest

from pakman.apk import tar
from pakman.apk.tree import Entry
from pakman.builders import postcheck
from pakman.errors import BuildError


def file(path: str, mode: int = 0o644) -> Entry:
    return Entry(path=path.encode(), type=tar.FILE, mode=mode, uid=0, gid=0)


def directory(path: str, mode: int = 0o755) -> Entry:
    return Entry(path=path.encode(), type=tar.DIRECTORY, mode=mode, uid=0, gid=0)


CAPABLE = Entry(
    path=b"usr/bin/ping", type=tar.FILE, mode=0o755, uid=0, gid=0, xattrs=((b"security.capability", b"\2"),)
)

ERRORS = [
    (file("opt/shop"), "!fhs", "/opt/shop is in a directory that packages leave alone"),
    (directory("usr/local/bin"), "!fhs", "/usr/local/bin is in a directory"),
    (file("home/ada"), "!fhs", "/home/ada is"),
    (file("var/tmp/x"), "!fhs", "/var/tmp/x is"),
    (directory("usr/var"), "!fhs", "/usr/var is not a place"),
    (directory("lib64"), "lib64", "/lib64 does not exist on Alpine"),
    (directory("usr/lib64"), "lib64", "/usr/lib64 does not exist on Alpine"),
    (file("usr/bin/su", 0o4755), "suid", "/usr/bin/su runs with its owner's rights"),
    (file("usr/bin/wall", 0o2755), "suid", "/usr/bin/wall runs with"),
    (CAPABLE, "setcap", "/usr/bin/ping has capabilities of its own"),
    (file("etc/init.d/shop", 0o644), None, "/etc/init.d/shop is an init script and not executable"),
    (file("usr/share/man/man1/shop.1"), None, "/usr/share/man/man1/shop.1 is a manual page"),
]


@pytest.mark.parametrize(("entry", "option", "message"), ERRORS, ids=[case[2].split(" ")[0] for case in ERRORS])
def test_an_error_that_its_option_allows(entry: Entry, option: str | None, message: str) -> None:
    found = postcheck.check("shop-openrc", [entry], options=["!x"], binaries=[], noarch=False)
    with pytest.raises(BuildError, match=message) as caught:
        postcheck.refuse("shop-openrc", found, print)
    assert "/var/lib/NAME" in caught.value.hint
    if option is not None:
        assert postcheck.check("shop-openrc", [entry], options=[option], binaries=[], noarch=False) == []


DOUBTS = [
    (directory("srv/../lib", 0o777), "everyone may write into"),
    (directory("var/spool", 0o1777), "everyone may write into /var/spool"),
    (directory("bin"), "/bin should be /usr/bin"),
    (directory("sbin"), "/sbin should be /usr/bin"),
    (file("etc/conf.d/shop", 0o755), "/etc/conf.d/shop holds settings and should not be executable"),
    (file("etc/init.d/shop", 0o755), "/etc/init.d/shop belongs into shop-openrc"),
]


@pytest.mark.parametrize(("entry", "notice"), DOUBTS, ids=[case[1] for case in DOUBTS])
def test_a_doubt_is_a_notice(entry: Entry, notice: str) -> None:
    said: list[str] = []
    postcheck.refuse("shop", postcheck.check("shop", [entry], options=[], binaries=[], noarch=False), said.append)
    assert said[0].startswith(f"shop: {notice}")


def test_what_an_application_has_is_fine() -> None:
    entries = [
        directory("var"), directory("var/lib"), directory("var/lib/shop"), file("var/lib/shop/opt/x", 0o755),
        directory("srv"), file("usr/bin/shop", 0o755), file("usr/bin/private", 0o4750), directory("tmp"),
    ]  # fmt: skip
    assert postcheck.check("shop", entries, options=[], binaries=[b"usr/bin/shop"], noarch=False) == []


def test_a_program_is_for_one_architecture() -> None:
    found = postcheck.check("shop", [], options=[], binaries=[b"usr/bin/shop"], noarch=True)
    assert [(each.is_error, each.text) for each in found] == [
        (True, "/usr/bin/shop is a program for one architecture, and the package is noarch")
    ]
    assert postcheck.check("shop", [], options=["!archcheck"], binaries=[b"x"], noarch=True) == []


def test_many_errors_are_one_sentence() -> None:
    found = postcheck.check("shop", [file(f"opt/{n}") for n in range(5)], options=[], binaries=[], noarch=False)
    with pytest.raises(BuildError, match=r"/opt/0 .*; /opt/1 .*; /opt/2 .*alone \(and 2 more\)"):
        postcheck.refuse("shop", found, print)
