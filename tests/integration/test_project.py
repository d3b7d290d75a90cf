"""What git says: tags, distances, times, remotes; and that nothing of the repository's is run."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pakman import cli, commands, detection, project, version
from pakman.errors import UsageError
from tests.integration.conftest import AlpineRoot
from tests.repositories import repository

pytestmark = pytest.mark.git

ENV = {"PATH": os.environ["PATH"]}
MANIFEST = "stack: alpine/3.23\nbuild:\n  destinations: [public]\n"
FIRST = 1706745599  # 2024-01-31T23:59:59Z


@dataclass
class Work:
    """A work tree whose commits are an hour apart, by a committer nine hours east of Greenwich."""

    path: Path
    commits: int = 0

    def git(self, *arguments: str, **env: str) -> str:
        date = f"{FIRST + 3600 * max(self.commits - 1, 0)} +0900"
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env={
                **ENV,
                "GIT_CONFIG_GLOBAL": "/dev/null",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_AUTHOR_NAME": "A",
                "GIT_AUTHOR_EMAIL": "a@example.org",
                "GIT_COMMITTER_NAME": "C",
                "GIT_COMMITTER_EMAIL": "c@example.org",
                "GIT_AUTHOR_DATE": "946684800 +0000",
                "GIT_COMMITTER_DATE": date,
                **env,
            },
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, *tags: str) -> str:
        self.commits += 1
        self.git("commit", "--quiet", "--allow-empty", "--message", f"Commit {self.commits}")
        for tag in tags:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD")

    def generate(self, output: Path, *flags: str) -> int:
        manifest = self.path / "instellar.yml"
        if not manifest.exists():
            manifest.write_text(MANIFEST)
        return cli.main(["generate", str(manifest), "--output", str(output), *flags])

    def detect(self, env: dict[str, str] | None = None, directory: Path | None = None) -> project.Project:
        return detection.detect(
            directory or self.path,
            {**ENV, **(env or {})},
            project=None,
            package_version=None,
            package_release=None,
        )


@pytest.fixture
def work(tmp_path: Path) -> Work:
    path = tmp_path / "My Shop"
    path.mkdir()
    made = Work(path)
    made.git("init", "--quiet", "--initial-branch=main")
    return made


def test_an_exact_tag_is_the_version(work: Work) -> None:
    work.commit("v1.2.2")
    sha = work.commit("v1.2.3")
    found = work.detect()
    assert (found.version, found.version_source) == ("1.2.3", "tag v1.2.3")
    assert (found.commit, found.commit_time, found.release) == (sha, FIRST + 3600, 0)


def test_an_annotated_tag_counts_as_a_plain_one_does(work: Work) -> None:
    work.commit()
    work.git("tag", "--annotate", "--message", "Release", "v1.2.3-rc.1")
    assert work.detect().version == "1.2.3_rc1"
    work.commit()
    assert work.detect().version == "1.2.3_rc1_git20240201005959"


def test_of_several_tags_the_highest_counts_and_the_others_are_no_trouble(work: Work) -> None:
    work.commit("latest", "v1", "v1.9.0", "v1.10.0", "v1.10.0-rc.1", "v1.10.0+build", "2024-01-31", "stable")
    assert work.detect().version == "1.10.0"
    work.commit("nightly")
    found = work.detect()
    assert (found.version, found.version_source) == ("1.10.0_git20240201005959", "1 commit after tag v1.10.0")


@pytest.mark.parametrize(
    ("tag", "following"), [("v1.2.3", "v1.2.4"), ("v1.2.3-rc.1", "v1.2.3-rc.2"), ("v2-rc", "v2-rc1")]
)
@pytest.mark.alpine
def test_apk_upgrades_from_tag_to_commit_to_commit_to_tag(
    work: Work, alpine_root: AlpineRoot, tag: str, following: str
) -> None:
    seen = []
    for name in (tag, None, None, following):
        work.commit(*([name] if name else []))
        seen.append(work.detect().version)
    assert len(set(seen)) == 4
    for older, newer in itertools.pairwise(seen):
        assert alpine_root.sh('apk version -t "$A" "$B"', A=older, B=newer) == "<\n"


def test_the_number_of_commits_is_said(work: Work) -> None:
    work.commit("shop-v0.1.0")
    for _ in range(3):
        work.commit()
    assert work.detect().version_source == "3 commits after tag shop-v0.1.0"


def test_the_nearest_tag_counts_not_the_highest(work: Work) -> None:
    work.commit("v2015.1")
    work.commit("v1.0.0")
    work.commit()
    assert work.detect().version.startswith("1.0.0_git")


def test_tags_of_another_branch_do_not_count(work: Work) -> None:
    work.commit("v1.0.0")
    work.git("switch", "--quiet", "--create", "next")
    work.commit("v2.0.0")
    work.git("switch", "--quiet", "main")
    work.commit()
    assert work.detect().version == "1.0.0_git20240201015959"
    work.git("merge", "--quiet", "--no-ff", "--message", "Merge", "next")
    assert work.detect().version.startswith("2.0.0_git")


def test_a_merged_fix_of_an_old_release_does_not_lower_the_version(work: Work) -> None:
    work.commit("v1.0.0")
    work.git("switch", "--quiet", "--create", "fixes")
    work.commit("v1.0.1")
    work.git("switch", "--quiet", "main")
    work.commit("v1.1.0")
    work.git("merge", "--quiet", "--no-ff", "--message", "Merge", "fixes")
    found = work.detect()
    assert (found.version, found.version_source) == ("1.1.0_git20240201015959", "1 commit after tag v1.1.0")


def test_many_other_tags_are_passed_over(work: Work) -> None:
    work.commit("v1.0.0")
    for number in range(12):
        work.commit(f"deployed-to-{number}")
    assert work.detect().version_source == "12 commits after tag v1.0.0"


def test_a_tag_here_that_cannot_be_mapped_is_refused_and_further_back_ignored(work: Work) -> None:
    work.commit("v1.0.0")
    work.commit("v1.1.0+build.7")
    with pytest.raises(UsageError, match=r"v1\.1\.0\+build\.7") as caught:
        work.detect()
    assert "--package-version 1.1.0" in caught.value.hint
    given = detection.detect(work.path, ENV, project=None, package_version="1.1.0", package_release=None)
    assert given.version == "1.1.0"
    work.commit()
    assert work.detect().version_source == "2 commits after tag v1.0.0"


def test_a_renamed_annotated_tag_has_its_new_name(work: Work) -> None:
    work.commit()
    work.git("tag", "--annotate", "--message", "Release", "v1.0.0")
    work.git("update-ref", "refs/tags/v1.5.0", work.git("rev-parse", "refs/tags/v1.0.0"))
    work.git("update-ref", "-d", "refs/tags/v1.0.0")
    work.commit()
    assert work.detect().version_source == "1 commit after tag v1.5.0"


def test_no_tag(work: Work) -> None:
    work.commit()
    assert (work.detect().version, work.detect().version_source) == ("0.0.0", "no tag")
    work.git("tag", "latest")
    assert work.detect().version_source == "no tag on the way to this commit is a version"


def test_no_commit_yet(work: Work) -> None:
    found = work.detect({"SOURCE_DATE_EPOCH": "5"})
    assert (found.commit, found.commit_time, found.version) == (None, 5, "0.0.0")
    assert found.version_source == "no tag: no commit yet"


@pytest.mark.parametrize(
    ("tag", "flags", "said"),
    [
        ([], [], True),
        (["v1.0.0"], [], False),
        ([], ["--package-version=1.0.0"], False),
        # As a workflow's run number does, it makes the next one newer.
        ([], ["--package-release=7"], False),
    ],
)
def test_a_version_that_every_commit_has_is_told(
    work: Work, tmp_path: Path, capsys: pytest.CaptureFixture[str], tag: list[str], flags: list[str], *, said: bool
) -> None:
    work.commit(*tag)
    assert work.generate(tmp_path / "aport", *flags) == 0
    assert ("notice: without a tag every commit is 0.0.0-r0" in capsys.readouterr().err) is said


def test_a_shallow_clone_says_why_there_is_no_tag(work: Work, tmp_path: Path) -> None:
    work.commit("v1.0.0")
    work.commit()
    clone = Work(tmp_path / "clone")
    work.git("clone", "--quiet", "--depth=1", "--no-tags", f"file://{work.path}", str(clone.path))
    found = clone.detect()
    assert (found.version, found.version_source) == ("0.0.0", "no tag: the clone is shallow; use fetch-depth: 0")
    clone.git("fetch", "--quiet", "--unshallow", "--tags")
    assert clone.detect().version_source == "1 commit after tag v1.0.0"


def test_a_shallow_clone_of_a_tag_has_its_version(work: Work, tmp_path: Path) -> None:
    work.commit()
    work.commit("v1.0.0")
    clone = Work(tmp_path / "clone")
    work.git("clone", "--quiet", "--depth=1", "--branch=v1.0.0", f"file://{work.path}", str(clone.path))
    assert clone.detect().version == "1.0.0"


@pytest.mark.parametrize("url", ["https://github.com/acme/web_shop.git", "git@github.com:acme/web_shop.git"])
def test_owner_and_name_are_the_remotes(work: Work, url: str) -> None:
    work.git("remote", "add", "origin", url)
    found = work.detect()
    assert (found.owner, found.name, found.slug) == ("acme", "web_shop", "web-shop")


def test_without_a_remote_it_is_local_and_named_like_its_directory(work: Work) -> None:
    assert (work.detect().owner, work.detect().name) == ("local", "My-Shop")
    work.git("remote", "add", "origin", "/srv/git/other.git")
    assert (work.detect().owner, work.detect().name) == ("local", "My-Shop")


def test_a_subdirectory_and_a_worktree_belong_to_the_repository(work: Work, tmp_path: Path) -> None:
    work.commit("v1.0.0")
    deep = work.path / "apps" / "web"
    deep.mkdir(parents=True)
    assert (work.detect(directory=deep).name, work.detect(directory=deep).version) == ("My-Shop", "1.0.0")
    work.git("worktree", "add", "--quiet", str(tmp_path / "tree"))
    assert work.detect(directory=tmp_path / "tree").version == "1.0.0"


def test_a_worktree_without_its_repository_is_said(work: Work, tmp_path: Path) -> None:
    work.commit()
    tree = tmp_path / "tree"
    work.git("worktree", "add", "--quiet", str(tree))
    shutil.rmtree(work.path)
    with pytest.raises(UsageError, match="git cannot read the repository") as caught:
        work.detect(directory=tree)
    assert "--project" in caught.value.hint


def test_what_is_checked_out_is_what_is_built(work: Work) -> None:
    sha = work.commit("v1.0.0")
    head = work.commit("v2.0.0")
    # On workflow_run, and where a step checks out another ref, GitHub's commit and tag are not those of the files.
    for started_by in (sha, "0" * 40):
        job = {"GITHUB_SHA": started_by, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.0.0"}
        found = work.detect(job)
        assert (found.commit, found.commit_time, found.version) == (head, FIRST + 3600, "2.0.0")
    work.git("tag", "--annotate", "--message=x", "latest")
    for sha in (head, work.git("rev-parse", "latest"), ""):
        found = work.detect({"GITHUB_SHA": sha, "GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v3.0.0"})
        assert (found.version, found.version_source) == ("3.0.0", "tag v3.0.0")


def test_no_repository_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is in no git repository"):
        Work(tmp_path).detect()
    assert Work(tmp_path).detect({"GITHUB_REPOSITORY": "acme/shop"}).version_source == "no tag: no git repository"


def test_git_is_not_led_elsewhere_by_the_environment(work: Work, tmp_path: Path) -> None:
    sha = work.commit("v1.0.0")
    other = tmp_path / "other"
    other.mkdir()
    Work(other).git("init", "--quiet")
    misleading = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / "index"),
        "GIT_CEILING_DIRECTORIES": str(work.path.parent),
        "GIT_CONFIG_COUNT": "nonsense",
        "GIT_TRACE": "1",
        "HOME": str(other),
    }
    assert work.detect(misleading).commit == sha


def test_somebody_elses_repository_is_read_and_nothing_of_it_is_run(work: Work, tmp_path: Path) -> None:
    sha = work.commit("v1.0.0")
    ran = tmp_path / "ran"
    trap = tmp_path / "trap"
    trap.write_text(f'#!/bin/sh\necho "$0 $*" >>"{ran}"\n')
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "gpg.program", "credential.helper", "core.editor"):
        work.git("config", key, str(trap))
    (work.path / ".gitattributes").write_text("* filter=trap\n")
    (work.path / "page").write_text("1")
    work.git("add", ".")
    sha = work.commit()
    work.git("tag", "--force", "v1.0.0")
    (work.path / "page").write_text("2")
    work.git("config", "filter.trap.clean", str(trap))
    work.git("config", "log.showSignature", "true")
    work.git("config", "core.hooksPath", str(tmp_path))
    for hook in ("post-index-change", "reference-transaction"):
        shutil.copy(trap, tmp_path / hook)
    work.git("status")
    assert ran.exists(), "the trap is one that git falls into"
    ran.unlink()
    if os.geteuid() == 0:
        for path in [work.path, *work.path.rglob("*")]:
            os.chown(path, 12345, 12345)
        with pytest.raises(subprocess.CalledProcessError):
            work.git("rev-parse", "HEAD")
    found = work.detect()
    assert (found.commit, found.version) == (sha, "1.0.0")
    assert detection.uncommitted(work.path, ENV) == ()
    assert not ran.exists()
    work.git("-c", "safe.directory=*", "config", "--remove-section", "filter.trap")
    (work.path / ".gitattributes").write_text("")
    assert detection.uncommitted(work.path, ENV) == (".gitattributes", "page")
    assert not ran.exists()


def test_what_is_not_committed_is_told_before_the_build(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "become_root", lambda _args, _env: None)
    app = work.path / "app"
    app.mkdir()
    (app / "instellar.yml").write_text(MANIFEST)
    for name in ("app/one.js", "app/tä \x1b.js", "app/three.js", "app/four.js", "other.js"):
        (work.path / name).write_text("1")
    work.git("add", ".")
    work.commit()
    (app / "made").write_text("git tracks it not")
    (work.path / "other.js").write_text("2")

    def said() -> str:
        nowhere = str(tmp_path / "nowhere.tar.gz")
        argv = ["build", str(app / "instellar.yml"), "--output", str(tmp_path / "packages")]
        assert cli.main([*argv, "--build-root=sandbox", "--rootfs", nowhere]) == 2
        return capsys.readouterr().err

    assert "not committed" not in said()
    os.utime(app / "one.js")
    assert "not committed" not in said(), "a file that was only touched is none that has changed"
    (app / "one.js").write_text("2")
    (app / "tä \x1b.js").unlink()
    assert "not committed: app/one.js, app/tä \\x1b.js; commit before you push" in said()
    (app / "three.js").write_text("2")
    (app / "four.js").write_text("2")
    work.git("add", ".")
    assert "app/four.js, app/made, app/one.js and 2 more; commit" in said()
    work.git("config", "filter.lfs.clean", "git-lfs clean -- %f")
    assert "not committed" not in said()


def test_a_push_of_an_earlier_commit_s_packages_is_told(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work.path)
    packages, server = tmp_path / "packages", "http://127.0.0.1:1"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")

    def said(built: str) -> str:
        repository(packages, {"notes": b"1"}, commit=built)
        # Refused before anything is asked: a channel's keys are looked at first.
        assert (
            cli.main(["push", str(packages), "--bucket=s3://bucket", f"--endpoint-url={server}", "--channel=edge"]) == 5
        )
        return capsys.readouterr().err

    first, second = work.commit(), work.commit()
    assert f"was built from commit {first}, and {second} is checked out" in said(first)
    assert "is checked out" not in said(second)
    assert "is checked out" not in said("0" * 40), "another project's"
    shutil.rmtree(work.path / ".git" / "refs")
    assert "is checked out" not in said(first), "git cannot read it, and nobody has to"


def test_what_a_filter_has_made_is_not_taken_for_a_change(work: Work) -> None:
    (work.path / ".gitattributes").write_text("*.png filter=lfs\n")
    for name in ("large.png", "small.js"):
        (work.path / name).write_text("1")
    work.git("add", ".")
    work.commit()
    for name in ("large.png", "small.js"):
        (work.path / name).write_text("what the filter has made of the pointer")
    assert detection.uncommitted(work.path, ENV) == ("small.js",)


def test_a_clock_that_was_wrong_is_no_trouble(work: Work) -> None:
    work.commit("v1.0.0")
    work.commits += 1
    work.git("commit", "--quiet", "--allow-empty", "--message", "Far", GIT_COMMITTER_DATE="@4102444800000 +0000")
    found = work.detect()
    assert version.is_valid_pkgver(found.version)
    assert found.version == "1.0.0_git99991231235959"


def test_a_thousand_tags_are_quick(work: Work) -> None:
    sha = work.commit("v1.0.0")
    (work.path / ".git/packed-refs").write_text(
        "# pack-refs with: peeled fully-peeled sorted\n"
        + "".join(sorted(f"{sha} refs/tags/build-{number}\n" for number in range(1000)))
    )
    work.commit()
    began = time.monotonic()
    assert work.detect().version_source == "1 commit after tag v1.0.0"
    assert time.monotonic() - began < 2
