"""The package test, told in one function: a clean root, and the package's life in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pakman import names, service
from pakman.buildroots.choice import is_release_of
from pakman.checks import Check, Subject, install, own, remove, services, supplies, upgrade
from pakman.checks.supplies import Supplies
from pakman.errors import BuildError, PackageTestError, UsageError
from pakman.manifest import Manifest
from pakman.previous import Previous
from pakman.repository import Repository
from pakman.runroots import RootEndedError, RunRoot, UntestableError
from pakman.runroots.choice import Place
from pakman.stack import Stack
from pakman.test_report import Report


def test(
    subject: Subject,
    stack: Stack,
    find_place: Callable[[], Place],
    *,
    on_check: Callable[[Check], None],
    on_warning: Callable[[str], None],
) -> Report:
    """Install the package in a clean root, start, use, remove it; install an earlier one in another, upgrade, remove.

    `on_check` hears of each check when it is done, `on_warning` of a place that does not have what it takes, where
    another one has. What cannot be tested here is a check that was skipped, with the reason; raises UsageError where
    what was asked for cannot be, and BuildError where a root cannot be made.
    """
    done: list[Check] = []
    where = ""
    try:
        place, checks = _begun(subject, stack, find_place(), on_warning)
        # Known to be a place for tests by now.
        where = place.name
        for check in checks:
            done.append(check)
            on_check(check)
    except UntestableError as error:
        reason = f"not tested: {error.message}"
        done.append(Check("the package is tested", "skipped", reason=reason, lines=tuple(error.hint.splitlines())))
        on_check(done[-1])
    package = subject.package
    return Report(package.name, package.version, subject.repository.arch, stack.name, where, tuple(done))


def must_have_passed(report: Report) -> None:
    """Raise PackageTestError where a check failed."""
    failed = [check for check in report.checks if check.result == "failed"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise PackageTestError(
            f"{report.name} {report.version} fails its test: {failed[0].name}: {failed[0].reason}{more}",
            hint="the log has each failed check, with the lines that were written",
        )


def must_be_built_from(repository: Repository, manifest: Manifest, file: Path) -> None:
    """Raise UsageError where a manifest, which is in `file`, is another package's: what it promises is not in here."""
    found = {package.name for package in repository.packages}
    name = (manifest.run.name if manifest.run is not None else None) or repository.slug
    has_service = service.has_service(manifest)
    if name not in found:
        reason = f"it has {', '.join(sorted(found))}, and that is the manifest of {name}"
    elif has_service and f"{name}-openrc" not in found:
        reason = "it has no service, and the manifest has"
    elif not has_service and manifest.package is None and f"{name}-openrc" in found:
        reason = "it has a service, and the manifest has none"
    else:
        return
    raise UsageError(
        f"{repository.directory} was not built from {file}: {reason}",
        hint="give the manifest that it was built from (--config), or build it again",
    )


def must_be_whole(repository: Repository) -> None:
    """Raise UsageError where a file is gone that a build has left."""
    for file in (*(package.path for package in repository.packages), repository.index, repository.public_key):
        if not file.is_file():
            raise UsageError(f"{file} is missing", hint="run `pakman build` again, into an empty directory")


def of_this_machine(repositories: tuple[Repository, ...], machine: str) -> Repository | None:
    """Return the repository whose packages run here; `machine` is the kernel's name of the architecture."""
    arch = names.ARCHITECTURES_ELSEWHERE.get(machine, machine)
    return next((each for each in repositories if each.arch == arch and each.packages), None)


def _begun(
    subject: Subject, stack: Stack, place: Place, on_warning: Callable[[str], None]
) -> tuple[Place, Iterator[Check]]:
    """Return where the test runs, which is known with its first check, and all of its checks."""
    try:
        checks = _lives(subject, stack, place)
        return place, chain([next(checks)], checks)
    except UntestableError as error:
        other = place.otherwise
        if other is None or not _is_enough(other, subject, stack):
            raise
        on_warning(f"{error.message}: the test runs in {other.name} instead")
    return _begun(subject, stack, other, on_warning)


def _is_enough(place: Place, subject: Subject, stack: Stack) -> bool:
    """Say whether a test can run there without any repository."""
    try:
        with place.run_root() as root:
            _must_be_the_stack_s(root, stack, subject)
            return supplies.is_had(root, subject)
    except (UntestableError, UsageError, BuildError):
        return False


def _lives(subject: Subject, stack: Stack, place: Place) -> Iterator[Check]:
    with ExitStack() as supplied:
        with place.run_root() as root:
            _must_be_the_stack_s(root, stack, subject)
            found = yield from supplies.found(place, root, subject)
            if found is None:
                return
            supplied.callback(found.close)
            life = yield from _first_life(root, subject, found)
        if subject.previous is not None and life.is_installed:
            with place.run_root() as root:
                yield from _second_life(root, subject, subject.previous, found, runs=life.is_running)


class _Life(NamedTuple):
    """What a package has come to."""

    is_installed: bool = False
    is_running: bool = False


def _first_life(root: RunRoot, subject: Subject, found: Supplies) -> Generator[Check, None, _Life]:
    """Installed where it never was before."""
    life = _Life()
    try:
        if not (yield from supplies.brought(root, subject, found)):
            return life
        root.run(_before(subject), install.SECONDS)
        if not (yield from install.installed(root, subject)):
            return life
        life = _Life(is_installed=True)
        life = _Life(is_installed=True, is_running=(yield from services.all_run(root, subject)))
        yield from services.commands_run(root, subject)
        if found.own_test is not None:
            yield found.own_test
        else:
            yield from own.passes(root, subject, runs=life.is_running)
        yield remove.removed(root, subject, "")
    except RootEndedError as error:
        yield Check("the root survives what the package does", "failed", reason=error.message)
    return life


def _second_life(
    root: RunRoot, subject: Subject, previous: Previous, found: Supplies, *, runs: bool
) -> Iterator[Check]:
    """Installed over an earlier version of itself, with its service running where that `runs`."""
    try:
        # They were installed once before, which has been said.
        again = [check for check in supplies.brought(root, subject, found) if check.result != "passed"]
        if again:
            yield from again
            return
        root.run(_before(subject), install.SECONDS)
        if (yield from upgrade.upgraded(root, subject, previous, runs=runs)):
            yield remove.removed(root, subject, "after the upgrade")
    except RootEndedError as error:
        yield Check("the root survives the upgrade", "failed", reason=error.message)


def _before(subject: Subject) -> str:
    """Return the script for a machine to which the package comes: an administrator's settings, what there is."""
    return f"{services.environment(subject)}\n{remove.NOTED}"


def _must_be_the_stack_s(root: RunRoot, stack: Stack, subject: Subject) -> None:
    if not is_release_of(root.release, stack):
        raise UntestableError(
            f"the package is for {stack.name}, and the run root is Alpine {root.release}",
            hint=f"have a Docker engine run, or give --rootfs an Alpine {stack.version} minirootfs",
        )
    if root.arch != subject.repository.arch:
        raise UsageError(
            f"the packages are for {subject.repository.arch}, and the run root is {root.arch}",
            hint="test them on a machine of their architecture",
        )
