"""A workflow's inputs as a command line: what stands behind `with:` arrives as INPUT_* in the environment.

Source: the runner's Handler (INPUT_, the name in upper case, its hyphens kept; an input that is not given is empty) and
ContainerActionHandler (the host's PATH, HOME and paths come along, whether they are in the container or not).
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from pathlib import Path

from pakman import arguments, command, github
from pakman.errors import UsageError

COMMANDS = ("run", "validate", "generate", "build", "push", "release", "deploy")

SECRETS = {
    "signing-key": "PAKMAN_SIGNING_KEY",
    "previous-signing-key": "PAKMAN_PREVIOUS_SIGNING_KEY",
    "access-key-id": "AWS_ACCESS_KEY_ID",
    "secret-access-key": "AWS_SECRET_ACCESS_KEY",
    "session-token": "AWS_SESSION_TOKEN",
    "instellar-package-token": "INSTELLAR_PACKAGE_TOKEN",
    "instellar-auth-token": "INSTELLAR_AUTH_TOKEN",
    "notify-secret": "PAKMAN_NOTIFY_SECRET",
}
"""The inputs that are no flags but variables of the environment, which no other process sees."""

_USERS = {
    **dict.fromkeys(("PAKMAN_SIGNING_KEY", "PAKMAN_PREVIOUS_SIGNING_KEY"), ("run", "build", "push", "release")),
    "PAKMAN_NOTIFY_SECRET": ("release",),
    **dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"), ("run", "push", "release", "deploy")
    ),
    **dict.fromkeys(("INSTELLAR_PACKAGE_TOKEN", "INSTELLAR_AUTH_TOKEN"), ("run", "deploy")),
}
"""Which commands a secret is for; others are not told it."""

_WITHOUT_MANIFEST = ("push", "release")
"""The commands that read what was built, and not what it was built from."""

_OUTPUT = {"run": "packages", "build": "packages", "generate": "aport"}
"""Where a command leaves what it makes, below the working directory."""

_SHOWN = 200
"""Characters of a value that fit into a sentence."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_FOREIGN = re.compile(
    r"INPUT_.*|ACTIONS_.*|GITHUB_TOKEN|GH_TOKEN|TMPDIR|TMP|TEMP|XDG_.*|PYTHON.*|LD_.*|GIT_.*|BASH_ENV|ENV|IFS"
)
"""The job's variables that name what is not in the container, or that are nothing to us: the runner's tokens."""

_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


def given(env: Mapping[str, str]) -> dict[str, str]:
    """Return the inputs that were given, by name, without white space around them; an empty one was not given."""
    inputs = {name[6:].lower(): value.strip() for name, value in env.items() if name.startswith("INPUT_")}
    return {name: value for name, value in inputs.items() if value}


def command_line(inputs: Mapping[str, str]) -> list[str]:
    """Return the arguments for `pakman.cli.main`; no secret is among them. Raises UsageError for a bad value."""
    chosen = inputs.get("command", COMMANDS[0])
    if chosen not in COMMANDS:
        raise UsageError(f"the input command: expected one of {', '.join(COMMANDS)}, but got {chosen!r}")
    words = [chosen]
    if chosen == "validate":
        words.append("--format=github")
    if chosen == "push":
        words.append(_OUTPUT["run"])
    elif "config" in inputs and chosen not in _WITHOUT_MANIFEST:
        # No file's name becomes a flag.
        words.append(f"./{inputs['config']}" if inputs["config"].startswith("-") else inputs["config"])
    if chosen in _OUTPUT:
        words.append(f"--output={_OUTPUT[chosen]}")
    known = arguments.flags(chosen)
    for flag, takes_value in _flags(chosen).items():
        if flag in inputs and takes_value:
            words.append(f"--{flag}={inputs[flag]}")
        elif flag in inputs and _is_true(flag, inputs[flag]):
            words.append(f"--{flag}")
        elif flag in inputs and f"no-{flag}" in known:
            words.append(f"--no-{flag}")
    _check(words)
    return words


def _check(words: list[str]) -> None:
    """Raise UsageError for what the command line refuses, in the words of a workflow."""
    try:
        arguments.parser(words[0]).parse_args(words)
    except UsageError as error:
        message = re.sub(r"^(?:argument )?--(?=[a-z-]+: )", "the input ", error.message)
        if "the following arguments are required: " in message:
            message = message.replace("the following arguments are required", "an input is missing").replace("--", "")
        hint = "look at the step's `with:`" if message != error.message and "--help" in error.hint else error.hint
        raise UsageError(message, hint=hint) from error


def unused(inputs: Mapping[str, str]) -> list[str]:
    """Return the names of inputs that the command has no use for: a workflow may give the same to several."""
    chosen = inputs.get("command", COMMANDS[0])
    used = {"command", *([] if chosen in _WITHOUT_MANIFEST else ["config"]), *_flags(chosen)}
    used |= {name for name, variable in SECRETS.items() if chosen in _USERS[variable]}
    return sorted(set(inputs) - used)


def environment(env: Mapping[str, str], *, home: str) -> dict[str, str]:
    """Return the environment for `pakman.cli.main`: secrets under their usual names, PATH and HOME repaired.

    A job may have changed PATH for itself, and its HOME is every container's; neither is for a program in this one.
    """
    inputs = given(env)
    kept = {name: value for name, value in env.items() if not _FOREIGN.fullmatch(name)}
    if "access-key-id" in inputs or "secret-access-key" in inputs:
        # One pair of keys, and what belongs to it: not half of what an earlier step has left in the job.
        for name in SECRETS.values():
            if name.startswith("AWS_"):
                kept.pop(name, None)
    kept |= {variable: inputs[name] for name, variable in SECRETS.items() if name in inputs}
    chosen = inputs.get("command", COMMANDS[0])
    for variable, commands in _USERS.items():
        if chosen not in commands:
            kept.pop(variable, None)
    return {**kept, "PATH": _PATH, "HOME": home}


def workspace(inputs: Mapping[str, str], env: Mapping[str, str]) -> Path:
    """Return the workspace, where `working-directory` starts from; raise UsageError where that leads out of it.

    Nor does the folder for what is made: what root leaves elsewhere, it leaves for good.
    """
    top = Path(env.get("GITHUB_WORKSPACE") or ".").resolve()
    wanted = inputs.get("working-directory", ".")
    # os.path has an answer for every text: no name is too long for it, and no links lead it in a circle.
    directory = Path(os.path.realpath(top / wanted))
    named = repr(wanted[:_SHOWN])
    if not directory.is_relative_to(top):
        raise UsageError(
            f"the input working-directory: expected a folder in the workspace (e.g. apps/shop), but got {named}",
            hint="write it relative to the top of what was checked out",
        )
    if not os.path.isdir(directory):  # noqa: PTH112  (see above)
        raise UsageError(
            f"the input working-directory: there is no folder {named} in the workspace",
            hint="does the job have a step with actions/checkout before this one?",
        )
    made = _OUTPUT.get(inputs.get("command", COMMANDS[0]), "")
    if not Path(os.path.realpath(directory / made)).is_relative_to(top):
        raise UsageError(
            f"{made} is a link that leads out of the workspace, and what is made goes there",
            hint=f"take {made} out of the repository",
        )
    return top


def output(inputs: Mapping[str, str], env: Mapping[str, str]) -> Path:
    """Return the directory that the packages are left in; raises UsageError as `workspace` does."""
    return workspace(inputs, env) / inputs.get("working-directory", ".") / _OUTPUT["run"]


def masks(env: Mapping[str, str]) -> str:
    """Return the workflow commands that hide a job's secrets in its log, a line each, whichever command they are for.

    `env` is the job's own: secrets are in its inputs or under their usual names. An access key's id is no secret by
    itself, and it may be a word: GitHub drops every output that holds a masked one.
    """
    inputs = given(env)
    names = [(name, variable) for name, variable in SECRETS.items() if name != "access-key-id"]
    secrets = [found for name, variable in names for found in (inputs.get(name), env.get(variable)) if found]
    lines = dict.fromkeys(line for secret in secrets for line in github.mask(secret))
    return "".join(f"{line}\n" for line in lines)


def shown(argv: list[str]) -> str:
    """Return the command line for the job's log: as one types it, no password in an address, no workflow command."""
    line = command.shown(["pakman", *argv])
    # Where a colon or a slash is missing, it is a password all the same; and it may have slashes of its own.
    return github.neutralise(re.sub(r"((?:[a-z]+:)?//)\S*@|[^\s=/]+:\S*@", r"\1…@", line))


def _flags(command: str) -> dict[str, bool]:
    """Return which inputs are flags of a command, and whether they take a value.

    --signing-key and --previous-signing-key are none of them: they name a file, and the input is the key itself.
    """
    found = arguments.flags(command)
    return {flag: found[flag] for flag in NAMES if flag in found and flag not in SECRETS}


def _is_true(name: str, value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise UsageError(f"the input {name}: expected true or false, but got {value!r}")
    return value in _TRUE


NAMES = (
    "command", "config", "working-directory", "stack", "package-version", "package-release", "project", "architectures",
    "signing-key", "previous-signing-key", "bucket", "prefix", "channel", "endpoint-url", "region", "access-key-id",
    "secret-access-key", "session-token", "addressing-style", "public-url", "concurrency", "instellar-endpoint",
    "instellar-package-token", "instellar-auth-token", "ref", "sha", "expect", "notify-url", "notify-secret",
    "build-root", "builder", "test", "run-root", "cache-dir", "dry-run", "log-level",
)  # fmt: skip
"""All inputs, in the order of action.yml."""
