"""One function per command: what it reads, which story it tells, what it prints."""

from __future__ import annotations

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import arguments, reports
from pakman.errors import ManifestError, UsageError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.manifest import Manifest, Reading
    from pakman.outputs import Results
    from pakman.problems import Problem
    from pakman.progress import Level, Progress
    from pakman.project import Project
    from pakman.repository import Repository
    from pakman.validation import Verdict

Env = Mapping[str, str]


def run(given: Callable[[], list[str]], env: Env) -> int:
    """Parse the arguments that `given` returns, run the command they name, return the exit code; raises PakmanError.

    Whatever is true by then reaches a step's outputs and summary, also when the command fails.
    """
    if not (env.get("GITHUB_OUTPUT") or env.get("GITHUB_STEP_SUMMARY")):
        return _command(given(), env, None)
    from pakman import outputs

    results = outputs.Results(workspace=Path(env.get("GITHUB_WORKSPACE") or ".").resolve())
    with outputs.recorded(results, env, time.monotonic, lambda text: _warn(text, env)):
        return _command(given(), env, results)


def _command(argv: list[str], env: Env, results: Results | None) -> int:
    parser = arguments.parser(next(iter(argv), ""))
    args = parser.parse_args(argv, argparse.Namespace(argv=argv, results=results))
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
        "release": _release,
        "test": _test,
        "deploy": _deploy,
        "run": _run,
        "inspect": _inspect,
        "keygen": _keygen,
        "stack": _stack,
        "repository": _look_after,
    }
    reports.mask_secrets(env)
    _go_to(getattr(args, "working_directory", None))
    if _level(args, env) != "debug":
        return commands[args.command](args, env)
    from pakman import trace

    # A job shows GitHub's debug messages only where they are switched on for all of it.
    is_switched_on = reports.in_github(env) and env.get("RUNNER_DEBUG") == "1"
    is_json = getattr(args, "format", "") == "json"
    out = sys.stdout if reports.in_github(env) and not is_json else sys.stderr
    with trace.programs(out, as_command=is_switched_on):
        return commands[args.command](args, env)


def _level(args: argparse.Namespace, env: Env) -> Level:
    found: Level = getattr(args, "log_level", None) or ("debug" if env.get("RUNNER_DEBUG") == "1" else "info")
    return found


def results_for(args: argparse.Namespace) -> Results:
    """Return what takes the results; nobody reads it outside a job."""
    from pakman import outputs

    found: Results = args.results or outputs.Results(workspace=Path.cwd())
    return found


def _warn(text: str, env: Env) -> None:
    from pakman import github

    print(github.annotation("warning", text) if reports.in_github(env) else f"warning: {text}", file=sys.stderr)


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


def _validate(args: argparse.Namespace, env: Env) -> int:
    import gc

    # The input is bounded and the process ends with it: what little garbage there is need not be looked for.
    gc.disable()
    from pakman import problems, settings, validation

    # Not `manifest.read`: a verdict needs no dataclasses, and importing those takes as long as the checks.
    stacks = settings.read(args.file.parent).stacks
    repository = _repository(args, env)
    verdict = validation.validate(args.file, repository=repository, today=_today(), stacks=stacks)
    unanswered = None
    if args.online:
        try:
            verdict = _asked(verdict, args, env, repository)
        except UsageError as error:
            unanswered = error  # what is known without an answer is said first
    if args.format == "json":
        print(problems.json(verdict.problems))
    elif args.format == "github":
        from pakman import github

        print(github.annotations(in_workspace(verdict.problems, args.file, env)), end="")
    elif verdict.problems:
        print(problems.text(verdict.problems, verdict.source))
    if args.format == "text":
        errors = sum(problem.severity == "error" for problem in verdict.problems)
        warnings = len(verdict.problems) - errors
        is_valid = "is valid" if verdict.valid else "is not valid"
        print(f"{args.file} {is_valid}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if args.results is not None:
        args.results.problems = in_workspace(verdict.problems, args.file, env)
        args.results.headline = f"{args.file} is valid"
        args.results.error = None if verdict.valid else _not_valid(args.file, verdict.problems)
    if unanswered is not None:
        raise unanswered
    return 0 if verdict.valid else ManifestError.exit_code


def _asked(verdict: Verdict, args: argparse.Namespace, env: Env, repository: str | None) -> Verdict:
    """Return the verdict with what the repositories of the manifest's stack say of the dependencies."""
    from pakman import online, stack_commands

    said = verdict.root.text("stack") if verdict.root is not None else None
    wanted = stack_commands.stack_named(args, env, said.value if said is not None else None, _today())
    if wanted is None:
        return verdict  # it says already that there is no such stack
    return online.verdict(
        verdict,
        args.file,
        wanted,
        repository=repository,
        clock=time.monotonic,
        on_warning=lambda text: _warn(text, env),
    )


def _not_valid(file: Path, problems: Sequence[Problem]) -> ManifestError:
    errors = sum(problem.severity == "error" for problem in problems)
    return ManifestError(
        f"{file} is not valid: {_count(errors, 'error')}", hint="each is listed with its line and what to do"
    )


def in_workspace(problems: Sequence[Problem], file: Path, env: Env) -> list[Problem]:
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


def valid(args: argparse.Namespace, env: Env, progress: Progress) -> Reading:
    """Return the manifest as it was read; raise ManifestError once its problems have been printed."""
    from pakman import manifest, settings

    stacks = settings.read(args.file.parent).stacks
    reading = manifest.read(args.file, repository=_repository(args, env), today=_today(), stacks=stacks)
    if reading.problems:
        if args.results is not None:
            args.results.problems = in_workspace(reading.problems, args.file, env)
        show(reading.problems, reading.source, args.file, env, progress)
    if reading.manifest is None:
        raise _not_valid(args.file, reading.problems)
    return reading


def show(problems: Sequence[Problem], source: str, file: Path, env: Env, progress: Progress) -> None:
    """Say what is wrong in a manifest, each with its place; in a GitHub job as annotations."""
    if reports.in_github(env):
        from pakman import github

        progress.must_say(github.annotations(in_workspace(problems, file, env)).rstrip("\n"))
    else:
        from pakman.problems import text

        progress.must_say(text(problems, source))


def manifest_of(args: argparse.Namespace, reading: Reading) -> Manifest:
    """Return the manifest that was read, with --architectures in place of its own."""
    found = reading.manifest
    if found is None:
        raise ValueError("a manifest without problems has values")
    if args.architectures is not None:
        import dataclasses

        return dataclasses.replace(found, architectures=args.architectures)
    return found


def progress_for(args: argparse.Namespace, env: Env, *, quiet_stdout: bool = False) -> Progress:
    """Return what says how a command goes on; `quiet_stdout`: stdout is for another program."""
    from pakman.progress import Progress

    level = _level(args, env)
    if reports.in_github(env):
        # The runner reads stderr as well: there, too, a child's line must not be taken for a command.
        return Progress(sys.stderr if quiet_stdout else sys.stdout, "github", time.monotonic, level)
    is_terminal = sys.stderr.isatty() and env.get("TERM", "dumb") != "dumb"
    return Progress(sys.stderr, "terminal" if is_terminal else "plain", time.monotonic, level)


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
    if found.version_source == detection.SHALLOW:
        text = f"the version is {found.version} because the clone is shallow and hides the tags: " + _FETCH_ALL
        progress.warning(text)
        if args.results is not None:
            args.results.warnings.append(text)
    elif detection.is_same_for_every_commit(found):
        progress.notice(_SAME_FOR_ALL.format(f"{found.version}-r{found.release}"))
    return found


_FETCH_ALL = "give actions/checkout `fetch-depth: 0`, or say --package-version"
_SAME_FOR_ALL = (
    "without a tag every commit is {}, and no machine upgrades from one to the next: tag the commit (`git tag v1.0.0`) "
    "before it is built, or say --package-version"
)


def _generate(args: argparse.Namespace, env: Env) -> int:
    from pakman import generate

    progress = progress_for(args, env)
    manifest = manifest_of(args, valid(args, env, progress))
    project = _project(args, env, progress)
    recipe = generate.generate(manifest, project, args.file.absolute().parent, args.output)
    results_for(args).headline = f"{project.slug} {project.version}-r{project.release}: the recipe is in {args.output}"
    for name in sorted(file.name for file in recipe.files):
        print(args.output / name)
    print(args.output / recipe.snapshot)
    return 0


def refuse_before_asking(args: argparse.Namespace, env: Env, reading: Reading) -> None:
    """Raise UsageError or SigningError for a flag or a key that the build would refuse; nothing is asked of anybody."""
    from pakman import build, detection, key_commands, signing, stack_commands

    directory = args.file.absolute().parent
    build.refuse_places(directory, args.output.absolute(), cache(args, env))
    stack_commands.stack_to_build_for(args, env, manifest_of(args, reading), _today(), on_notice=lambda _: None)
    owner, name = detection.owner_and_name(directory, env, project=args.project)
    detection.refuse_version(args.package_version, args.package_release)
    key_commands.given(args, env, signing.key_name(owner, name))


def cache(args: argparse.Namespace, env: Env) -> Path:
    """Return the cache directory."""
    if args.cache_dir is not None:
        return Path(args.cache_dir).absolute()
    if env.get("XDG_CACHE_HOME"):
        return Path(env["XDG_CACHE_HOME"]) / "pakman"
    return Path(env.get("HOME") or "/root") / ".cache" / "pakman"


def built(
    args: argparse.Namespace, env: Env, progress: Progress, reading: Reading, *, bucket: Bucket | None = None
) -> Repository:
    """Build what a manifest says; what could not go into `bucket` afterwards is refused before the build."""
    from pakman import build, key_commands, signing, stack_commands

    manifest = manifest_of(args, reading)
    manifest, stack = stack_commands.stack_to_build_for(args, env, manifest, _today(), on_notice=progress.notice)
    project = _project(args, env, progress)
    _say_what_is_uncommitted(args, env, progress)
    if args.results is not None:
        from pakman import recipe

        args.results.name = recipe.package_name(manifest, project)
        args.results.version = f"{project.version}-r{project.release}"
        args.results.stack = stack.name
    if bucket is not None:
        from pakman import publish

        publish.refuse_without_commit(project.commit, str(args.file.absolute().parent))
    default_name = signing.key_name(project.owner, project.name)
    keys, is_throwaway = key_commands.to_sign_with(args, env, default_name, progress)
    if bucket is not None:
        for key in keys:
            publish.refuse_another_key(bucket, key.name, key.public_pem)
    return build.build(
        manifest,
        project,
        args.file.absolute().parent,
        args.output.absolute(),
        build_root=args.build_root,
        builder=args.builder,
        rootfs=args.rootfs,
        cache=cache(args, env),
        keys=keys,
        stack=stack,
        progress=progress,
        keep=args.keep,
        env=env,
        key_files=[file for file in (args.signing_key, args.previous_signing_key) if file is not None],
        is_throwaway_key=is_throwaway,
    )


def _say_what_is_uncommitted(args: argparse.Namespace, env: Env, progress: Progress) -> None:
    from pakman import detection
    from pakman.apk import tar

    changed = detection.uncommitted(args.file.absolute().parent, env)
    if changed:
        more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
        names = ", ".join(tar.printable(name) for name in changed[:_NAMED]) + more
        progress.notice(
            f"packed as it lies here, but not committed: {names}; commit before you push: "
            "what is pushed is filed under the commit, and stays what it was"
        )


_NAMED = 3
"""So many files are named in a sentence."""


def become_root(args: argparse.Namespace, env: Env) -> None:
    """Begin again as root of a user namespace where we are not root; return where we are."""
    if os.geteuid() == 0:
        return
    from pakman import command
    from pakman.buildroots import unprivileged

    # We are in the working directory by now.
    argv = args.argv if args.working_directory is None else [*args.argv, f"--working-directory={Path.cwd()}"]
    again = unprivileged.as_root_of_a_namespace([sys.executable, "-P", "-m", "pakman", *argv], env)
    command.replace(again, env=env)


def _build(args: argparse.Namespace, env: Env) -> int:
    become_root(args, env)
    progress = progress_for(args, env, quiet_stdout=args.format == "json")
    repository = built(args, env, progress, valid(args, env, progress))
    results_for(args).repositories = (repository,)
    if args.format == "json":
        print(repository.to_json(), end="")
        return 0
    from pakman.progress import human_size

    for package in repository.packages:
        print(f"{args.output / repository.arch / package.path.name} ({human_size(package.size)})")
    return 0


def _test(args: argparse.Namespace, env: Env) -> int:
    from pakman import test_commands

    return test_commands.answer(args, env)


def _push(args: argparse.Namespace, env: Env) -> int:
    from pakman import shipping

    return shipping.push(args, env)


def _release(args: argparse.Namespace, env: Env) -> int:
    from pakman import release_commands

    return release_commands.release(args, env)


def _deploy(args: argparse.Namespace, env: Env) -> int:
    from pakman import deploy_commands

    return deploy_commands.deploy(args, env)


def _run(args: argparse.Namespace, env: Env) -> int:
    from pakman import shipping

    return shipping.run(args, env)


def _inspect(args: argparse.Namespace, env: Env) -> int:
    del env
    from pakman import inspect

    print(inspect.inspect(args.file, key=args.key, as_json=args.format == "json"))
    return 0


def _keygen(args: argparse.Namespace, env: Env) -> int:
    from pakman import key_commands

    print(key_commands.keygen(args, env))
    return 0


def _stack(args: argparse.Namespace, env: Env) -> int:
    from pakman import stack_commands

    print(stack_commands.answer(args, env, _today()))
    return 0


def _look_after(args: argparse.Namespace, env: Env) -> int:
    from pakman import repository_commands

    return repository_commands.answer(args, env)
