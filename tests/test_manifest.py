from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from pakman import manifest, problems, stack, validation
from pakman.errors import UsageError
from pakman.manifest import Build, Command, Dependencies, Manifest, Run, Service, Stop
from pakman.validation import Verdict, yaml_reader
from pakman.validation.yaml_tree import Unreadable
from tests.manifests import FULL, LEAST, TODAY, changed, scribbled, trees

BAD = sorted((Path(__file__).parent / "bad").glob("*.yml"))
CODES = frozenset(f"{problems.ERRORS} {problems.WARNINGS}".split())

Write = Callable[[str | bytes], Path]


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    file = tmp_path_factory.mktemp("manifest") / "instellar.yml"

    def write(content: str | bytes) -> Path:
        file.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        return file

    return write


def check(file: Path, repository: str | None = None) -> Verdict:
    return validation.validate(file, repository=repository, today=TODAY)


def only(verdict: Verdict) -> problems.Problem:
    assert len(verdict.problems) == 1, verdict.problems
    return verdict.problems[0]


def test_a_full_manifest_is_read_without_a_word(write: Write) -> None:
    reading = manifest.read(write(FULL), repository="Shop", today=TODAY)
    assert reading.problems == ()
    assert reading.source == FULL
    data = yaml.safe_load(FULL)
    assert reading.manifest == Manifest(
        stack="alpine/3.23",
        dependencies=Dependencies(
            build=("elixir>=1.17", "npm", "!nodejs-current", "wasi-sdk@edge"),
            runtime=("curl", "ca-certificates", "so:libpq.so.5", "python3~3.12", "shop-openrc"),
            trace=True,
        ),
        architectures=("x86_64", "aarch64"),
        build=Build(
            command="mix deps.get --only prod\nmix release\n",
            destinations=("_build/prod/rel/shop/*", ".env.example"),
            exclude=("node_modules",),
            environment={"MIX_ENV": "prod", "EMPTY": ""},
            strip_binary=False,
        ),
        source=("Caddyfile", "data/geo.csv"),
        run=Run(
            name="shop",
            user="root",
            services=(
                Service("web", "shop", call='start --name "my shop"', stop=Stop(call="stop")),
                Service("worker", "php", path="/usr/bin"),
            ),
            commands=(
                Command("migrate", "shop", call="eval Shop.Release.migrate"),
                Command("db-console", "psql", path="/usr/bin"),
            ),
        ),
        hook=data["hook"],
        test=manifest.Test(
            command="curl -fsS http://127.0.0.1:4000/health | jq -e .ok\n",
            packages=("jq", "postgresql17-client>=17", "k6@testing"),
            environment={"DATABASE_URL": "postgres://postgres@127.0.0.1/shop", "GREETING": '"hello"'},
        ),
        kits=tuple(data["kits"]),
        sizes=tuple(data["sizes"]),
        plans=tuple(data["plans"]),
        page=data["page"],
        description='A shop that sells "things" for $5',
        license="MIT",
        url="https://shop.example/about",
        maintainer="Ada Lovelace <ada@example.com>",
    )


def test_a_test_s_environment_is_lines_that_lose_one_pair_of_quotes() -> None:
    environment = {"PLAIN": "a b", "QUOTED": '"hello"', "EMPTY": ""}
    assert manifest.Test(environment=environment).env_file() == 'PLAIN="a b"\nQUOTED=""hello""\nEMPTY=""\n'


def test_the_least_manifest_has_the_defaults(write: Write) -> None:
    reading = manifest.read(write(LEAST), repository=None, today=TODAY)
    assert reading.manifest == Manifest(stack="alpine/edge", build=Build(destinations=("dist",)))


@pytest.mark.parametrize(
    "text",
    [
        "type: custom\nstack: alpine/edge\ndependencies: {runtime: [curl, caddy]}\n"
        "run: {services: [{name: web, path: /usr/sbin, binary: caddy}]}\n",
        "stack: alpine/edge\npackage: make install\n",
        LEAST.replace("alpine/edge", "v3.24"),
        LEAST + "type: static\nrun: {services: [{name: web, binary: nginx}]}\n",
        LEAST + "x-page: &page {title: Shop}\n".replace("x-page", "page") + "sizes:\n  - name: s\n    <<: *page\n",
        LEAST + "dependencies: {runtime: [curl>=8]}\nrun: {services: [{name: web, binary: shop}]}\n",
        LEAST + "hook: {pre-install: rc-service $name start; rc-update show}\nrun: {name: shop}\n",
        LEAST + "kits: [{name: web, main: true, variables: [{key: SERVICE_MODE}]}]\n",
        "\ufeff" + LEAST,
        LEAST.replace("\n", "\r\n"),
        LEAST + "description: Gemüse \N{GREEN APPLE}\n",
        LEAST + "license: !!str 1.0\n",
    ],
)
def test_what_is_right_is_not_spoken_of(write: Write, text: str) -> None:
    assert check(write(text)).problems == ()


def test_no_stack_is_none_and_any_spelling_is_its_name(write: Write) -> None:
    without = manifest.read(write("build: {destinations: [dist]}\n"), repository=None, today=TODAY)
    assert without.manifest is not None
    assert without.manifest.stack is None
    short = manifest.read(write("stack: v3.23\nbuild: {destinations: [dist]}\n"), repository=None, today=TODAY)
    assert short.manifest is not None
    assert short.manifest.stack == "alpine/3.23"


def test_a_source_may_be_words(write: Write) -> None:
    reading = manifest.read(write(LEAST + "source: |\n  a.conf\n  b.conf c.conf\n"), repository=None, today=TODAY)
    assert reading.manifest is not None
    assert reading.manifest.source == ("a.conf", "b.conf", "c.conf")


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_a_bad_manifest_is_told_exactly_what_is_wrong(file: Path) -> None:
    text = file.read_text()
    told = re.match(r"# (error|warning): (.*)\n", text)
    place = re.search(r"^# (\S+) in line (\d+)$", text, re.MULTILINE)
    assert told is not None
    assert place is not None
    repository = re.search(r"^# repository: (.*)$", text, re.MULTILINE)
    reading = manifest.read(file, repository=repository and repository[1], today=TODAY)
    assert [(p.severity, p.code, p.line) for p in reading.problems] == [(told[1], place[1], int(place[2]))]
    problem = reading.problems[0]
    assert told[2] in f"{problem.message}\n{problem.hint}"
    assert problem.file == str(file)
    assert (reading.manifest is None) == (told[1] == "error")


def test_every_code_has_a_bad_manifest() -> None:
    codes = {code for file in BAD for code in re.findall(r"^# (\S+) in line", file.read_text(), re.MULTILINE)}
    # The rest cannot be written as a file that begins with a comment, or not as a small one: see below.
    of_an_index = {"unknown-package", "unmet-version"}  # tests/test_packages.py
    assert codes | of_an_index | {"control-character", "not-utf-8", "too-large"} == CODES


@pytest.mark.parametrize(
    ("content", "code", "line", "column", "phrase"),
    [
        (b"", "empty", 1, 1, "says nothing"),
        (b"\xef\xbb\xbf\n\n", "empty", 1, 1, "says nothing"),
        (b"---\n", "empty", 1, 1, "says nothing"),
        (b"stack: x\n# caf\xe9\n", "not-utf-8", 2, 6, "byte 15 is 0xe9"),
        ("stack: x\n".encode("utf-16"), "not-utf-8", 1, 1, "byte 1 is 0xff"),
        (b"stack: x\nlicense: a\0b\n", "control-character", 2, 11, "U+0000"),
        (b"stack: x\nlicense: \x1b[31m\n", "control-character", 2, 10, "U+001B"),
        ("a: b\u2028c: d\n".encode(), "control-character", 1, 5, "U+2028"),
        (b"stack: x\rlicense: MIT\n", "control-character", 1, 9, "U+000D"),
        (b"#" * (1024 * 1024 + 1), "too-large", 1, 1, "1 MiB"),
        (b"page:\n" + b"  - a\n" * 20_000, "too-large", 10_001, 5, "10000 values"),
        (b'license: "\\0"\n' + LEAST.encode(), "control-character", 1, 10, "no file can hold"),
        (b"[" * 1_000_000, "too-deep", 1, 41, "40 levels"),
        (b"- " * 100_000, "too-deep", 1, 81, "40 levels"),
        (b"a: " * 1000, "yaml-syntax", 1, 5, "second `: `"),
        (b"{" * 100_000, "yaml-syntax", 1, 2, "keys are words"),
        (b"page: |\n" + b" " * 500_000 + b"x\n" + LEAST.encode(), "wrong-type", 1, 7, "must be a mapping"),
        (b"license: " + b"9" * 100_000 + b"\n" + LEAST.encode(), "yaml-trap", 1, 10, "not a valid one"),
        (b"license: " + b"1" * 90_000 + b":30\n" + LEAST.encode(), "yaml-trap", 1, 10, "not a valid one"),
        (b"license: 0x" + b"f" * 9000 + b"\n" + LEAST.encode(), "yaml-trap", 1, 10, "too large"),
        (b"license: 1" + b":1" * 400_000 + b"\n" + LEAST.encode(), "yaml-trap", 1, 10, "in base 60"),
        (b"license: 0x_\n" + LEAST.encode(), "yaml-trap", 1, 10, "not a valid one"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_text_editor_writes(
    write: Write, content: bytes, code: str, line: int, column: int, phrase: str
) -> None:
    start = time.monotonic()
    verdict = check(write(content))
    assert time.monotonic() - start < 5
    problem = verdict.problems[0]
    assert (problem.code, problem.line, problem.column) == (code, line, column)
    assert phrase in problem.message
    assert not verdict.valid


@pytest.mark.parametrize("line", ["command: curl localhost", "packages: [jq]"])
def test_a_key_that_is_not_indented_belongs_under_the_empty_one(write: Write, line: str) -> None:
    (empty, unknown) = check(write(f"{LEAST}test:\n{line}\n")).problems
    assert (empty.path, unknown.path) == ("test", line.partition(":")[0])
    assert unknown.hint == f"`{unknown.path}` belongs under `test`: indent it there"


def test_every_problem_is_told_at_once_and_in_order(write: Write) -> None:
    text = (
        "stack: 3.20\nbuilt: {}\nbuild:\n  destinations: dist\n  destination: x\n  strip_binary: 'no'\n"
        "run:\n  name: root\n  commands:\n    - name: stop\n    - name: stop\n      binary: a\n"
        "hook:\n  post-instal: |\n    x\n  post-install: rc-service shop start\n"
    )
    verdict = check(write(text))
    assert [(p.line, p.code) for p in verdict.problems] == [
        (1, "yaml-trap"),
        (2, "unknown-key"),
        (4, "wrong-type"),
        (5, "old-key"),
        (6, "wrong-type"),
        (8, "reserved-name"),
        (10, "missing-key"),
        (10, "reserved-name"),
        (11, "repeated-name"),
        (11, "reserved-name"),
        (14, "unknown-hook"),
        (16, "hook-other-service"),
    ]


def test_a_problem_has_its_path_and_column(write: Write) -> None:
    problem = only(check(write(LEAST + "run:\n  services:\n  - {name: web}\ndependencies: {runtime: [curl]}\n")))
    assert (problem.path, problem.line, problem.column) == ("run.services[0]", 7, 5)
    problem = only(check(write(LEAST + "page: {}\nkits: [{name: a, main: true, ports: [{target: x}]}]\n")))
    assert (problem.path, problem.column) == ("kits[0].ports[0].target", 47)


def test_a_verdict_knows_the_places_of_its_values(write: Write) -> None:
    root = check(write("run:\n  name: shop\n  sevices: []\n")).root
    assert root is not None
    name = root.mapping("run").text("name")
    assert name is not None
    assert (name.value, name.line, name.column) == ("shop", 2, 9)
    assert check(write("a: [")).root is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nothing.yml", "there is no manifest"), (".", "Is a directory"), ("a\0b", "it is no path")],
)
def test_a_file_that_cannot_be_read_is_an_error_of_usage(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check(tmp_path / path)
    assert caught.value.hint


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_both_of_pyyaml_s_parsers_find_the_same(file: Path) -> None:
    def outcome(loader: Any) -> Any:
        try:
            root, faults = yaml_reader.parse(file.read_text(), loader)
        except Unreadable as unreadable:
            # Where a quoted text breaks off, and where in the tree, the two do not agree upon to the character.
            return unreadable.fault.line, unreadable.fault.code
        return root and root.value, faults

    if file.stem == "syntax-directive":
        return
    assert outcome(yaml.SafeLoader) == outcome(yaml.CSafeLoader)


def _holds(verdict: Verdict, file: Path) -> None:
    lines = verdict.source.split("\n")
    for problem in verdict.problems:
        assert problem.code in CODES
        assert 1 <= problem.line <= len(lines)
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
        assert problem.message.isprintable()
    assert list(verdict.problems) == sorted(verdict.problems)
    problems.text(verdict.problems, verdict.source).encode()
    problems.json(verdict.problems).encode()
    reading = manifest.read(file, repository="shop", today=TODAY)
    assert (reading.manifest is not None) == verdict.valid


@given(st.one_of(st.text(), st.binary(), scribbled()))
@example("a: !!binary x")
@example("a: !!set {b}")
@example("? {}\n: {}")
@example("<<: &a\n  <<: *a\n")
@example("a: &a\n<<: [*a, {b: 1}]\n")
@example("%TAG ! tag:a,b:\n---\na: 1")
@example('a: "\\uD800"\n')
@example("kits: [[]]\nrun: {services: [x, {name: [], start: []}], commands: {}}\n")
def test_any_text_is_answered(write: Write, text: str | bytes) -> None:
    file = write(text)
    _holds(check(file, "shop"), file)


@given(st.one_of(changed(), trees))
def test_any_data_is_answered(write: Write, data: Any) -> None:
    file = write(yaml.safe_dump(data, allow_unicode=True, sort_keys=False))
    _holds(check(file, "shop"), file)


def test_end_of_life_follows_the_calendar(write: Write) -> None:
    file = write(LEAST.replace("edge", "3.24"))
    found = stack.find("3.24")
    assert found is not None
    assert found.end_of_life is not None
    assert validation.validate(file, repository=None, today=TODAY).problems == ()
    problem = only(validation.validate(file, repository=None, today=found.end_of_life))
    assert problem.code == "stack-end-of-life"
