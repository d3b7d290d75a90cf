"""The command line as argparse has it: every command, every flag, and the help that reads like documentation."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pakman import flag_groups
from pakman.parsers import CommandParser, Commands, Help, Parser, add_command

_DESCRIPTION = """\
One instellar.yml becomes signed Alpine packages in a bucket that apk reads as
a repository.

A first package, on any Linux machine:
  pakman validate                  is instellar.yml right? every problem at once
  pakman build                     build, sign and index it in an Alpine root
  pakman test                      install, start and remove it in a clean root

All of it in order, to an S3-compatible bucket, with a key of your own:
  pakman keygen                    once: OWNER-NAME.rsa (secret) and .rsa.pub
  pakman run --signing-key OWNER-NAME.rsa --bucket s3://my-bucket \\
    --endpoint-url https://s3.example.com
"""

_EPILOG = """\
exit codes:
  0 fine    1 a bug of pakman's    2 usage    3 the manifest    4 the build
  5 signing    6 the bucket    7 the deployment    8 the package test
  129 hung up    130 interrupted    141 nobody reads its output
  143 terminated

`pakman COMMAND --help` says more about each command.
"""

_NOTIFY_VARIABLE = """\
  PAKMAN_NOTIFY_SECRET    what --notify-url's receiver checks signatures with
"""

_DEPLOYMENT_VARIABLES = """\
  INSTELLAR_PACKAGE_TOKEN, INSTELLAR_AUTH_TOKEN
                          what the deployment service knows the package and its
                          publisher by; not flags, which others see
"""


def parser(first: str = "") -> argparse.ArgumentParser:
    """Return the parser for everything behind `pakman`, or for one command where the first word is its name.

    The flags of all the others take two milliseconds, and start-up time is a promise.
    """
    top = Parser(
        prog="pakman",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=Help,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print pakman's version and exit")
    commands = top.add_subparsers(
        prog="pakman", dest="command", metavar="COMMAND", title="commands", parser_class=CommandParser
    )
    known: dict[str, Callable[[Commands], None]] = {
        "validate": _validate,
        "generate": _generate,
        "build": _build,
        "test": _test,
        "push": _push,
        "release": _release,
        "deploy": _deploy,
        "run": _run,
        "inspect": _inspect,
        "keygen": _keygen,
        "stack": _stack,
        "repository": _repository,
    }
    for name, add in known.items():
        if first not in known or name == first:
            add(commands)
    return top


def _validate(commands: Commands) -> None:
    command = add_command(
        commands,
        "validate",
        "check instellar.yml and report every problem at once",
        "Check the manifest: every problem at once, each with its place, a stable code\nand what to do. "
        "Exit 3 where there is an error, 0 where there are only warnings.",
    )
    flag_groups.manifest_file(command)
    command.add_argument("--project", metavar="OWNER/NAME", help=flag_groups.PROJECT)
    command.add_argument(
        "--format",
        choices=("text", "json", "github"),
        default="text",
        help="text: the source line with a caret; json: a list of problems; github: annotations (default: text)",
    )
    command.add_argument(
        "--online",
        action="store_true",
        help="also ask the stack's repositories whether every dependency exists, and name the nearest where not",
    )
    flag_groups.mirror(command)
    flag_groups.everywhere(command)


def _generate(commands: Commands) -> None:
    command = add_command(
        commands,
        "generate",
        "write the APKBUILD and the service files",
        "Write what would be built: the APKBUILD, the service's scripts and the\n"
        "sources' tarball. The directory is a complete aport: where Alpine's own tools\n"
        "are, `abuild` builds it as it stands.",
    )
    flag_groups.manifest_file(command)
    command.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("aport"), help="where the files go (default: aport)"
    )
    flag_groups.project(command)
    flag_groups.everywhere(command)


def _build(commands: Commands) -> None:
    command = add_command(
        commands,
        "build",
        "build, sign and index the packages for this machine's architecture",
        "Build the application in an Alpine root of its own and leave a signed apk\n"
        "repository in DIR:\n"
        "  DIR/<arch>/*.apk           the packages\n"
        "  DIR/<arch>/APKINDEX.tar.gz what apk reads first\n"
        "  DIR/<arch>/packages.json   the same for other programs\n"
        "  DIR/OWNER-NAME.rsa.pub     the key that machines have to trust\n"
        "What an earlier build left there is replaced; nothing else in DIR is touched.",
        f"environment:\n{flag_groups.KEY_VARIABLES}",
    )
    flag_groups.manifest_file(command)
    flag_groups.output(command)
    flag_groups.project(command)
    flag_groups.build(command)
    command.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: print what was built as JSON (default: text)"
    )
    flag_groups.everywhere(command)


def _test(commands: Commands) -> None:
    command = add_command(
        commands,
        "test",
        "install, start, upgrade and remove the packages in a clean Alpine root",
        "Prove what `pakman build` left in DIR, in a clean Alpine root of its stack: apk\n"
        "installs it with nothing but its public key; its files, its user and its\n"
        "services are there, start, answer and stop; its commands run; an upgrade keeps\n"
        "the data; and apk removes all but that. One line per check. Exit 8 where one\n"
        "fails; what cannot be tested here is a warning.",
    )
    flag_groups.built(command)
    command.add_argument(
        "--config",
        dest="file",
        metavar="FILE",
        type=Path,
        default=Path("instellar.yml"),
        help="the manifest that it was built from (default: instellar.yml)",
    )
    command.add_argument("--project", metavar="OWNER/NAME", help=flag_groups.PROJECT)
    flag_groups.run_root(command)
    command.add_argument(
        "--previous",
        metavar="DIR|URL",
        help="what to upgrade from: what `pakman build` left in a directory, or the address of an apk repository "
        "(default: the same package, rebuilt under a lower version)",
    )
    command.add_argument("--junit", metavar="FILE", type=Path, help="also write the checks as a JUnit file")
    command.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: print the checks as JSON (default: text)"
    )
    flag_groups.everywhere(command)


def _push(commands: Commands) -> None:
    command = add_command(
        commands,
        "push",
        "ship a built repository to a bucket, index last",
        "Ship what `pakman build --signing-key` left in DIR. Packages go first, each\n"
        "verified on arrival; the index goes last. What is there already with the same\n"
        "bytes is skipped; what is there with other bytes is never overwritten. With\n"
        "--channel they also join a repository that keeps one address and grows: many\n"
        "may push into it at the same time.",
        f"environment:\n{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    flag_groups.built(command)
    flag_groups.bucket(command, required=True, has_channel=True)
    flag_groups.keys(command, "for --channel: the key of the packages (default: PAKMAN_SIGNING_KEY)")
    command.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: print what went where as JSON (default: text)"
    )
    flag_groups.everywhere(command)


def _release(commands: Commands) -> None:
    command = add_command(
        commands,
        "release",
        "make one release of what was pushed of a commit for all architectures",
        "Check what the jobs of a matrix have pushed of a commit, each for its own\n"
        "architecture, and make one release of it: an archive, with --channel a\n"
        "repository that grows, and last release.json, which says what is in it. Where\n"
        "an architecture is missing, nothing is stored (exit 6). Made again, a release\n"
        "changes nothing; one that was killed is finished. With --notify-url somebody is\n"
        "told: release.json by POST, signed, until it is taken (exit 7 where it is not).",
        f"environment:\n{_NOTIFY_VARIABLE}{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    command.add_argument(
        "--expect",
        metavar="LIST",
        type=flag_groups.expected,
        required=True,
        help="the architectures that have to be there, e.g. x86_64,aarch64 (required)",
    )
    command.add_argument("--sha", metavar="SHA", help="the commit to release (default: what is checked out)")
    command.add_argument("--project", metavar="OWNER/NAME", help=flag_groups.PROJECT)
    command.add_argument(
        "--notify-url",
        metavar="URL",
        help="where release.json is sent, https; it needs PAKMAN_NOTIFY_SECRET (default: nowhere)",
    )
    flag_groups.bucket(command, required=True, has_channel=True)
    flag_groups.keys(command, "for --channel: the key of the packages (default: PAKMAN_SIGNING_KEY)")
    command.add_argument(
        "--format", choices=("text", "json"), default="text", help="json: print release.json (default: text)"
    )
    flag_groups.everywhere(command)


def _deploy(commands: Commands) -> None:
    command = add_command(
        commands,
        "deploy",
        "tell the deployment service of a commit that was pushed",
        "Make an archive of what `pakman push` left in the bucket of a commit, for all\n"
        "architectures, and tell the deployment service (Instellar, OpsMaru) to run it,\n"
        "with the manifest's kits, sizes, plans and page. Of a commit that the service\n"
        "knows already nothing is shipped: the archive that it has is deployed again.",
        f"environment:\n{_DEPLOYMENT_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    flag_groups.manifest_file(command)
    command.add_argument("--project", metavar="OWNER/NAME", help=flag_groups.PROJECT)
    command.add_argument(
        "--stack", metavar="STACK", help="the Alpine version that the service launches (default: the manifest's)"
    )
    command.add_argument(
        "--architectures",
        metavar="LIST",
        type=flag_groups.architectures,
        help="what has to be in the bucket, e.g. x86_64,aarch64 (default: what the manifest says)",
    )
    flag_groups.deployment(command)
    flag_groups.bucket(command, required=False, without="without it, the service's own")
    flag_groups.everywhere(command)


def _run(commands: Commands) -> None:
    command = add_command(
        commands,
        "run",
        "all of it in order: validate, generate, build, test, push, deploy",
        "Validate, generate, build, test and push. With --bucket it needs a signing key\n"
        "of your own; without --bucket the packages stay in --output. A package that\n"
        "fails its test is not pushed (exit 8); what was pushed before is what the test\n"
        "upgrades from. With the two tokens of a deployment service it ends with `pakman\n"
        "deploy`, and without --bucket the packages go into the service's own. Writes\n"
        "step outputs and a summary where GITHUB_OUTPUT and GITHUB_STEP_SUMMARY are set.",
        f"environment:\n{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}{_DEPLOYMENT_VARIABLES}",
    )
    flag_groups.manifest_file(command)
    flag_groups.output(command)
    flag_groups.project(command)
    flag_groups.build(command)
    flag_groups.gate(command)
    flag_groups.bucket(command, required=False, has_channel=True)
    flag_groups.deployment(command)
    flag_groups.everywhere(command)


def _inspect(commands: Commands) -> None:
    command = add_command(
        commands,
        "inspect",
        "show a package: metadata, files, scripts, and who signed it",
        "Show what is in a package and check it: every file's checksum, the data's\n"
        "digest and, with --key, the signature. Exit 5 where the signature does not hold.",
    )
    command.add_argument("file", metavar="FILE.apk", type=Path, help="the package")
    command.add_argument("--key", metavar="FILE", type=Path, help="the public key that must have signed it")
    command.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")


def _keygen(commands: Commands) -> None:
    command = add_command(
        commands,
        "keygen",
        "make a signing key",
        "Make an RSA key pair: OWNER-NAME.rsa, which is the secret, and\n"
        "OWNER-NAME.rsa.pub, which machines trust. An existing key is never overwritten.\n"
        "With --rotate it is the key that follows those: OWNER-NAME-XXXXXXXX.rsa, whose\n"
        "text carries its own name, and what to do with it is said step by step.",
    )
    command.add_argument("--project", metavar="OWNER/NAME", help=flag_groups.PROJECT)
    command.add_argument(
        "--output", metavar="DIR", type=Path, default=Path(), help="where the two files go (default: this folder)"
    )
    command.add_argument("--rotate", action="store_true", help="make the key that follows, and say what to do with it")


def _stack(commands: Commands) -> None:
    from pakman import nested_arguments

    nested_arguments.stack(commands)


def _repository(commands: Commands) -> None:
    from pakman import nested_arguments

    nested_arguments.repository(commands)


def flags(command: str) -> dict[str, bool]:
    """Return the flags of a command without their dashes, and whether each takes a value."""
    commands: Any = next(action.choices for action in parser()._actions if action.dest == "command")
    options = commands[command]._option_string_actions
    return {flag[2:]: action.nargs != 0 for flag, action in options.items() if flag.startswith("--")}
