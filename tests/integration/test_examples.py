"""What only one example promises, on a machine on which it is installed and upgraded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests import packages
from tests.building import PROJECT, Builds, private_cache
from tests.integration.conftest import CACHE
from tests.machine import Sandbox, running_machine
from tests.standins import nginx_repository
from tests.test_examples import TOP, read

pytestmark = pytest.mark.alpine

Release = Callable[..., None]


@pytest.fixture
def machine(alpine_pristine: Path, tmp_path: Path) -> Iterator[Sandbox]:
    """A clean machine that is on no network."""
    with running_machine(alpine_pristine, tmp_path / "machine", is_alone=True) as machine:
        yield machine


@pytest.fixture
def release(machine: Sandbox, alpine_pristine: Path, compiler_rootfs: Path, tmp_path: Path) -> Release:
    """Build a version of an example, with its sources changed, and make it all that the machine's repository has."""
    cache = private_cache(tmp_path / "cache", alpine_pristine)

    def make(name: str, version: str, changes: Mapping[str, Mapping[str, str]] | None = None) -> None:
        source = tmp_path / version / name
        shutil.copytree(TOP / "examples" / name, source)
        for file, replaced in (changes or {}).items():
            for old, new in replaced.items():
                text = (source / file).read_text()
                assert text.count(old) == 1, (file, old)
                (source / file).write_text(text.replace(old, new))
        builds = Builds(source, cache, packages.key(), arguments={"rootfs": compiler_rootfs})
        project = replace(PROJECT, name=name, slug=name, version=version)
        made = builds.run(read(source), tmp_path / version / "packages", project=project)
        assert not [line for line in builds.lines if line.startswith(("notice:", "warning:")) or "warning:" in line]
        repository = machine.path / "srv" / name / version
        shutil.copytree(made.directory, repository)
        shutil.copy(made.public_key, machine.path / "etc/apk/keys")
        (machine.path / "etc/apk/repositories").write_text(f"/srv/{name}/{version}\n")

    return make


def test_notes_has_a_page_and_a_worker(machine: Sandbox, release: Release) -> None:
    release("notes", "1.0.0")
    machine.sh("apk add --quiet notes && rc-service --quiet notes start")
    assert "<p>Buy bread &amp; butter.</p>" in machine.sh("curl -s --retry 20 --retry-connrefused localhost:8080")
    assert "plants.txt" in machine.sh("rc-service notes list")
    machine.sh("echo SERVICE_MODE=reminder >>/etc/conf.d/notes && rc-service --quiet notes restart")
    assert reads(machine, "/var/log/notes/current", "things to do: Water the plants.")
    assert machine.run("curl -s localhost:8080")[0] == 7


def test_hello_static_is_served_by_nginx_before_and_after_an_upgrade(machine: Sandbox, release: Release) -> None:
    release("hello-static", "1.0.0")
    nginx_repository(machine, CACHE)
    machine.sh("apk add --quiet hello-static && nginx")
    assert "This is hello-static 1.0.0." in machine.sh("curl -sf localhost:8080")
    assert "There is no such page" in machine.sh("curl -s localhost:8080/nothing")
    assert (
        machine.sh("curl -s -o /dev/null -w '%{http_code} %{content_type}' localhost:8080/style.css") == "200 text/css"
    )
    release("hello-static", "1.1.0")
    machine.sh("apk upgrade --quiet")
    assert "This is hello-static 1.1.0." in machine.sh("curl -sf localhost:8080")


def test_nightly_is_where_its_own_script_put_it(machine: Sandbox, release: Release) -> None:
    release("nightly", "1.0.0")
    assert "nightly: say in /etc/nightly/nightly.conf what to keep" in machine.sh("apk add nightly")
    listing = machine.sh("cd /; stat -c '%A %U %n' $(apk info --quiet --contents nightly) var/lib/nightly/copies")
    assert listing.splitlines() == [
        "-rw-r--r-- root etc/nightly/nightly.conf",
        "-rwxr-xr-x root etc/periodic/daily/nightly",
        "-rwxr-xr-x root usr/bin/nightly",
        "drwx------ root var/lib/nightly/copies",
    ]
    settings = "path = /etc/apk\\npath = /not/there\\nkeep = 2\\n"
    machine.sh(f"printf '{settings}' >/etc/nightly/nightly.conf")
    said = machine.sh("for _ in 1 2 3; do run-parts /etc/periodic/daily; sleep 1; done")
    assert said.count("nightly: /not/there is not there") == 3
    copies = machine.sh("ls -l /var/lib/nightly/copies").splitlines()[1:]
    assert [line.split()[0] for line in copies] == ["-rw-------"] * 2
    assert "etc/apk/repositories" in machine.sh("tar -tzf $(ls -d /var/lib/nightly/copies/* | tail -n 1)")
    release("nightly", "1.1.0", {"etc/nightly.conf": {"keep = 7": "keep = 14"}})
    machine.sh("apk upgrade --quiet")
    assert machine.sh("nightly --version") == "nightly 1.1.0\n"
    # An administrator's settings stay, and the package's new ones are put beside them.
    assert machine.sh("grep ^keep /etc/nightly/*") == (
        "/etc/nightly/nightly.conf:keep = 2\n/etc/nightly/nightly.conf.apk-new:keep = 14\n"
    )
    machine.sh("apk del --quiet nightly")
    assert machine.run("command -v nightly")[0] != 0
    assert len(machine.sh("ls /var/lib/nightly/copies").split()) == 2


def test_tally_counts_on_after_an_upgrade(machine: Sandbox, release: Release) -> None:
    release("tally", "1.0.0")
    machine.sh("apk add --quiet tally")
    machine.sh("echo INTERVAL=1 >>/etc/tally/env && rc-service --quiet tally start")
    assert reads(machine, "/var/log/tally/current", "tally 1.0.0: looking into inbox every 1 s")
    assert machine.sh("stat -c '%U %a' /etc/tally") == "root 700\n"
    machine.sh("echo 'four words in it' >/var/lib/tally/inbox/one")
    assert reads(machine, "/var/log/tally/current", "one: 4 words")
    assert machine.sh("rc-service tally report") == "1 files, 4 words\n"
    release("tally", "1.1.0")
    machine.sh("apk upgrade --quiet")
    machine.sh("echo 'and two' >/var/lib/tally/inbox/.two && mv /var/lib/tally/inbox/.two /var/lib/tally/inbox/two")
    assert reads(machine, "/var/log/tally/current", "two: 2 words")
    assert machine.sh("rc-service tally report; rc-service tally version") == "2 files, 6 words\ntally 1.1.0\n"


# What 1.0.0 was: before entries had a time.
OLDER = {
    "src/book.h": {"SCHEMA = 2": "SCHEMA = 1"},
    "src/book.c": {'"%lld %s\\n", (long long)time(NULL), text': '"%s\\n", text'},
}
SIGN = "curl -sf -o /dev/null --data-urlencode text='{}' localhost:8080"


def test_guestbook_brings_its_data_up_to_date_once(machine: Sandbox, release: Release) -> None:
    release("guestbook", "1.0.0", OLDER)
    machine.sh("apk add --quiet guestbook && rc-service --quiet guestbook start")
    assert machine.sh("rc-service guestbook version") == "guestbook 1.0.0, data schema 1\n"
    machine.sh(SIGN.format("5 apples & <b>") + " && " + SIGN.format("ünï"))
    assert machine.sh("cat /var/lib/guestbook/data/book") == "guestbook 1\n5 apples & <b>\nünï\n"
    machine.sh("echo 'title=Visitors & friends' >/var/lib/guestbook/data/settings")
    release("guestbook", "1.1.0")
    machine.sh("apk upgrade --quiet")
    assert machine.sh("rc-service guestbook version") == "guestbook 1.1.0, data schema 2\n"
    assert machine.sh("curl -s localhost:8080/health; rc-service guestbook health") == "ok\nok\n"
    machine.sh(SIGN.format("later"))
    machine.sh("rc-service --quiet guestbook restart")
    page = machine.sh("curl -s localhost:8080")
    today = machine.sh("date -u +%F").strip()
    assert "<h1>Visitors &amp; friends</h1>" in page
    assert f"<li>5 apples &amp; &lt;b&gt;\n<li>ünï\n<li><time>{today}</time> later\n" in page
    assert "guestbook 1.1.0</footer>" in page
    log = machine.sh("cat /var/log/guestbook/current")
    assert log.count("guestbook: migrated data/book from schema 1 to 2") == 1
    assert machine.sh("cd /var/lib/guestbook/data; stat -c '%U %n' *") == (
        "guestbook book\nguestbook book.schema-1\nguestbook lock\nguestbook settings\n"
    )
    # Back again, it sees what it cannot read; with the book of then it runs.
    machine.sh("sed -i s/1.1.0/1.0.0/ /etc/apk/repositories && apk del --quiet guestbook && apk add --quiet guestbook")
    status, said = machine.run("/var/lib/guestbook/bin/env-exec bin/guestbook serve")
    assert (status, said) == (1, "guestbook: data/book has schema 2, and this program knows those up to 1\n")
    machine.sh("cd /var/lib/guestbook/data && mv book.schema-1 book && rc-service --quiet guestbook start")
    assert "<li>ünï\n</ul>" in machine.sh("curl -s localhost:8080")


def test_guestbook_answers_whom_it_has_accepted_when_it_is_stopped(machine: Sandbox, release: Release) -> None:
    release("guestbook", "1.1.0")
    machine.sh("apk add --quiet guestbook && rc-service --quiet guestbook start")
    said = machine.sh("""
        { printf 'POST / HTTP/1.1\\r\\nContent-Length: 13\\r\\n\\r\\ntext='; sleep 3; printf 'too late'; } |
            nc 127.0.0.1 8080 >/tmp/answer &
        client=$!
        sleep 1
        rc-service guestbook stop
        # The stop has waited for the answer.
        kill -0 "$client" 2>/dev/null || echo answered
        head -n 1 /tmp/answer
        cut -d ' ' -f 2- /var/lib/guestbook/data/book
        tail -n 2 /var/log/guestbook/current
    """)
    assert said.endswith(
        "answered\nHTTP/1.1 303 See Other\n2\ntoo late\nguestbook: stopping, 1 to be answered\nguestbook: stopped\n"
    )
    assert machine.run("curl -s localhost:8080/health")[0] == 7


def reads(machine: Sandbox, file: str, what: str) -> bool:
    """Say whether a file has it, or will have within seconds."""
    script = (
        f"for _ in $(seq 100); do grep -qF {what!r} {file} && exit; busybox usleep 100000; done; cat {file}; exit 1"
    )
    status, said = machine.run(script)
    assert status == 0, said
    return True
