"""What git says about the work tree that a directory is in.

Another user may own the work tree (a container sees the runner's), and what it configures is not to be trusted: only
plumbing is asked, nothing of the caller's environment but PATH gets through, and every setting that names a program
is overridden. Sources: git-config(1) (safe.directory, core.fsmonitor, safe.bareRepository), git(1) (environment).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pakman import command
from pakman.errors import UsageError

_SETTINGS = (
    "safe.directory=*",
    "safe.bareRepository=explicit",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
)
_LAST_SECOND = 253402300799
"""9999-12-31T23:59:59Z: a clock that was set wrong may have put anything into a commit."""


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit's full SHA, and when it was committed (seconds since 1970, UTC)."""

    sha: str
    time: int


def is_installed(env: Mapping[str, str]) -> bool:
    """Say whether there is a git to ask."""
    return command.which("git", env) is not None


def find(directory: Path, env: Mapping[str, str]) -> Checkout | None:
    """Return the work tree that a directory is in; None where it is in none, or where there is no git.

    Raises UsageError where there is one that git cannot read.
    """
    program = command.which("git", env)
    if program is None:
        return None
    path = {"PATH": env["PATH"]} if "PATH" in env else {}
    started = Checkout(directory, program, path)
    done = started.ask("rev-parse", "--show-toplevel")
    if done.status == 0:
        return Checkout(Path(_line(done)), program, path)
    reason = done.stderr.decode("utf-8", "replace").strip().removeprefix("fatal: ")
    # "(or any of the parent directories)", "(or any parent up to mount point /)": there is none. Without those words
    # there is one, but what its .git names is gone: a worktree or a submodule copied without its repository.
    if reason.startswith("not a git repository (or any"):
        return None
    raise UsageError(
        f"git cannot read the repository that {directory} is in: {reason}",
        hint="check out the whole repository, or build from a copy of the files without .git and give --project",
    )


@dataclass(frozen=True, slots=True)
class Checkout:
    """A work tree: its top directory, and how to ask git about it."""

    root: Path
    program: str
    path: Mapping[str, str]
    """PATH, where there is one: git finds its own programs with it."""

    def ask(self, *arguments: str, stdin: bytes = b"") -> command.Completed:
        """Run one git command about this work tree."""
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        return command.capture(
            [self.program, "-C", str(self.root), *settings, *arguments],
            env={
                **self.path,
                "LC_ALL": "C",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_OPTIONAL_LOCKS": "0",
                # A partial clone must not fetch what it lacks.
                "GIT_NO_LAZY_FETCH": "1",
                "GIT_ALLOW_PROTOCOL": "none",
            },
            stdin=stdin,
        )

    def commit(self, name: str) -> Commit | None:
        """Return the commit that a name stands for; None where there is none, as before the first one."""
        done = self.ask("rev-list", "--max-count=1", "--timestamp", "--end-of-options", f"{name}^{{commit}}", "--")
        if done.status != 0:
            return None
        time, sha = _line(done).split()
        return Commit(sha, min(max(int(time), 0), _LAST_SECOND))

    def branch(self) -> str | None:
        """Return the full name of the branch that is checked out (`refs/heads/main`); None where HEAD is on none."""
        done = self.ask("symbolic-ref", "--quiet", "HEAD")
        return _line(done) if done.status == 0 else None

    def origin(self) -> str | None:
        """Return the URL of the remote `origin`; it may hold a credential."""
        done = self.ask("config", "--get", "remote.origin.url")
        return _line(done) if done.status == 0 else None

    def tags(self, commit: Commit) -> dict[str, str]:
        """Return the tags of a commit and of all before it: each one's name and the SHA that it tags."""
        # For an annotated tag the name is the ref's, not the one written inside, which `git describe` would give.
        layout = "--format=%(objectname) %(*objectname) %(refname:strip=2)"
        done = self.ask("for-each-ref", layout, f"--merged={commit.sha}", "refs/tags")
        lines = [line.split(" ", 2) for line in done.stdout.decode("utf-8", "replace").splitlines()]
        return {name: annotated or plain for plain, annotated, name in lines}

    def since(self, commit: Commit, released: Iterable[str]) -> tuple[int, set[str]]:
        """Return how many commits came after the released ones (SHAs), and which of these were the last.

        Last is what no other released one has behind it: one, or several where branches were merged.
        """
        released = set(released)
        revisions = "".join(f"^{sha}\n" for sha in sorted(released))
        done = self.ask("rev-list", "--boundary", "--stdin", stdin=f"{commit.sha}\n{revisions}".encode())
        lines = done.stdout.decode().split()
        edge = {line.removeprefix("-") for line in lines if line.startswith("-")}
        return len(lines) - len(edge), edge & released

    def changed(self, folder: Path) -> tuple[str, ...]:
        """Return the names, from the top directory on, of the tracked files below a folder that differ from HEAD.

        None where it is not to be known without running what the repository names: its own filters (Git LFS). Nor is
        a file named that goes through another's, which looks changed here. Source: gitattributes(5).
        """
        if self.ask("config", "--name-only", "--get-regexp", r"^filter\.").status != 1:
            return ()
        only = ("--untracked-files=no", "--ignore-submodules=all", "--no-renames")
        done = replace(self, root=folder).ask("status", "--porcelain=v1", "-z", *only, "--", ".")
        names = [entry[3:] for entry in done.stdout.split(b"\0") if entry] if done.status == 0 else []
        if not names:
            return ()
        answer = self.ask("check-attr", "-z", "--stdin", "filter", stdin=b"\0".join(names)).stdout.split(b"\0")
        filters = dict(zip(answer[::3], answer[2::3], strict=False))
        return tuple(
            name.decode("utf-8", "replace") for name in names if filters.get(name) in (b"unspecified", b"unset")
        )

    def is_shallow(self) -> bool:
        """Say whether history is cut off, as a default checkout on GitHub has it."""
        return _line(self.ask("rev-parse", "--is-shallow-repository")) == "true"


def _line(done: command.Completed) -> str:
    return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")
