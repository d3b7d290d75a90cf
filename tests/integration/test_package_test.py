"""`pakman test`: every example passes; a broken package does not, and the manifest's line is named."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pakman import cli, manifest, previous, repository, signing, stack
from pakman import test as package_test
from pakman.checks import Check, Subject, install, services
from pakman.previous import Previous
from pakman.runroots import choice
from pakman.signing import SigningKey
from pakman.test_report import Report
from tests.building import private_cache
from tests.engine import Engine
from tests.integration.conftest import CACHE
from tests.manifests import TODAY
from tests.standins import nginx_tree, packages, s6_tree

pytestmark = pytest.mark.alpine

EXAMPLES = Path(__file__).parents[2] / "examples"
SECRET = "secret-seen-1"

BASE = """\
stack: alpine/3.23
description: A shop
license: MIT
url: https://shop.example
dependencies:
  runtime: [curl]
build:
  destinations: [bin]
run:
  name: shop
  services:
    - name: web
      binary: serve
  commands:
    - name: greet
      binary: greet
      call: hello
kits:
  - name: web
    description: The shop
    main: true
    ports:
      - {name: web, main: true, target: 8080}
"""

PROGRAMS = {
    "serve": "exec nc -lk -p 8080 -e cat",
    "greet": 'echo "$1, world"',
}


@dataclass(frozen=True)
class Shop:
    """An application in a folder of its own, built and tested as a user would."""

    path: Path
    cache: Path
    key: Path
    say: Callable[[], str]
    """What was printed since it was asked last."""

    def write(self, text: str, **programs: str) -> None:
        (self.path / "instellar.yml").write_text(text)
        (self.path / "bin").mkdir(exist_ok=True)
        for name, script in {**PROGRAMS, **programs}.items():
            (self.path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
            (self.path / "bin" / name).chmod(0o755)

    def build(
        self, version: str = "1.1.0", output: str = "packages", name: str = "shop", rootfs: Path | None = None
    ) -> Path:
        argv = ["build", "--project", f"acme/{name}", "--package-version", version, "--package-release", "0"]
        argv += ["--build-root", "sandbox", "--builder", "embedded", "--cache-dir", str(self.cache)]
        argv += ["--signing-key", str(self.key), "--rootfs", str(rootfs or "")]
        assert cli.main([*argv, "--output", output]) == 0, self.say()
        self.say()
        return self.path / output

    def test(self, *words: str) -> tuple[int, str]:
        argv = ["test", "packages", "--run-root", "sandbox", "--cache-dir", str(self.cache), *words]
        status = cli.main(argv)
        return status, self.say()

    def report(self, earlier: Previous | None = None, output: str = "packages") -> Report:
        """Test it in this process."""
        reading = manifest.read(self.path / "instellar.yml", repository=None, today=TODAY)
        assert reading.manifest is not None
        wanted = stack.find("alpine/3.23")
        assert wanted is not None
        subject = Subject(repository.read(self.path / output)[0], reading.manifest, earlier)
        place = partial(
            choice.place, "sandbox", wanted, archive=None, cache=self.cache, env=os.environ, on_warning=print
        )
        return package_test.test(subject, wanted, place, on_check=print, on_warning=print)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "STAYS", 1)
    monkeypatch.setattr(services, "_ELSEWHERE", 1)


@pytest.fixture
def cache(alpine_pristine: Path, tmp_path: Path) -> Path:
    return private_cache(tmp_path / "cache", alpine_pristine)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return signing.keygen(tmp_path_factory.mktemp("key"), "acme-shop.rsa.pub")[0]


@pytest.fixture
def shop(
    cache: Path, tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Shop:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    return Shop(tmp_path / "shop", cache, key, lambda: "".join(capfd.readouterr()))


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, SigningKey]]:
    """A mirror on this machine that has nginx and s6: its address and its key."""
    folder = tmp_path_factory.mktemp("mirror")
    key = packages(folder / "alpine", {"nginx": nginx_tree(CACHE), "s6": s6_tree(CACHE)})

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder / "alpine"))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", key
        server.shutdown()
        thread.join()


def own_root(cache: Path, pristine: Path) -> Path:
    """Give a cache an Alpine root that may be changed."""
    (cache / "roots").unlink()
    (cache / "roots").mkdir(mode=0o700)
    root = cache / "roots" / pristine.name
    subprocess.run(["cp", "-a", "--reflink=auto", str(pristine), str(root)], check=True)
    return root


@pytest.fixture
def mirrored(cache: Path, alpine_pristine: Path, mirror: tuple[str, SigningKey]) -> None:
    """Have the cache's Alpine root trust the mirror, and know no other."""
    url, key = mirror
    root = own_root(cache, alpine_pristine)
    (root / "etc/apk/keys" / key.name).write_bytes(key.public_pem)
    (root / "etc/apk/repositories").write_text(f"{url}\n")


def failures(report: Report) -> list[Check]:
    return [check for check in report.checks if check.result != "passed"]


@pytest.mark.parametrize("example", sorted(path.parent.name for path in EXAMPLES.glob("*/instellar.yml")))
def test_every_example_passes_and_upgrades(
    shop: Shop, example: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "static" in example:
        request.getfixturevalue("mirrored")
    shutil.copytree(EXAMPLES / example, shop.path, dirs_exist_ok=True)
    needs_compiler = "build-base" in (EXAMPLES / example / "instellar.yml").read_text()
    rootfs = request.getfixturevalue("compiler_rootfs") if needs_compiler else None
    old = shop.build("1.0.9", "../old", example, rootfs)
    shop.build("1.1.0", "../packages", example, rootfs)
    report = shop.report(Previous(old, "1.0.9-r0", next(old.glob("*.pub")), "a test"), "../packages")
    assert failures(report) == []
    assert report.result == "passed"
    made = {check.name for check in report.checks}
    assert "apk upgrades it from 1.0.9-r0 (shipped before)" in made
    assert f"apk del {example} leaves nothing behind after the upgrade" in made
    assert {name for name in made if "seconds later" in name} == {
        f"{service} starts and is up 1 seconds later" for service in SERVICES.get(example, ())
    }


def test_an_upgrade_is_from_what_previous_names(shop: Shop) -> None:
    shop.write(PAGE)
    shop.build("1.0.9", "../old")
    shop.build("1.1.0")
    for named, version, warns in (("../old", "1.0.9-r0", False), ("packages", "1.1.0_alpha-r0", True)):
        status, said = shop.test("--previous", named)
        assert status == 0, said
        assert f"apk upgrades it from {version} (" in said
        assert ("packages has no shop that is older than 1.1.0-r0: the upgrade is tried from" in said) == warns


PAGE = "stack: alpine/3.23\nbuild:\n  command: echo hello >page\n  destinations: [page]\n"

SERVICES = {
    "guestbook": ["web"],
    "hello-web": ["web"],
    "notes": ["web", "reminder"],
    "tally": ["worker"],
}


def at(text: str, words: str) -> str:
    """Return line and column of words in a manifest, as a message has them."""
    before = text[: text.index(words)]
    return f"instellar.yml:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def test_a_shop_passes_and_says_a_line_per_check(shop: Shop) -> None:
    shop.write(BASE)
    shop.build()
    status, said = shop.test("--junit", "report.xml", "--format", "json")
    assert status == 0
    found = json.JSONDecoder().raw_decode(said)[0]
    assert (found["result"], found["name"], found["where"]) == ("passed", "shop", "the sandbox")
    assert [check["name"] for check in found["checks"]] == [
        "shop's dependencies are installed",
        "apk add shop installs it",
        "every file is there with its owner and mode",
        "the user and group shop are there",
        "web starts and is up 1 seconds later",
        "web answers on port 8080",
        "web stops",
        "rc-service shop greet runs",
        "apk del shop leaves nothing behind",
        "apk upgrades it from 1.1.0_alpha-r0 (itself under a lower version)",
        "the scripts of an upgrade run: pre-upgrade, post-upgrade",
        "data in it is kept by the upgrade",
        "the service that ran before the upgrade runs the new version",
        "apk del shop leaves nothing behind after the upgrade",
    ]
    assert {check["result"] for check in found["checks"]} == {"passed"}
    for check in found["checks"]:
        assert f" s  {check['name']}" in said
    suite = ET.parse(shop.path / "report.xml").getroot()[0]
    assert (suite.tag, suite.attrib["tests"], suite.attrib["failures"]) == ("testsuite", "14", "0")
    assert [case.attrib["name"] for case in suite] == [check["name"] for check in found["checks"]]


SERVICE = "    - name: web\n      binary: serve\n"
BROKEN = {
    "a service that dies": (BASE, {"serve": "echo no database; exit 3"}, "name: web\n      binary", "no database"),
    "a hook that fails": (
        BASE.replace("kits:", "hook:\n  post-install: |\n    echo cannot >&2\n    exit 4\nkits:"),
        {},
        "post-install",
        "cannot",
    ),
    "a file over another package's": (
        BASE.replace(
            "build:\n  destinations: [bin]\n",
            'type: custom\npackage: |\n  install -Dm755 -t "$pkgdir"/var/lib/shop/bin bin/*\n'
            '  install -Dm755 bin/greet "$pkgdir"/usr/bin/curl\n',
        ),
        {},
        "package",
        "/usr/bin/curl belongs to another package: curl-",
    ),
    "a wrong port": (BASE.replace("8080", "8081"), {}, "target: 8081", "it listens on 8080"),
    "a command that is not there": (
        BASE.replace("binary: greet", "path: /usr/bin\n      binary: greet"),
        {},
        "binary: greet",
        "there is no such program",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_package_is_status_8_and_names_the_line(
    shop: Shop, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, programs, place, reason = BROKEN[what]
    shop.write(text, **programs)
    shop.build()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    status, said = shop.test()
    if what == "a service that dies" and re.search("^passed .* web starts and is up", said, re.MULTILINE):
        # OpenRC's own supervisor may miss the death of what dies at once, and says for up to a minute that it is up.
        status, said = shop.test()
    assert status == 8, said
    _, line, column = at(text, place).split(":")
    print(said)
    annotation = next(each for each in said.splitlines() if each.startswith(f"::error file=instellar.yml,line={line},"))
    assert f"line={line},col={column},title=package-test::" in annotation
    assert reason in annotation
    assert "fails its test: " in said


@pytest.mark.usefixtures("mirrored")
def test_a_service_that_s6_supervises_goes_through_all_of_it(shop: Shop) -> None:
    shop.write(BASE.replace("[curl]", "[curl, s6]"))
    built = repository.read(shop.build())[0]
    report = shop.report(previous.rebuilt(built, shop.path.parent / "previous"))
    assert failures(report) == []
    made = {check.name for check in report.checks}
    assert {
        "web starts and is up 1 seconds later",
        "the service that ran before the upgrade runs the new version",
    } < made


def test_a_hook_that_hangs_is_ended(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    text = BASE.replace("kits:", "hook:\n  post-install: |\n    sleep 300\nkits:")
    shop.write(text)
    shop.build()
    monkeypatch.setattr(install, "SECONDS", 3)
    status, said = shop.test()
    assert status == 8
    assert f"{at(text, 'post-install')}: error: apk add shop installs it: the post-install script has not ended" in said


def test_what_a_service_needs_and_nobody_gives_is_not_tested(shop: Shop) -> None:
    shop.write(BASE + "    variables:\n      - {key: SECRET, required: true}\n")
    shop.build()
    report = shop.report()
    assert report.result == "passed"
    assert [(check.name, check.result, check.reason) for check in failures(report)] == [
        (name, "skipped", "not tested: SECRET has no value here; test.environment gives one")
        for name in ("the services start", "rc-service shop greet runs")
    ]


def test_the_manifest_s_own_test_waits_for_what_the_service_needs(shop: Shop) -> None:
    own = "test:\n  environment: {SECERT: x}\n  command: curl -fsS localhost:8080\n"
    shop.write(BASE + "    variables:\n      - {key: SECRET, required: true}\n" + own)
    shop.build()
    report = shop.report()
    assert report.result == "passed"
    assert [(check.path, check.result) for check in failures(report)] == [
        ("run.services", "skipped"),
        ("run.commands[0]", "skipped"),
        ("test.command", "skipped"),
    ]
    assert failures(report)[2].reason == (
        "not tested: SECRET has no value here; test.environment has SECERT: did you mean SECRET?"
    )


TWO = BASE.replace("  commands:", "    - {name: worker, binary: work}\n  commands:")


@pytest.mark.parametrize("supervisor", ["supervise-daemon", "s6"])
def test_a_service_that_ends_shows_its_own_log_and_nothing_derived(
    shop: Shop, supervisor: str, request: pytest.FixtureRequest
) -> None:
    text = TWO + "test:\n  command: curl -fsS localhost:8080\n"
    if supervisor == "s6":
        request.getfixturevalue("mirrored")
        text = text.replace("[curl]", "[curl, s6]")
    shop.write(text, serve="echo no database; sleep 0.2; exit 3", work="echo at work; exec sleep 1000")
    shop.build()
    web, own = failures(shop.report())
    assert (web.path, web.result) == ("run.services[0]", "failed")
    assert web.reason == "web ended by itself with exit status 3"
    assert {line.rpartition(" no ")[2] for line in web.lines} == {"no database"}
    assert (own.path, own.result, own.reason) == ("test.command", "skipped", "not run: web did not start")


def test_a_service_that_ends_before_it_is_ready_is_told_the_same_way(shop: Shop) -> None:
    ready = "      ready: {port: 8080, timeout: 20}\n  commands:"
    shop.write(BASE.replace("  commands:", ready), serve="exit 0")
    shop.build()
    (web,) = failures(shop.report())
    assert (web.path, web.reason) == (
        "run.services[0]",
        "web ended by itself with exit status 0, without a word in its log",
    )


def test_what_the_manifest_adds_for_its_test_is_there(shop: Shop) -> None:
    own = """\
test:
  environment: {SECRET: "it's \\"$HOME\\""}
  packages: [ca-certificates]
  command: |
    apk info -e ca-certificates
    rc-service shop status
    rc-service shop greet | grep world
    false
    echo not reached
"""
    text = BASE + "    variables:\n      - {key: SECRET, required: true}\n" + own
    shop.write(text, serve='echo "with $SECRET"; exec nc -lk -p 8080 -e cat')
    shop.build()
    report = shop.report()
    (failed,) = failures(report)
    assert (failed.path, failed.result) == ("test.command", "failed")
    assert failed.reason == "it ended with exit status 1: hello, world"
    assert {"web starts and is up 1 seconds later", "rc-service shop greet runs"} <= {
        check.name for check in report.checks
    }


def test_a_program_that_nobody_may_execute_is_told_so(shop: Shop) -> None:
    text = BASE.replace("binary: greet", "path: /var/lib/shop/bin\n      binary: greet")
    text = text.replace("binary: serve", "path: /var/lib/shop/bin\n      binary: serve")
    shop.write(text + "test:\n  command: 'true'\n")
    for name in PROGRAMS:
        (shop.path / "bin" / name).chmod(0o644)
    shop.build()
    status, said = shop.test()
    assert status == 8
    print(said)
    assert said.count("`chmod +x` it (`git update-index --chmod=+x` where it comes from git)") == 3
    assert "/bin/greet: Permission denied; it is not executable" in said
    assert "/bin/serve is not a program; it is not executable" in said
    assert said.count("greet: Permission denied") == said.count("serve is not a program") - 1 == 1


def test_a_command_that_was_renamed_after_the_build_is_told_so(shop: Shop) -> None:
    shop.write(BASE)
    shop.build()
    shop.write(BASE.replace("name: greet", "name: rapport"))
    (renamed,) = failures(shop.report())
    assert (renamed.path, renamed.result) == ("run.commands[0]", "failed")
    assert renamed.reason == "the package was built from another manifest, which has no such command: build it again"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo hello | grep -q world", "1, without a word; `set -x` as its first line shows how far it comes"),
        ("jq . /etc/x", "127: line 1: jq: not found; add the package that has jq to test.packages"),
        ("wget http://x.example/", "the root has no network but its own loopback"),
    ],
)
def test_what_the_manifest_s_own_test_lacks_is_told(shop: Shop, command: str, reason: str) -> None:
    shop.write(f"{PAGE}test:\n  command: {command}\n")
    shop.build()
    (own,) = failures(shop.report())
    assert (own.path, own.result) == ("test.command", "failed")
    assert reason in own.reason, own


def test_what_goes_wrong_later_in_life_is_said_too(shop: Shop) -> None:
    hooks = """\
hook:
  post-install: |
    rc-update add shop
    touch /etc/left-behind
    echo '::error::from a hook'
  pre-upgrade: "true"
  post-upgrade: rm -rf /var/lib/shop/*
kits:"""
    text = BASE.replace("kits:", hooks).replace(
        "call: hello", "call: hello\n    - {name: bad, path: /bin, binary: 'false'}"
    )
    shop.write(text)
    built = repository.read(shop.build())[0]
    report = shop.report(previous.rebuilt(built, shop.path.parent / "previous"))
    assert [(check.path, check.result, check.reason) for check in failures(report)] == [
        ("run.commands[1]", "warning", "it ended with exit status 1 in a clean root"),
        ("run", "failed", "left: /etc/left-behind"),
        (
            "hook.post-upgrade",
            "failed",
            "a file of the application's in /var/lib/shop is not what it was: stat: can't stat 'pakman-test': "
            "No such file or directory",
        ),
        (
            "hook.post-upgrade",
            "failed",
            "it was not restarted: it still runs the old files; "
            "a post-upgrade of your own stands in place of pakman's: add `rc-service shop restart` to it",
        ),
        ("run", "failed", "left: /etc/left-behind"),
    ]
    assert any(line.endswith("::error::from a hook") for check in report.checks for line in check.lines)


def test_scripts_that_fail_when_it_is_removed_are_a_failure(shop: Shop) -> None:
    shop.write(BASE.replace("kits:", "hook:\n  pre-deinstall: exit 1\nkits:"))
    shop.build()
    (failed,) = failures(shop.report())
    assert (failed.path, failed.result) == ("hook.pre-deinstall", "failed")
    assert failed.reason == "the pre-deinstall script of shop-1.1.0-r0 exited with error 1"


def test_names_of_any_kind_are_looked_for_as_they_are(shop: Shop) -> None:
    shop.write(BASE)
    for name in ("a  b", "-rf", "$(x)", "q\"'q", "*", "x -> y"):
        (shop.path / "bin" / name).write_text("")
        (shop.path / "bin" / f"to {name}").symlink_to(name)
    shop.build()
    assert failures(shop.report()) == []


def test_a_service_that_has_to_be_killed_is_a_warning(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "KILLED_AFTER", 1)
    shop.write(
        BASE.replace("kits:", "hook:\n  post-install: echo retry=1 >>/etc/conf.d/shop\nkits:"),
        serve="trap '' TERM; nc -lk -p 8080 -e cat & while :; do sleep 1; done",
    )
    shop.build()
    stops = next(check for check in shop.report().checks if check.name == "web stops")
    assert (stops.result, stops.path) == ("warning", "run.services[0]")
    assert "what does not end by itself within 1 is killed" in stops.reason


def test_another_package_s_manifest_is_refused(shop: Shop) -> None:
    shop.write(BASE)
    shop.build()
    for text, reason in (
        (BASE.replace("name: shop\n", "name: till\n"), "it has shop, shop-openrc, and that is the manifest of till"),
        (BASE[: BASE.index("run:")], "it has a service, and the manifest has none"),
    ):
        shop.write(text)
        status, said = shop.test()
        assert status == 2
        assert f"packages was not built from instellar.yml: {reason}" in said
    shop.write(BASE[: BASE.index("run:")])
    shop.build()
    shop.write(BASE)
    assert "packages was not built from instellar.yml: it has no service, and the manifest has" in shop.test()[1]


def test_a_package_that_ends_everything_is_a_failure(shop: Shop) -> None:
    shop.write(BASE.replace("name: shop\n", "name: shop\n  user: root\n"), greet="kill -9 -1")
    shop.build()
    (failed,) = failures(shop.report())
    assert failed.reason.startswith("the run root's first process was ended from within")


def test_what_is_not_as_it_was_built_is_said(shop: Shop, tmp_path: Path) -> None:
    shop.write(BASE)
    built = repository.read(shop.build())[0]
    right = built.public_key.read_bytes()
    built.public_key.write_bytes(signing.generate("acme-shop.rsa.pub").public_pem)
    status, said = shop.test()
    assert status == 8
    assert "apk does not trust the repository: its index is not signed with the public key beside it" in said
    built.public_key.write_bytes(right)
    built.index.rename(tmp_path / "away")
    status, said = shop.test()
    assert status == 2
    assert "APKINDEX.tar.gz is missing" in said
    (tmp_path / "away").rename(built.index)
    built.packages[0].path.unlink()
    status, said = shop.test()
    assert status == 2
    assert f"{built.packages[0].path.name} is missing" in said
    assert "`pakman build` again" in said
    assert ".apk file" not in said


@pytest.mark.usefixtures("mirrored")
def test_a_dependency_that_a_repository_does_not_have_is_a_failure(shop: Shop) -> None:
    text = BASE.replace("[curl]", "[curl, no-such-package]")
    shop.write(text)
    shop.build()
    status, said = shop.test()
    assert status == 8
    place = at(text, "runtime")
    assert f"{place}: error: shop's dependencies can be had: the package needs no-such-package, which Alpine" in said


def test_dependencies_that_no_repository_serves_are_not_tested(shop: Shop) -> None:
    shop.write(BASE.replace("[curl]", "[curl, no-such-package]"))
    shop.build()
    status, said = shop.test()
    assert status == 0
    assert "skipped" in said
    assert "not tested: the package needs no-such-package, which the Alpine root does not have, and none of" in said


def test_what_only_the_test_adds_and_nobody_has_skips_only_the_test(shop: Shop) -> None:
    text = BASE + "test:\n  packages: [no-such-package]\n  command: exit 1\n"
    shop.write(text)
    shop.build()
    (own,) = failures(shop.report())
    assert (own.name, own.path, own.result) == ("the manifest's own test passes", "test.packages", "skipped")
    assert own.reason.startswith("not run: the test needs no-such-package, which the Alpine root does not have")


@pytest.mark.usefixtures("mirrored")
def test_what_only_the_test_adds_and_a_repository_does_not_have_fails_only_the_test(shop: Shop) -> None:
    shop.write(BASE + "test:\n  packages: [no-such-package]\n  command: exit 1\n")
    shop.build()
    (own,) = failures(shop.report())
    assert (own.name, own.path, own.result) == ("the manifest's own test passes", "test.packages", "failed")
    assert own.reason.startswith("the test needs no-such-package, which Alpine 3.23")


def test_another_release_and_another_machine_are_not_tested(shop: Shop) -> None:
    shop.write(BASE)
    made = shop.build()
    arch = os.uname().machine
    file = made / arch / "packages.json"
    file.write_text(file.read_text().replace("alpine/3.23", "alpine/3.22"))
    status, said = shop.test()
    assert status == 0
    assert "not tested: the package is for alpine/3.22, and the run root is Alpine 3.23" in said
    file.write_text(file.read_text().replace(f'"arch": "{arch}"', '"arch": "s390x"'))
    status, said = shop.test()
    assert status == 0
    assert "nothing was tested: packages has packages for s390x" in said


@pytest.mark.docker
@pytest.mark.parametrize("example", ["hello-web", "notes"])
def test_an_example_passes_in_its_run_image(
    shop: Shop, example: str, docker_engine: Engine, alpine_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(EXAMPLES / example, shop.path, dirs_exist_ok=True)
    monkeypatch.setenv("DOCKER_HOST", docker_engine.env["DOCKER_HOST"])
    (shop.path / ".pakman.toml").write_text(f'[stacks."alpine/3.23"]\nrun-image = ["{alpine_image}"]\n')
    shop.build(name=example)
    status, said = shop.test("--run-root", "docker")
    assert status == 0, said
    assert f"apk del {example} leaves nothing behind" in said


@pytest.mark.docker
def test_where_the_image_lacks_what_it_takes_the_sandbox_is_asked(
    shop: Shop, docker_engine: Engine, alpine_image: str, alpine_pristine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write(BASE.replace("[curl]", "[curl, till]"))
    shop.build()
    monkeypatch.setenv("DOCKER_HOST", docker_engine.env["DOCKER_HOST"])
    nowhere = 'repositories = ["http://127.0.0.1:9/alpine"]'
    (shop.path / ".pakman.toml").write_text(f'[stacks."alpine/3.23"]\n{nowhere}\nrun-image = ["{alpine_image}"]\n')
    status, said = shop.test("--run-root", "auto")
    assert (status, "not tested: the package needs till" in said) == (0, True)
    assert "--run-root sandbox and --rootfs" in said
    with (own_root(shop.cache, alpine_pristine) / "lib/apk/db/installed").open("a") as installed:
        installed.write(f"C:Q1{'A' * 27}=\nP:till\nV:1-r0\nA:{os.uname().machine}\nS:1\nI:1\nT:A till\nU:x\nL:MIT\n\n")
    status, said = shop.test("--run-root", "auto", "--format", "json")
    assert status == 0, said
    assert json.JSONDecoder().raw_decode(said)[0]["where"] == "the sandbox"
    assert "cannot be reached" in said
    assert ": the test runs in the sandbox instead" in said
    assert "not tested" not in said
