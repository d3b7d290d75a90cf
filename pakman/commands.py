"""One function per command: what it reads, which story it tells, what it prints."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import arguments
from pakman.errors import ManifestError, PakmanError, SigningError, UsageError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.manifest import Manifest
    from pakman.problems import Problem
    from pakman.progress import Progress
    from pakman.project import Project
    from pakman.publish import Publication
    from pakman.repository import Repository
    from pakman.signing import SigningKey

Env = Mapping[str, str]


def run(argv: list[str], env: Env) -> int:
    """Parse `argv`, run the command it names, return the exit code; raises PakmanError."""
    parser = arguments.parser()
    args = parser.parse_args(argv, argparse.Namespace(argv=argv))
    if args.version:
        from pakman import __version__

        print(f"pakman {__version__}")
        return 0
    if args.command is None:
        parser.print_help()
        return 2 if argv else 0
    commands = {
        "validate": _validate,
        "generate": _generate,
        "build": _build,
        "push": _push,
        "run": _run,
        "inspect": _inspect,
        "keygen": _keygen,
        "stack": _stack,
    }
    _mask_secrets(env)
    _go_to(getattr(args, "working_directory", None))
    return commands[args.command](args, env)


def _go_to(directory: Path | None) -> None:
    """Change to --working-directory; raise UsageError where that, or the current folder, is not to be had."""
    try:
        os.getcwd()  # noqa: PTH109  (pathlib would be loaded for it)
    except FileNotFoundError as error:
        raise UsageError("the current folder is gone", hint="cd to where the application is") from error
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            raise UsageError(
                f"--working-directory is {str(directory)!r}, which is no folder to work in: {error.strerror}",
                hint="name the folder that holds instellar.yml",
            ) from error


_SECRETS = ("PAKMAN_SIGNING_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


def _mask_secrets(env: Env) -> None:
    """Tell a GitHub job's log what it must never show, before anything else is said."""
    if _in_github(env):
        from pakman import github

        for name in _SECRETS:
            for line in github.mask(env.get(name, "")):
                # On stderr, which the runner reads as well: stdout may be JSON for another program.
                print(line, file=sys.stderr, flush=True)


def report(error: PakmanError, argv: list[str], env: Env) -> None:
    """Print an error once, on stderr, with what to do about it; in a GitHub job as an annotation."""
    if _in_github(env):
        _annotate(error.message if not error.hint else f"{error.message}\n{error.hint}", argv)
        return
    print(f"pakman: error: {error.message}", file=sys.stderr)
    for line in error.hint.splitlines():
        print(f"  {line}", file=sys.stderr)


def _annotate(text: str, argv: list[str]) -> None:
    from pakman import github

    # Among the log's other lines, in their order; but stdout may be JSON for another program.
    wants_json = "json" in argv or "--format=json" in argv
    print(github.annotation("error", text, title="pakman"), file=sys.stderr if wants_json else None, flush=True)


def report_bug(error: Exception, argv: list[str], env: Env) -> int:
    """Print what to report about an exception that no user should ever see; return 1.

    The exception's text is left out: it may hold what the program was handling. Where it happened says enough.
    """
    import platform
    import traceback

    from pakman import __version__

    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in frames[-6:]]
    text = (
        f"this is a bug in pakman {__version__}: {type(error).__name__} (Python {platform.python_version()})\n"
        "please report it with these lines:\n  " + "\n  ".join(places)
    )
    if _in_github(env):
        _annotate(text, argv)
    else:
        print(f"pakman: {text}", file=sys.stderr)
    return 1


def _in_github(env: Env) -> bool:
    return env.get("GITHUB_ACTIONS") == "true"


def _validate(args: argparse.Namespace, env: Env) -> int:
    import gc

    # The input is bounded and the process ends with it: what little garbage there is need not be looked for.
    gc.disable()
    from pakman import problems, settings, validation

    # Not `manifest.read`: a verdict needs no dataclasses, and importing those takes as long as the checks.
    stacks = settings.read(args.file.parent).stacks
    verdict = validation.validate(args.file, repository=_repository(args, env), today=_today(), stacks=stacks)
    if args.format == "json":
        print(problems.json(verdict.problems))
    elif args.format == "github":
        from pakman import github

        print(github.annotations(_in_workspace(verdict.problems, args.file, env)), end="")
    elif verdict.problems:
        print(problems.text(verdict.problems, verdict.source))
    if args.format == "text":
        errors = sum(problem.severity == "error" for problem in verdict.problems)
        warnings = len(verdict.problems) - errors
        is_valid = "is valid" if verdict.valid else "is not valid"
        print(f"{args.file} {is_valid}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    return 0 if verdict.valid else ManifestError.exit_code


def _in_workspace(problems: Sequence[Problem], file: Path, env: Env) -> list[Problem]:
    """Name the file as annotations have to: relative to the top of the repository, wherever in it we are."""
    workspace = Path(env.get("GITHUB_WORKSPACE") or ".").resolve()
    # Not the file itself: where that is a link, the link is what the repository shows.
    place = file.parent.resolve() / file.name
    shown = str(place.relative_to(workspace) if place.is_relative_to(workspace) else file)
    return [problem._replace(file=shown) for problem in problems]


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _repository(args: argparse.Namespace, env: Env) -> str | None:
    # Only GITHUB_REPOSITORY and the flag: asking git would run a program for the sake of one warning.
    return (args.project or env.get("GITHUB_REPOSITORY") or "").rpartition("/")[2] or None


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _valid(args: argparse.Namespace, env: Env, progress: Progress) -> Manifest:
    """Return the manifest; raise ManifestError once its problems have been printed."""
    from pakman import manifest, problems, settings

    stacks = settings.read(args.file.parent).stacks
    reading = manifest.read(args.file, repository=_repository(args, env), today=_today(), stacks=stacks)
    if reading.problems:
        if _in_github(env):
            from pakman import github

            progress.say(github.annotations(_in_workspace(reading.problems, args.file, env)).rstrip("\n"))
        else:
            progress.say(problems.text(reading.problems, reading.source))
    if reading.manifest is None:
        raise ManifestError(
            f"{args.file} is not valid: {_count(sum(p.severity == 'error' for p in reading.problems), 'error')}",
            hint="each is listed above with its line and what to do",
        )
    if args.architectures is not None:
        import dataclasses

        return dataclasses.replace(reading.manifest, architectures=args.architectures)
    return reading.manifest


def _progress(env: Env, *, quiet_stdout: bool = False) -> Progress:
    from pakman.progress import Progress

    if _in_github(env):
        # The runner reads stderr as well: there, too, a child's line must not be taken for a command.
        return Progress(sys.stderr if quiet_stdout else sys.stdout, "github", time.monotonic)
    is_terminal = sys.stderr.isatty() and env.get("TERM", "dumb") != "dumb"
    return Progress(sys.stderr, "terminal" if is_terminal else "plain", time.monotonic)


def _project(args: argparse.Namespace, env: Env, progress: Progress) -> Project:
    from pakman import detection

    found = detection.detect(
        args.file.absolute().parent,
        env,
        project=args.project,
        package_version=args.package_version,
        package_release=args.package_release,
    )
    progress.say(f"{found.owner}/{found.name} {found.version}-r{found.release} ({found.version_source})")
    return found


def _generate(args: argparse.Namespace, env: Env) -> int:
    from pakman import generate

    progress = _progress(env)
    manifest = _valid(args, env, progress)
    project = _project(args, env, progress)
    recipe = generate.generate(manifest, project, args.file.absolute().parent, args.output)
    for name in sorted(file.name for file in recipe.files):
        print(args.output / name)
    print(args.output / recipe.snapshot)
    return 0


def _signing_key(
    args: argparse.Namespace, env: Env, project: Project, progress: Progress, *, ships: bool
) -> tuple[SigningKey, bool]:
    """Return the key to sign with, and whether it is a throwaway one; refuse that for what `ships`."""
    from pakman import signing

    name = signing.key_name(project.owner, project.name)
    if args.signing_key is not None:
        try:
            with args.signing_key.open("rb") as file:
                pem = file.read(_MOST_OF_A_KEY).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise SigningError(
                f"the signing key {args.signing_key} cannot be read: {_reason(error)}",
                hint="`pakman keygen` makes one; or put the key's text into PAKMAN_SIGNING_KEY",
            ) from error
        return signing.load(pem, name), False
    if env.get("PAKMAN_SIGNING_KEY"):
        return signing.load(env["PAKMAN_SIGNING_KEY"], name), False
    if ships:
        raise _no_key_to_keep()
    progress.notice(
        "signed with a throwaway key: machines that trust it today will not trust the next build; "
        "`pakman keygen` makes a key to keep, --signing-key or PAKMAN_SIGNING_KEY hands it over"
    )
    return signing.generate(name), True


_MOST_OF_A_KEY = 64 << 10
"""Bytes; a key of 16384 bits has 13 KB."""


def _no_key_to_keep() -> SigningError:
    # The bucket never overwrites a key: a throwaway one would keep its place from the key that comes after it.
    return SigningError(
        "pushing needs a signing key of your own: what a throwaway key signs, no machine can go on trusting",
        hint="run `pakman keygen` once, then build with --signing-key FILE or with PAKMAN_SIGNING_KEY set",
    )


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not text"


def _cache(args: argparse.Namespace, env: Env) -> Path:
    if args.cache_dir is not None:
        return Path(args.cache_dir).absolute()
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"]) / "pakman"
    return Path(env.get("HOME") or "/root") / ".cache" / "pakman"


def _built(args: argparse.Namespace, env: Env, progress: Progress, *, ships: bool = False) -> Repository:
    """Validate and build; what `ships` afterwards has to be signed by a key of the user's own."""
    from pakman import build, stack_commands

    manifest = _valid(args, env, progress)
    manifest, stack = stack_commands.stack_to_build_for(args, env, manifest, _today(), on_notice=progress.notice)
    project = _project(args, env, progress)
    key, is_throwaway = _signing_key(args, env, project, progress, ships=ships)
    return build.build(
        manifest,
        project,
        args.file.absolute().parent,
        args.output.absolute(),
        build_root=args.build_root,
        builder=args.builder,
        rootfs=args.rootfs,
        cache=_cache(args, env),
        key=key,
        stack=stack,
        progress=progress,
        keep=args.keep,
        env=env,
        signing_key_file=args.signing_key,
        is_throwaway_key=is_throwaway,
    )


def _become_root(argv: list[str], env: Env) -> None:
    """Begin again as root of a user namespace where we are not root; return where we are."""
    if os.geteuid() == 0:
        return
    from pakman import command
    from pakman.buildroots import unprivileged

    again = unprivileged.as_root_of_a_namespace([sys.executable, "-P", "-m", "pakman", *argv], env)
    command.replace(again, env=env)


def _build(args: argparse.Namespace, env: Env) -> int:
    _become_root(args.argv, env)
    progress = _progress(env, quiet_stdout=args.format == "json")
    repository = _built(args, env, progress)
    if args.format == "json":
        print(repository.to_json(), end="")
        return 0
    from pakman.progress import human_size

    for package in repository.packages:
        print(f"{args.output / repository.arch / package.path.name} ({human_size(package.size)})")
    return 0


def _bucket(args: argparse.Namespace, env: Env) -> Bucket:
    from pakman import bucket

    return bucket.open_bucket(
        args.bucket,
        prefix=args.prefix,
        endpoint_url=args.endpoint_url,
        region=args.region,
        addressing=args.addressing_style,
        public_url=args.public_url,
        env=env,
    )


def _pushed(repositories: tuple[Repository, ...], bucket: Bucket, progress: Progress, *, dry_run: bool) -> Publication:
    from pakman import publish

    with progress.phase(f"Push to {bucket.location}{' (dry run)' if dry_run else ''}"):
        publication = publish.publish(repositories, bucket, on_progress=progress.bar, dry_run=dry_run)
        if dry_run:
            for key in publication.uploaded:
                progress.say(f"would store {key}")
            for key in publication.skipped:
                progress.say(f"is there already: {key}")
    return publication


def _push(args: argparse.Namespace, env: Env) -> int:
    from pakman import outputs, repository

    repositories = repository.read(args.directory)
    if any(each.is_throwaway_key for each in repositories):
        raise _no_key_to_keep()
    publication = _pushed(
        repositories, _bucket(args, env), _progress(env, quiet_stdout=args.format == "json"), dry_run=args.dry_run
    )
    if args.format == "json":
        import json

        print(json.dumps(publication.as_json(), indent=2))
    else:
        print("\n".join(outputs.how_to_install(repositories[0], publication)))
    return 0


def _run(args: argparse.Namespace, env: Env) -> int:
    """Tell the whole story; whatever is true by then reaches the step's outputs and summary, also when it fails."""
    from contextlib import closing

    from pakman import outputs

    _become_root(args.argv, env)
    progress = _progress(env)
    results = outputs.Results(workspace=Path(env.get("GITHUB_WORKSPACE") or Path.cwd()))
    try:
        bucket = _bucket(args, env) if args.bucket is not None else None
        if bucket is not None:
            # Asked anything at all: a wrong bucket, or none of its credentials, is said before a long build.
            with closing(bucket):
                bucket.list(bucket.location.key("keys", "any"))
        repository = _built(args, env, progress, ships=bucket is not None)
        results.repository = repository
        if not repository.packages:
            pass  # the build has said why
        elif bucket is None:
            progress.notice(f"nothing was pushed: no --bucket was given; the packages are in {args.output}")
        else:
            results.publication = _pushed((repository,), bucket, progress, dry_run=args.dry_run)
            for line in outputs.how_to_install(repository, results.publication):
                print(line)
    except BaseException as error:
        results.error = error if isinstance(error, PakmanError) else PakmanError(_ended_early(error))
        try:
            results.write(env)
        except PakmanError as unwritten:
            progress.warning(unwritten.message)  # what went wrong first is what has to be mended first
        raise
    results.write(env)
    return 0


def _ended_early(error: BaseException) -> str:
    return "a bug of pakman's ended the run" if isinstance(error, Exception) else "the run was stopped before its end"


def _inspect(args: argparse.Namespace, env: Env) -> int:
    del env
    from pakman import inspect

    print(inspect.inspect(args.file, key=args.key, as_json=args.format == "json"))
    return 0


def _keygen(args: argparse.Namespace, env: Env) -> int:
    from pakman import detection, signing

    owner, name = detection.owner_and_name(Path.cwd(), env, project=args.project)
    private, public = signing.keygen(args.output, signing.key_name(owner, name))
    print(f"{private}  the secret: put its text into a secret named PAKMAN_SIGNING_KEY, keep a copy, never commit it")
    print(f"{public}  what machines trust: it goes into their /etc/apk/keys under exactly this name")
    return 0


def _stack(args: argparse.Namespace, env: Env) -> int:
    from pakman import stack_commands

    print(stack_commands.answer(args, env, _today()))
    return 0
