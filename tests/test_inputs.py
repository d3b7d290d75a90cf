"""A workflow's inputs become one command line and an environment."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from pakman import arguments, inputs
from pakman.errors import UsageError

KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----\n"
SECRETS = {
    "INPUT_SIGNING-KEY": KEY,
    "INPUT_PREVIOUS-SIGNING-KEY": KEY.replace("MII", "MIJ"),
    "INPUT_ACCESS-KEY-ID": "AKIAIOSFODNN7EXAMPLE",
    "INPUT_SECRET-ACCESS-KEY": " wJalrXUtnFEMI-K7MDENG-bPxRfiCY\n",
    "INPUT_SESSION-TOKEN": "a-session-token-of-some-length",
    "INPUT_INSTELLAR-PACKAGE-TOKEN": "a-package-token-of-some-length",
    "INPUT_INSTELLAR-AUTH-TOKEN": "an-auth-token-of-some-length\n",
    "INPUT_NOTIFY-SECRET": "a-secret-of-some-length",
}


def line(**given: str) -> list[str]:
    return inputs.command_line({name.replace("_", "-"): value for name, value in given.items()})


def test_without_inputs_it_is_a_run() -> None:
    assert line() == ["run", "--output=packages"]


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_what_is_empty_was_not_given(text: str) -> None:
    assert inputs.given({f"INPUT_{name.upper()}": text for name in inputs.NAMES}) == {}


def test_names_keep_their_hyphens_and_values_lose_white_space_around_them() -> None:
    env = {"INPUT_PACKAGE-VERSION": " 1.2.3\n", "INPUT_DRY-RUN": "true", "PATH": "/bin"}
    assert inputs.given(env) == {"package-version": "1.2.3", "dry-run": "true"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"command": "validate"}, "validate --format=github"),
        ({"command": "validate", "config": "a b.yml"}, "validate --format=github 'a b.yml'"),
        ({"command": "generate", "config": "x.yml"}, "generate x.yml --output=aport"),
        ({"command": "build", "bucket": "s3://b"}, "build --output=packages"),
        ({"command": "push", "bucket": "s3://b", "config": "x.yml"}, "push packages --bucket=s3://b"),
        (
            {"command": "release", "bucket": "s3://b", "expect": "x86_64 aarch64", "config": "x.yml"},
            "release --bucket=s3://b '--expect=x86_64 aarch64'",
        ),
        ({"command": "deploy", "ref": "refs/tags/v1"}, "deploy --ref=refs/tags/v1"),
        ({"command": "deploy", "sha": "-x", "config": "x.yml"}, "deploy x.yml --sha=-x"),
        ({"config": "--keep"}, "run ./--keep --output=packages"),
        ({"project": "--keep"}, "run --output=packages --project=--keep"),
        ({"dry_run": "True"}, "run --output=packages --dry-run"),
        ({"dry_run": "FALSE"}, "run --output=packages"),
        ({"test": "false"}, "run --output=packages --no-test"),
        ({"test": "true", "run_root": "docker"}, "run --output=packages --test --run-root=docker"),
        ({"command": "build", "test": "false"}, "build --output=packages"),
        (
            {"architectures": "x86_64,\naarch64", "working_directory": "a"},
            "run --output=packages --working-directory=a '--architectures=x86_64,\naarch64'",
        ),
    ],
)
def test_inputs_are_flags(given: dict[str, str], expected: str) -> None:
    assert shlex.join(line(**given)) == expected


def test_every_command_line_is_one_that_the_parser_takes() -> None:
    values = dict.fromkeys(inputs.NAMES, "x") | {
        "architectures": "x86_64 aarch64", "addressing-style": "path", "build-root": "sandbox", "builder": "embedded",
        "expect": "x86_64",
        "concurrency": "4", "dry-run": "true", "log-level": "debug", "test": "false", "run-root": "sandbox",
    }  # fmt: skip
    for command in inputs.COMMANDS:
        args = arguments.parser().parse_args(inputs.command_line(values | {"command": command}))
        assert args.command == command
        assert args.working_directory == Path("x")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"command": "all"},
            "the input command: expected one of run, validate, generate, build, push, release, deploy, but got 'all'",
        ),
        ({"dry_run": "yes"}, "the input dry-run: expected true or false, but got 'yes'"),
        ({"test": "no"}, "the input test: expected true or false, but got 'no'"),
        (
            {"architectures": "amd"},
            "the input architectures: expected Alpine's names (e.g. x86_64, aarch64), but got 'amd'",
        ),
        ({"command": "push"}, "an input is missing: bucket"),
        ({"command": "release"}, "an input is missing: expect, bucket"),
        (
            {"command": "release", "expect": "x86_64 arm64"},
            "the input expect: expected Alpine's names (e.g. x86_64, aarch64), but got 'arm64'",
        ),
        (
            {"command": "release", "expect": "noarch"},
            "the input expect: expected the machines' architectures (e.g. x86_64, aarch64), but got 'noarch'",
        ),
        *(
            ({"concurrency": text}, f"the input concurrency: expected a number from 1 to 64, but got {text!r}")
            for text in ("0", "65", "-1", "many", "1e1", "1000", "²", "4.0")
        ),
    ],
)  # fmt: skip
def test_a_value_that_is_none_says_what_was_expected(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        line(**given)
    assert caught.value.message == sentence


def test_a_value_that_is_no_choice_names_its_input() -> None:
    with pytest.raises(UsageError, match="the input run-root: invalid choice: 'x'") as caught:
        line(run_root="x")
    assert caught.value.hint == "look at the step's `with:`"


@pytest.mark.parametrize("text", ["x86_64,amd64", "x86_64 ; ls", "X86_64"])
def test_an_architecture_is_one_of_alpines(text: str) -> None:
    with pytest.raises(UsageError, match="--architectures: expected Alpine's names") as caught:
        arguments.parser().parse_args(["build", "--output=x", f"--architectures={text}"])
    assert "x86_64" in caught.value.hint


def test_architectures_are_a_list_however_it_is_written() -> None:
    args = arguments.parser().parse_args(["run", "--architectures", "x86_64, aarch64\nx86_64 armv7"])
    assert args.architectures == ("x86_64", "aarch64", "armv7")


def test_no_secret_is_in_the_command_line() -> None:
    for command in inputs.COMMANDS:
        shown = inputs.shown(
            inputs.command_line(
                inputs.given(SECRETS | {"INPUT_COMMAND": command, "INPUT_BUCKET": "s3://b", "INPUT_EXPECT": "x86_64"})
            )
        )
        assert not any(part in shown for value in SECRETS.values() for part in value.strip().splitlines())


def test_secrets_travel_under_their_usual_names() -> None:
    env = inputs.environment(SECRETS | {"AWS_REGION": "eu-west-1"}, home="/root")
    assert env == {
        "AWS_REGION": "eu-west-1",
        "PAKMAN_SIGNING_KEY": KEY.strip(),
        "PAKMAN_PREVIOUS_SIGNING_KEY": KEY.replace("MII", "MIJ").strip(),
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-K7MDENG-bPxRfiCY",
        "AWS_SESSION_TOKEN": "a-session-token-of-some-length",
        "INSTELLAR_PACKAGE_TOKEN": "a-package-token-of-some-length",
        "INSTELLAR_AUTH_TOKEN": "an-auth-token-of-some-length",
        "PATH": env["PATH"],
        "HOME": "/root",
    }


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("validate", []),
        ("generate", []),
        ("build", ["PAKMAN_"]),
        ("push", ["PAKMAN_", "AWS_"]),
        ("release", ["PAKMAN_", "AWS_"]),
        ("deploy", ["AWS_", "INSTELLAR_"]),
        ("run", ["PAKMAN_", "AWS_", "INSTELLAR_"]),
    ],
)
def test_a_command_is_told_the_secrets_that_it_needs(command: str, told: list[str]) -> None:
    job = {"AWS_SECRET_ACCESS_KEY": "of-an-earlier-step", "INPUT_COMMAND": command}
    for given in (SECRETS, {"PAKMAN_PREVIOUS_SIGNING_KEY": KEY, "INSTELLAR_AUTH_TOKEN": "of-the-job"}):
        found = inputs.environment(job | given, home="/root")
        assert {name.split("_")[0] + "_" for name in found if name in inputs.SECRETS.values()} == set(told)


def test_a_pair_of_keys_is_not_mixed_with_an_earlier_step_s() -> None:
    earlier = {"AWS_ACCESS_KEY_ID": "old", "AWS_SECRET_ACCESS_KEY": "old", "AWS_SESSION_TOKEN": "old"}
    given = {"INPUT_ACCESS-KEY-ID": "new", "INPUT_SECRET-ACCESS-KEY": "new"}
    found = inputs.environment(earlier | given, home="/root")
    assert [found.get(name) for name in earlier] == ["new", "new", None]
    assert inputs.environment(earlier, home="/root")["AWS_SESSION_TOKEN"] == "old"


def test_what_names_the_hosts_places_and_tokens_does_not_come_along() -> None:
    job = {
        "PATH": "/opt/hostedtoolcache/node/bin:.", "HOME": "/github/home", "TMPDIR": "/home/runner/tmp",
        "XDG_CACHE_HOME": "/home/runner/.cache", "PYTHONPATH": "evil", "LD_PRELOAD": "evil", "GIT_DIR": "evil",
        "ACTIONS_RUNTIME_TOKEN": "t", "GITHUB_TOKEN": "t", "INPUT_BUCKET": "s3://b", "GITHUB_SHA": "x", "CI": "true",
    }  # fmt: skip
    found = inputs.environment(job, home="/root")
    assert found["PATH"].startswith("/usr/local/sbin:")
    assert {name: found[name] for name in found if name != "PATH"} == {"HOME": "/root", "GITHUB_SHA": "x", "CI": "true"}


def test_every_secret_is_masked_whichever_command_it_is_for() -> None:
    said = inputs.masks(SECRETS | {"INPUT_COMMAND": "validate", "AWS_SECRET_ACCESS_KEY": "of-an-earlier-step"})
    lines = said.splitlines()
    assert all(line.startswith("::add-mask::") for line in lines)
    assert len(lines) == len(set(lines))
    for secret in (
        "MIIEvQIBADANBgkqhkiG9w0BAQ",
        "MIJEvQIBADANBgkqhkiG9w0BAQ",
        "wJalrXUtnFEMI-K7MDENG-bPxRfiCY",
        "of-an-earlier-step",
    ):
        assert f"::add-mask::{secret}" in lines
    assert inputs.masks({"INPUT_BUCKET": "s3://my-bucket", "INPUT_ACCESS-KEY-ID": "my-bucket"}) == ""


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("https://me:the-password@s3.example", "https://…@s3.example"),
        ("https://me:the/pass:word@s3.example/a", "https://…@s3.example/a"),
        ("https//me:the-password@s3.example", "https//…@s3.example"),
        ("https:/me:the-password@s3.example", "…@s3.example"),
        ("me:the-password@s3.example", "…@s3.example"),
        ("https://the-password@s3.example", "https://…@s3.example"),
        ("https://s3.example:9000/a", "https://s3.example:9000/a"),
    ],
)
def test_what_is_printed_is_no_command_and_holds_no_password(address: str, printed: str) -> None:
    shown = inputs.shown(line(endpoint_url=address, project="a\n::add-path::/tmp"))
    assert f" --endpoint-url={printed}" in shown
    assert "\n> ::add-path::/tmp" in shown


def test_inputs_that_a_command_has_no_use_for_are_named() -> None:
    given = {"command": "build", "bucket": "s3://b", "config": "x", "secret-access-key": "s", "signing-key": KEY}
    assert inputs.unused(given) == ["bucket", "secret-access-key"]
    assert inputs.unused(given | {"command": "push"}) == ["config"]


def test_the_working_directory_is_in_the_workspace(tmp_path: Path) -> None:
    top = tmp_path / "workspace"
    (top / "apps/shop").mkdir(parents=True)
    (top / "out").symlink_to("/")
    env = {"GITHUB_WORKSPACE": str(top)}
    for wanted in ("", "apps/shop", "apps/../apps"):
        assert inputs.workspace({"working-directory": wanted} if wanted else {}, env) == top
    for outside in ("..", "/etc", "out/etc"):
        with pytest.raises(UsageError, match="expected a folder in the workspace"):
            inputs.workspace({"working-directory": outside}, env)
    with pytest.raises(UsageError, match="there is no folder 'nowhere'") as caught:
        inputs.workspace({"working-directory": "nowhere"}, env)
    assert "actions/checkout" in caught.value.hint
    (top / "circle").symlink_to("circle")
    for none in ("circle", "x" * 70_000):
        with pytest.raises(UsageError, match="there is no folder") as caught:
            inputs.workspace({"working-directory": none}, env)
        assert len(caught.value.message) < 300


@pytest.mark.parametrize(("command", "made"), [("run", "packages"), ("build", "packages"), ("generate", "aport")])
def test_what_is_made_stays_in_the_workspace(tmp_path: Path, command: str, made: str) -> None:
    top = tmp_path / "workspace"
    (top / "app").mkdir(parents=True)
    (top / "out").mkdir()
    env = {"GITHUB_WORKSPACE": str(top)}
    given = {"command": command, "working-directory": "app"}
    (top / "app" / made).symlink_to("../out")
    assert inputs.workspace(given, env) == top
    (top / "app" / made).unlink()
    (top / "app" / made).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=f"{made} is a link that leads out of the workspace") as caught:
        inputs.workspace(given, env)
    assert f"take {made} out of the repository" in caught.value.hint
    assert inputs.workspace(given | {"command": "validate"}, env) == top
