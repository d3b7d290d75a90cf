"""`pakman test`: which package, which manifest, where; and what is said of it."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import commands, previous, scratch, stack_commands, test
from pakman.apk.output import writing
from pakman.checks import Check, Subject
from pakman.errors import UsageError
from pakman.repository import Repository, read
from pakman.runroots import choice
from pakman.test_report import Report, text

if TYPE_CHECKING:
    from pakman.manifest import Reading
    from pakman.previous import Previous
    from pakman.progress import Progress
    from pakman.stack import Stack

Env = Mapping[str, str]


def answer(args: argparse.Namespace, env: Env) -> int:
    """Test what `pakman build` left in a directory."""
    if args.junit is not None and args.junit.is_dir():
        raise UsageError(f"--junit is {str(args.junit)!r}, which is a directory", hint="name a file in it")
    commands.become_root(args, env)
    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    repositories = read(args.directory)
    beside = args.directory.parent / args.file.name
    if not args.file.exists() and beside.is_file():
        raise UsageError(
            f"there is no manifest {args.file}", hint=f"is it the one beside the packages? --config {beside}"
        )
    reading = commands.valid(args, env, progress)
    repository = test.of_this_machine(repositories, os.uname().machine)
    if repository is None:
        archs = ", ".join(each.arch for each in repositories)
        progress.warning(f"nothing was tested: {args.directory} has packages for {archs}, and this is another machine")
        return 0
    if reading.manifest is not None:
        test.must_be_built_from(repository, reading.manifest, args.file)
    chosen = partial(previous.choose, repository, args.previous, clock=time.monotonic, on_warning=progress.warning)
    report = tested(args, env, progress, repository, reading, chosen)
    if args.format == "json":
        print(report.to_json())
    test.must_have_passed(report)
    return 0


def tested(
    args: argparse.Namespace,
    env: Env,
    progress: Progress,
    repository: Repository,
    reading: Reading,
    find_previous: Callable[[Path], Previous],
) -> Report:
    """Test a package and say all there is to say of it, as it happens; whether it may ship is the caller's to judge.

    `find_previous` puts an earlier version into a directory.
    """
    if reading.manifest is None:
        raise ValueError("the manifest is not valid")
    test.must_be_whole(repository)
    stack = stack_commands.stack_of(args, env, repository.stack)

    def on_check(check: Check) -> None:
        # Why one has not passed stands at its place in the manifest, once all are done.
        progress.say(text(check if check.result == "passed" else replace(check, reason="")))

    package = repository.packages[0]
    with (
        progress.phase(f"Test of {package.name} {package.version}"),
        _working_in(commands.cache(args, env)) as folder,
    ):
        subject = Subject(repository, reading.manifest, find_previous(folder))
        place = partial(_place, args, env, stack, progress)
        report = test.test(subject, stack, place, on_check=on_check, on_warning=progress.warning)
    problems = report.problems(args.file, reading.root)
    if problems:
        commands.show(problems, reading.source, args.file, env, progress)
    progress.must_say(report.sentence)
    if args.junit is not None:
        report.write_junit(args.junit)
    return report


@contextmanager
def _working_in(cache: Path) -> Iterator[Path]:
    """Yield a directory where there is room for a package; what a killed run has left there, the next one removes."""
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        work = scratch.make(cache, "previous-")
    try:
        yield work.path
    finally:
        work.remove()


def _place(args: argparse.Namespace, env: Env, stack: Stack, progress: Progress) -> choice.Place:
    return choice.place(
        args.run_root,
        stack,
        archive=args.rootfs,
        cache=commands.cache(args, env),
        env=env,
        on_warning=progress.warning,
    )
