"""What GitHub Actions reads, read back by parsers of the documented formats."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pakman import github
from pakman.apk.package import Package
from pakman.errors import BuildError, UsageError
from pakman.problems import Problem
from pakman.repository import BuiltBy, Repository

Parsed = tuple[str, dict[str, str], str]
"""A workflow command's name, properties and message."""


def unescape(text: str) -> str:
    for escaped, plain in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(escaped, plain)
    return text


def parse(line: str) -> Parsed | None:
    """Read one line as the runner does: `::name key=value,…::message` behind white space, or `##[name key=value;…]`."""
    new = re.match(r"\s*::([A-Za-z][\w-]*)(?: (.*?))?::(.*)", line, re.DOTALL)
    old = re.search(r"##\[([A-Za-z][\w-]*)(?: ([^\]]*))?\](.*)", line, re.DOTALL)
    found = new or old
    if found is None:
        return None
    pairs = [pair.split("=", 1) for pair in (found[2] or "").split("," if new else ";") if "=" in pair]
    return found[1], {key: unescape(value) for key, value in pairs}, unescape(found[3])


def commands(output: str) -> list[Parsed]:
    """Read what a program wrote as the runner does: a line ends at LF, CR or CRLF."""
    return [found for line in re.split(r"\r\n|\r|\n", output) if (found := parse(line)) is not None]


def parse_outputs(text: str) -> dict[str, str]:
    """Read GITHUB_OUTPUT: `name=value`, or `name<<delimiter`, lines, delimiter."""
    found = {}
    lines = iter(text.split("\n"))
    for line in lines:
        multiple = re.fullmatch(r"([^=]*?)<<(.*)", line, re.DOTALL)
        if multiple:
            value: list[str] = []
            while (part := next(lines)) != multiple[2]:
                value.append(part)
            found[multiple[1]] = "\n".join(value)
        elif line:
            name, _, found_value = line.partition("=")
            found[name] = found_value
    return found


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.text(alphabet="%0AD:,\r\n=a ", max_size=12)


def test_an_annotation_is_a_workflow_command() -> None:
    line = github.annotation("error", "Not so,\nbut 100% so", file="a,b.yml", line=3, column=7, title="x: y")
    assert line == "::error file=a%2Cb.yml,line=3,col=7,title=x%3A y::Not so,%0Abut 100%25 so"
    assert github.annotation("notice", "Signed") == "::notice::Signed"


@given(texts, texts, texts)
@example("::error::", "a::b", "%0A%250A")
def test_an_annotation_comes_back_as_it_was(message: str, file: str, title: str) -> None:
    line = github.annotation("warning", message, file=file, line=1, column=2, title=title)
    assert commands(line) == [("warning", {"file": file, "line": "1", "col": "2", "title": title}, message)]


def problem(number: int = 1, severity: str = "error", **fields: str) -> Problem:
    assert severity in ("error", "warning")
    return Problem(
        file="instellar.yml",
        line=number,
        column=2,
        path="run.name",
        severity="error" if severity == "error" else "warning",
        code="unknown-key",
        message=fields.get("message", f"Key {number} is unknown."),
        hint=fields.get("hint", "Did you mean name?"),
    )


def test_a_problem_is_an_annotation_at_its_place_with_its_hint() -> None:
    assert github.annotations([problem(4)]) == (
        "::error file=instellar.yml,line=4,col=2,title=unknown-key::Key 4 is unknown.%0ADid you mean name?\n"
    )
    assert commands(github.annotations([problem(4, hint="")]))[0][2] == "Key 4 is unknown."
    assert github.annotations([]) == ""


@pytest.mark.parametrize("count", [1, 9, 10])
def test_ten_of_a_kind_are_shown(count: int) -> None:
    problems = [problem(number, kind) for number in range(count) for kind in ("error", "warning")]
    found = commands(github.annotations(problems))
    assert [name for name, _, _ in found] == ["error"] * count + ["warning"] * count


def test_of_more_than_ten_the_last_says_how_many_are_left_and_the_log_has_them() -> None:
    problems = [problem(number) for number in range(25)] + [problem(1, "warning")]
    printed = github.annotations(problems)
    found = commands(printed)
    assert [name for name, _, _ in found] == ["error"] * 10 + ["warning"]
    assert found[9][2] == "16 more errors: the step's log has them all"
    assert all(f"Key {number} is unknown." in printed for number in range(25))


@given(texts, texts)
def test_whatever_a_problem_says_it_is_one_command(message: str, hint: str) -> None:
    printed = github.annotations([problem(message=message, hint=hint) for _ in range(12)])
    assert len(commands(printed)) == 10


def test_groups() -> None:
    assert commands("\n".join([github.group("Build 100%\nof it"), github.endgroup()])) == [
        ("group", {}, "Build 100%\nof it"),
        ("endgroup", {}, ""),
    ]


KEY = "\n".join(
    ["-----BEGIN KEY-----", "first/line/of/the/key", "second+line+of+the+key", "end=", "-----END KEY-----", ""]
)


def test_every_line_of_a_secret_is_masked_and_its_base64() -> None:
    words = [message for _, _, message in commands("\n".join(github.mask(KEY)))]
    assert words[:2] == ["first/line/of/the/key", "second+line+of+the+key"]
    assert base64.b64encode(KEY.encode()).decode() in words
    assert base64.b64encode(KEY.strip().encode()).decode() in words
    assert set(base64.encodebytes(KEY.encode()).decode().splitlines()) <= set(words)
    assert not any(word.startswith("-----") for word in words)


@pytest.mark.parametrize("newline", ["\r\n", "\\n", "\\r\\n", " ", "  \n  "])
def test_a_key_whose_newlines_a_store_has_changed_is_masked_line_by_line(newline: str) -> None:
    words = [message for _, _, message in commands("\n".join(github.mask(KEY.replace("\n", newline))))]
    assert words[:2] == ["first/line/of/the/key", "second+line+of+the+key"]
    assert not any("-----" in word for word in words)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\\n", "\\r\\n", " ", "  \n  "])
def test_the_name_that_a_key_carries_is_not_masked(newline: str) -> None:
    text = f"Key-Name: acme-shop-2.rsa.pub\n{KEY}".replace("\n", newline)
    words = [message for _, _, message in commands("\n".join(github.mask(text)))]
    assert words[:2] == ["first/line/of/the/key", "second+line+of+the+key"]
    # GitHub itself masks a secret, and each of its lines.
    masked = [*words, text, *(line.strip() for line in text.splitlines() if line.strip())]
    outputs = ("acme-shop-2.rsa.pub", "https://s3.example.com/bucket/keys/acme-shop-2.rsa.pub")
    assert not any(word in output for word in masked for output in outputs)


@pytest.mark.parametrize("name", ["MIIEvQIBADANBgkqhkiG9w0BAQ", "acme-shop-2.rsa.pub,MIIEvQIBADANBgkqhkiG9w0BAQ"])
def test_what_is_no_name_is_masked(name: str) -> None:
    words = [message for _, _, message in commands("\n".join(github.mask(f"Key-Name: {name}\n{KEY}")))]
    assert name in words


def test_a_secret_of_one_line_is_masked_whole() -> None:
    assert github.mask("  50% off:secret\n")[0] == "::add-mask::50%25 off:secret"


@pytest.mark.parametrize("secret", ["", "\n", "  ", "on", "main"])
def test_nothing_short_is_masked(secret: str) -> None:
    assert all(len(message) >= 8 for _, _, message in commands("\n".join(github.mask(secret))))
    assert not any(line.removeprefix("::add-mask::") == secret.strip() for line in github.mask(secret))


@given(texts)
def test_every_mask_is_one_command(secret: str) -> None:
    lines = github.mask(secret)
    assert [name for name, _, _ in commands("\n".join(lines))] == ["add-mask"] * len(lines)


ATTACKS = [
    "::set-output name=a::b",
    "  ::add-mask::b",
    "\t::error::b",
    "\u00a0\u2003::error::b",
    "\ufeff::error::b",
    "\u200b::error::b",
    "\0::error::b",
    "50%\r::error::b",
    "50%\r\n  ::error::b",
    "::stop-commands::token",
    "::ERROR::b",
    "::error::",
    "##[error]b",
    "a ##[add-path]/tmp",
    "####[error]b",
    "##[##[error]b",
    "::##[error]b",
    "::x ##[error]::b",
]


@pytest.mark.parametrize("line", ATTACKS)
def test_a_child_cannot_issue_a_command(line: str) -> None:
    made_harmless = github.neutralise(line)
    assert made_harmless != line
    assert commands(made_harmless) == []
    assert github.neutralise(made_harmless) == made_harmless


@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(["::", ":", "##[", "#", "[", "]", "error", " ", "\r", "\n", "a=b", "\t", "é"])).map(
            "".join
        ),
    )
)
def test_no_line_of_a_child_is_a_command(line: str) -> None:
    assert commands(github.neutralise(line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "added 120 packages in 3s",
        "10% [##        ]",
        "# [section]",
        "std::vector<int> a; // not at the start",
        "error: a::b::c",
        "::1 localhost",
        ":::::::::::::",
        "::",
        "  - item: ::",
        "\x1b[31merror\x1b[0m: x",
        "50%\r100%",
        "Grüße :: 世界",
    ],
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert github.neutralise(line) == line


def test_a_line_made_harmless_can_still_be_read() -> None:
    assert github.neutralise("  ::error file=a::b") == "  > ::error file=a::b"
    assert github.neutralise("npm ##[error]b") == "npm ## [error]b"


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True), texts))
def test_outputs_come_back_as_they_were(outputs: dict[str, str]) -> None:
    assert parse_outputs("".join(github._output(*pair) for pair in outputs.items())) == outputs


def test_outputs_are_appended(tmp_path: Path) -> None:
    file = tmp_path / "output"
    github.write_outputs(file, {"name": "shop", "checksums": "a  b\nc  d", "empty": ""})
    github.write_outputs(file, {"url": "https://example.org/?a=b<<c"})
    text = file.read_bytes().decode()
    assert text.startswith("name=shop\nchecksums<<")
    assert parse_outputs(text) == {
        "name": "shop",
        "checksums": "a  b\nc  d",
        "empty": "",
        "url": "https://example.org/?a=b<<c",
    }


def test_a_value_cannot_end_itself_and_bring_another_output(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    github.write_outputs(first, {"a": "x\ny"})
    delimiter = first.read_text().splitlines()[-1]
    github.write_outputs(second, {"a": f"x\n{delimiter}\nb=1"})
    assert parse_outputs(second.read_text()) == {"a": f"x\n{delimiter}\nb=1"}


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a<<b", "a\nb", "1a", "ä", "-a"])
def test_an_output_has_a_name_that_github_takes(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not the name of an output"):
        github.write_outputs(tmp_path / "output", {"fine": "1", name: "x"})
    assert not (tmp_path / "output").exists()


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the file that GITHUB_OUTPUT names, .*, cannot be written: Is a directory"):
        github.write_outputs(tmp_path, {"a": "b"})
    with pytest.raises(
        UsageError, match=r"the file that GITHUB_STEP_SUMMARY names, .* cannot be written: No such file"
    ):
        github.append_summary(tmp_path / "no" / "summary", "x")


def test_bytes_that_were_no_text_do_not_stop_a_run(tmp_path: Path) -> None:
    github.append_summary(tmp_path / "summary", "a\udcffb\n")
    assert (tmp_path / "summary").read_bytes() == b"a?b\n"


def repository(*packages: Package, arch: str = "x86_64") -> Repository:
    return Repository(
        directory=Path("out"),
        arch=arch,
        owner="acme",
        project="shop",
        slug="shop",
        commit="0" * 40,
        stack="alpine/3.23",
        key_name="acme-shop.rsa.pub",
        packages=packages,
        builder=BuiltBy("abuild", "0.1.0"),
    )


def package(name: str = "shop", version: str = "1.2.3_rc1-r4", size: int = 1_500_000) -> Package:
    return Package(name, version, "x86_64", Path(f"out/x86_64/{name}-{version}.apk"), size, "ab" * 32)


def test_a_summary_says_what_was_built_where_it_is_and_how_to_install_it() -> None:
    text = github.summary(
        [repository(package(), package("shop-openrc", size=900)), repository(package(), arch="aarch64")],
        facts={"Repository": "https://s3.example/bucket/deployments", "Public key": "https://s3.example/a_b.pub"},
        install=["wget -P /etc/apk/keys https://s3.example/a_b.pub", "apk add shop"],
        error=None,
    )
    assert text == (
        "## shop 1.2.3\\_rc1-r4\n\n"
        "| Package | Version | Architecture | Size | SHA-256 |\n"
        "|---|---|---|--:|---|\n"
        f"| shop | 1.2.3\\_rc1-r4 | x86\\_64 | 1.4 MiB | {'ab' * 32} |\n"
        f"| shop-openrc | 1.2.3\\_rc1-r4 | x86\\_64 | 900 B | {'ab' * 32} |\n"
        f"| shop | 1.2.3\\_rc1-r4 | x86\\_64 | 1.4 MiB | {'ab' * 32} |\n\n"
        "- Repository: `https://s3.example/bucket/deployments`\n"
        "- Public key: `https://s3.example/a_b.pub`\n\n"
        "To install it:\n\n"
        "```sh\n"
        "wget -P /etc/apk/keys https://s3.example/a_b.pub\n"
        "apk add shop\n"
        "```\n\n"
    )


def test_a_failure_s_summary_says_what_happened_and_what_to_do() -> None:
    error = BuildError("`make *` ended with 2", hint="the last lines:\nno rule <b>")
    text = github.summary([], facts={}, install=[], error=error)
    assert text == "## pakman failed\n\n**\\`make \\*\\` ended with 2**\n\nthe last lines:<br>no rule &lt;b&gt;\n\n"


def test_a_failed_push_still_says_what_was_built() -> None:
    text = github.summary([repository(package())], facts={}, install=[], error=BuildError("No."))
    assert text.startswith("## pakman failed\n\n**No.**\n\n| Package |")


def test_a_summary_of_many_packages_stays_below_what_github_takes() -> None:
    packages = [package(f"shop-{number}") for number in range(5000)]
    text = github.summary([repository(*packages)], facts={}, install=[], error=None)
    assert len(text.encode()) < 128 * 1024
    assert "| and 4800 more |" in text


@given(texts, texts.filter(str.strip))
@example("a|b\\|c\\", "``` `` `")
@example("\\", "`")
def test_no_value_breaks_out_of_its_place(text: str, place: str) -> None:
    markdown = github.summary(
        [repository(package(text or "x"))], facts={"Where": place}, install=[place.replace("\n", " ")], error=None
    )
    row = markdown.split("|--:|---|\n")[1].splitlines()[0]
    # GFM: a cell ends at a pipe without a backslash of its own; a pair of backslashes is one of text.
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 6
    assert "<" not in row
    item = next(line for line in markdown.splitlines() if line.startswith("- "))
    fence = re.search(r"`+$", item)
    assert fence is not None
    assert len(re.findall(rf"(?<!`){fence[0]}(?!`)", item)) == 2
    block = re.search(r"^(`{3,})sh\n(.*)\n\1\n\n\Z", markdown, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert block[1] not in block[2]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (20 * 2**20, "20 MiB"), (3 * 2**40, "3072 GiB")],
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    assert github.human_size(size) == text
