"""A release's tags: where scripts/release-tags leaves them, in a real repository with a real remote."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_documents import TOP

pytestmark = pytest.mark.git

IMAGE = f"ghcr.io/acme/pakman@sha256:{'0123456789abcdef' * 4}"
OTHER = f"ghcr.io/acme/pakman@sha256:{'f' * 64}"


@dataclass
class Work:
    """A clone whose `origin` is a bare repository beside it."""

    path: Path
    origin: Path

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "A",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "C",
            "GIT_COMMITTER_EMAIL": "c@example.org",
        }
        return subprocess.run(argv, cwd=self.path, env=env, check=False, capture_output=True, text=True)

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def tag(self, name: str, *options: str) -> str:
        """Make a commit, tag it, push both, and return the commit."""
        (self.path / "version").write_text(name)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", name)
        self.git("tag", *options, name)
        self.git("push", "--quiet", "origin", "main", name)
        return self.git("rev-parse", "HEAD")

    def release(self, tag: str, commit: str, image: str = IMAGE) -> subprocess.CompletedProcess[str]:
        return self.run("scripts/release-tags", tag, commit, image)

    def released(self, tag: str) -> None:
        done = self.release(tag, self.tag(tag))
        assert done.returncode == 0, done.stderr

    def there(self) -> dict[str, str]:
        """Return the commit of each tag and branch at the origin."""
        found: dict[str, str] = {}
        for line in self.git("ls-remote", "origin", "refs/heads/*", "refs/tags/*").splitlines():
            commit, name = line.split("\t")
            # An annotated tag's commit is listed after the tag itself.
            found[name.split("/", 2)[2].removesuffix("^{}")] = commit
        return found


@pytest.fixture
def work(tmp_path: Path) -> Work:
    made = Work(tmp_path / "clone", tmp_path / "origin.git")
    (made.path / "scripts").mkdir(parents=True)
    for name in ("pin-action", "release-tags"):
        shutil.copy(TOP / "scripts" / name, made.path / "scripts" / name)
    shutil.copy(TOP / "action.yml", made.path / "action.yml")
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("init", "--quiet", "--bare", str(made.origin))
    made.git("remote", "add", "origin", str(made.origin))
    return made


@pytest.mark.parametrize("options", [(), ("--annotate", "--message=A release")], ids=["lightweight", "annotated"])
def test_a_release_is_a_child_of_its_commit_that_names_the_image(work: Work, options: tuple[str, ...]) -> None:
    commit = work.tag("v1.2.3", *options)
    done = work.release("v1.2.3", commit)
    assert done.returncode == 0, done.stderr
    there = work.there()
    pinned = there["v1.2.3"]
    assert there == {"main": commit, "v1.2.3": pinned, "v1.2": pinned, "v1": pinned}
    assert done.stdout.splitlines() == [f"{tag} {pinned}" for tag in ("v1.2.3", "v1.2", "v1")]
    work.git("fetch", "--quiet", "--force", "--tags")
    assert work.git("rev-parse", "v1^") == commit
    changed = [line for line in work.git("diff", "--unified=0", commit, "v1").splitlines() if line[:2] in ("- ", "+ ")]
    assert changed == ["-  image: Dockerfile", f"+  image: docker://{IMAGE}"]
    assert work.git("status", "--porcelain") == ""


def test_a_release_that_is_made_again_finds_its_work_done(work: Work) -> None:
    commit = work.tag("v1.2.3")
    first = work.release("v1.2.3", commit)
    there = work.there()
    # Another time, another author, and a tag of the line that was lost.
    work.git("push", "--quiet", "--delete", "origin", "v1")
    again = work.release("v1.2.3", commit)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert work.there() == there


def test_the_lines_follow_their_newest_version_only(work: Work) -> None:
    for tag in ("v1.9.0", "v1.10.0", "v2.0.0", "v1.9.1"):
        work.released(tag)
    there = work.there()
    assert there["v1.9"] == there["v1.9.1"]
    assert there["v1"] == there["v1.10"] == there["v1.10.0"]
    assert there["v2"] == there["v2.0"] == there["v2.0.0"]
    assert len({there["v1.9.1"], there["v1.10.0"], there["v2.0.0"]}) == 3


def test_a_release_does_not_change(work: Work) -> None:
    commit = work.tag("v1.2.3")
    work.release("v1.2.3", commit)
    there = work.there()
    done = work.release("v1.2.3", commit, OTHER)
    assert done.returncode == 1
    assert "a release does not change, take the next version" in done.stderr
    assert work.there() == there


def test_a_tag_that_somebody_else_moved_stays_there(work: Work) -> None:
    first = work.tag("v1.2.3")
    work.git("tag", "--force", "v1.2.3", work.tag("v0.1.0"))
    work.git("push", "--quiet", "--force", "origin", "v1.2.3")
    there = work.there()
    done = work.release("v1.2.3", first)
    assert done.returncode == 1
    assert f"the tag v1.2.3 is at {there['v1.2.3']}" in done.stderr
    assert work.there() == there


def test_no_tag_moves_if_another_release_moves_one_meanwhile(work: Work) -> None:
    work.released("v1.2.2")
    commit = work.tag("v1.2.3")
    hook = work.path / ".git/hooks/pre-push"
    hook.write_text(f"#!/bin/sh\ngit -C {work.origin} update-ref refs/tags/v1 {commit}\n")
    hook.chmod(0o755)
    before = work.there()
    done = work.release("v1.2.3", commit)
    assert done.returncode != 0
    assert "refs/tags/v1" in done.stderr
    assert work.there() == {**before, "v1": commit}


def test_an_action_that_names_no_dockerfile_is_not_released(work: Work) -> None:
    (work.path / "action.yml").write_text("runs:\n  using: docker\n  image: docker://alpine\n")
    commit = work.tag("v1.2.3")
    done = work.release("v1.2.3", commit)
    assert done.returncode == 1
    assert "expected one line '  image: Dockerfile'" in done.stderr
    assert work.there() == {"main": commit, "v1.2.3": commit}


def test_a_tag_that_the_origin_lacks_is_no_release(work: Work) -> None:
    commit = work.tag("v1.2.3")
    work.git("push", "--quiet", "--delete", "origin", "v1.2.3")
    done = work.release("v1.2.4", commit)
    assert done.returncode == 1
    assert "there is no tag v1.2.4 at origin" in done.stderr


@pytest.mark.parametrize(
    ("tag", "commit", "image", "message"),
    [
        ("1.2.3", "HEAD", IMAGE, "expected a tag like v1.2.3, but got 1.2.3"),
        ("v1.2.3-rc.1", "HEAD", IMAGE, "expected a tag like v1.2.3, but got v1.2.3-rc.1"),
        ("v1.2", "HEAD", IMAGE, "expected a tag like v1.2.3, but got v1.2"),
        ("v1.2.3", "0" * 40, IMAGE, "there is no commit 0000"),
        ("v1.2.3", "HEAD", "ghcr.io/acme/pakman:1.2.3", "expected an image with its digest"),
        ("v1.2.3", "HEAD", f"{IMAGE}|w x", "expected an image with its digest"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_moves(work: Work, tag: str, commit: str, image: str, message: str) -> None:
    there = work.tag("v1.2.3")
    done = work.release(tag, commit, image)
    assert done.returncode == 2
    assert message in done.stderr
    assert work.there() == {"main": there, "v1.2.3": there}
