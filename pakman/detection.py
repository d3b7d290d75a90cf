"""Find out about the project: whose repository is built, at which commit, as which version.

From the command line's flags, else from what GitHub Actions says (docs.github.com, "Default environment
variables"), else from git.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pakman import git, version
from pakman.errors import UsageError
from pakman.project import Project, slug

SHALLOW = "no tag: the clone is shallow; use fetch-depth: 0"
"""Where a version is from that the repository might know better."""

_NO_TAG = "no tag"
"""What the source of a version begins with where no tag says one."""

LOCAL_OWNER = "local"
"""The owner of a repository that has no origin on a server: what somebody tries out on a laptop."""


def detect(
    directory: Path,
    env: Mapping[str, str],
    *,
    project: str | None,
    package_version: str | None,
    package_release: str | None,
) -> Project:
    """Find out about the project in a directory; the last three are `--project` and so on, and they win.

    Raises UsageError where a value is not what it should be, and where nothing says whose project it is.
    """
    owner, name = owner_and_name(directory, env, project=project)
    checkout = git.find(directory, env)
    release = _release(package_release, env)
    sha = _sha(env)
    # What is checked out is what is built: a workflow may check out another commit than the one that started it, and
    # after workflow_run GitHub's is the default branch's.
    commit = checkout.commit("HEAD") if checkout is not None else None
    number, source = _version(package_version, env, checkout, commit)
    return Project(
        owner=owner,
        name=name,
        slug=slug(name),
        commit=commit.sha if commit is not None else sha,
        commit_time=commit.time if commit is not None else _source_date_epoch(env),
        version=number,
        release=release,
        version_source=source,
    )


def is_same_for_every_commit(project: Project) -> bool:
    """Say whether the next commit would be this version and release, too: apk would never upgrade to it."""
    return project.version_source.startswith(_NO_TAG) and project.release == 0


def refuse_version(package_version: str | None, package_release: str | None) -> None:
    """Raise UsageError where `--package-version` or `--package-release` is not what it should be."""
    if package_version is not None:
        _given(package_version)
    if package_release is not None:
        _unsigned("--package-release", package_release)


def commit(directory: Path, env: Mapping[str, str]) -> str | None:
    """Return the commit that is checked out in a directory, else GITHUB_SHA; None where there is neither."""
    checkout = git.find(directory, env)
    found = checkout.commit("HEAD") if checkout is not None else None
    return found.sha if found is not None else _sha(env)


def checked_out_instead(directory: Path, env: Mapping[str, str], built: str | None) -> str | None:
    """Return the commit that is checked out where that is another than the one that was built.

    None where the repository does not know that one: then it may be anybody's. Never raises.
    """
    with suppress(UsageError):
        checkout = git.find(directory, env) if built is not None else None
        head = checkout.commit("HEAD") if checkout is not None else None
        if built is not None and checkout is not None and head is not None and head.sha != built:
            return head.sha if checkout.commit(built) is not None else None
    return None


def uncommitted(directory: Path, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files in a directory that git tracks and that differ from what is committed, as far as it is known."""
    checkout = git.find(directory, env)
    return checkout.changed(directory) if checkout is not None and checkout.commit("HEAD") is not None else ()


def ref(directory: Path, env: Mapping[str, str]) -> str:
    """Return the full name of the branch or tag (`refs/heads/main`): GITHUB_REF, else the branch that is checked out.

    Raises UsageError where neither says one.
    """
    if env.get("GITHUB_REF"):
        return env["GITHUB_REF"]
    checkout = git.find(directory, env)
    found = checkout.branch() if checkout is not None else None
    if found is None:
        raise UsageError("nothing says which branch or tag this is", hint="give --ref, e.g. --ref refs/heads/main")
    return found


_WORD = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.][A-Za-z0-9_.-]{0,99}"
"""An owner, or a repository's name: it becomes part of paths, so it is neither `..` nor anything with a slash."""
_PROJECT = re.compile(rf"({_WORD})/({_WORD})")


def owner_and_name(directory: Path, env: Mapping[str, str], *, project: str | None) -> tuple[str, str]:
    """Return whose project a directory holds: `--project`, else GITHUB_REPOSITORY, else the remote `origin`.

    A repository that has no origin on a server belongs to `local`, under its directory's name. Raises UsageError where
    a value is not `owner/name`, and where there is no repository either.
    """
    if project is not None:
        return _split("--project", project)
    if env.get("GITHUB_REPOSITORY"):
        return _split("GITHUB_REPOSITORY", env["GITHUB_REPOSITORY"])
    checkout = git.find(directory, env)
    if checkout is None:
        reason = f"{directory} is in no git repository" if git.is_installed(env) else "git is not installed"
        raise UsageError(f"nothing says whose project this is: {reason}", hint="give --project owner/name")
    return from_remote(checkout.origin() or "") or (LOCAL_OWNER, _as_name(checkout.root.name))


def _split(source: str, text: str) -> tuple[str, str]:
    found = _PROJECT.fullmatch(text)
    if found is None:
        raise UsageError(
            f"{source} is {text!r}, but it should be an owner and a repository's name",
            hint="write it as owner/name, e.g. acme/shop",
        )
    return found[1], found[2]


def from_remote(url: str) -> tuple[str, str] | None:
    """Return owner and name from a remote's URL (https, ssh, scp's host:path); None for a path on this machine."""
    scheme, is_url, rest = url.partition("://")
    if is_url:
        path = "" if scheme == "file" else rest.partition("/")[2]
    else:
        host, _, path = url.partition(":")
        path = "" if "/" in host else path
    parts = path.rstrip("/").removesuffix(".git").split("/")
    found = _PROJECT.fullmatch("/".join(parts[-2:]))
    return (found[1], found[2]) if found is not None else None


def _as_name(directory: str) -> str:
    # As GitHub does with what it cannot have in a name.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", directory).lstrip("-.")[:100] or "app"


def _sha(env: Mapping[str, str]) -> str | None:
    sha = env.get("GITHUB_SHA") or None
    if sha is not None and not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", sha):
        raise UsageError(f"GITHUB_SHA is {sha!r}, but it should be a full commit SHA", hint="unset it to ask git")
    return sha


def _source_date_epoch(env: Mapping[str, str]) -> int:
    # 0 and not the time of day: without git, too, the same files must give the same package.
    return _unsigned("SOURCE_DATE_EPOCH", env.get("SOURCE_DATE_EPOCH") or "0")


def _release(package_release: str | None, env: Mapping[str, str]) -> int:
    if package_release is not None:
        return _unsigned("--package-release", package_release)
    return _unsigned("GITHUB_RUN_NUMBER", env.get("GITHUB_RUN_NUMBER") or "0")


def _unsigned(source: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,11}", text):
        raise UsageError(
            f"{source} is {text!r}, but it should be an unsigned integer", hint="write it as digits, e.g. 42"
        )
    return int(text)


def _version(
    package_version: str | None, env: Mapping[str, str], checkout: git.Checkout | None, commit: git.Commit | None
) -> tuple[str, str]:
    """Return the version and where it is from."""
    if package_version is not None:
        return _given(package_version), "--package-version"
    tag = env.get("GITHUB_REF_NAME", "") if env.get("GITHUB_REF_TYPE") == "tag" else ""
    if checkout is not None and commit is not None and not _is_started_by(commit, checkout, env):
        tag = ""
    if version.looks_like_version(tag):
        return version.from_tag(tag), f"tag {tag}"
    if checkout is None:
        return "0.0.0", "no tag: no git repository" if git.is_installed(env) else "no tag: git is not installed"
    if commit is None:
        return "0.0.0", "no tag: no commit yet"
    return _from_tags(checkout, commit)


def _is_started_by(commit: git.Commit, checkout: git.Checkout, env: Mapping[str, str]) -> bool:
    """Say whether a commit is the one that GitHub's variables are about."""
    sha = env.get("GITHUB_SHA")
    # It may be that of an annotated tag.
    return not sha or sha == commit.sha or checkout.commit(sha) == commit


def _given(package_version: str) -> str:
    if not version.is_valid_pkgver(package_version):
        near = version.nearest(package_version) or "1.2.3"
        raise UsageError(
            f"--package-version is {package_version!r}, which is not a version that apk can order",
            hint=f"give --package-version {near}",
        )
    return package_version


def _from_tags(checkout: git.Checkout, commit: git.Commit) -> tuple[str, str]:
    tags = checkout.tags(commit)
    versions = {tag: mapped for tag in tags if (mapped := _mapped(tag)) is not None}
    exact = _highest(versions, tags, {commit.sha})
    if exact is not None:
        return versions[exact], f"tag {exact}"
    for tag in sorted(tags):
        # This commit is meant to be a version: say so rather than call it something else.
        if tags[tag] == commit.sha and version.looks_like_version(tag):
            raise version.refusal(tag)
    count, last = checkout.since(commit, (tags[tag] for tag in versions))
    nearest = _highest(versions, tags, last)
    if nearest is not None:
        commits = "1 commit" if count == 1 else f"{count} commits"
        return version.after(versions[nearest], commit.time), f"{commits} after tag {nearest}"
    return "0.0.0", _why_no_tag(checkout, tags)


def _mapped(tag: str) -> str | None:
    try:
        return version.from_tag(tag)
    except UsageError:
        return None


def _highest(versions: Mapping[str, str], tags: Mapping[str, str], commits: Collection[str]) -> str | None:
    """Return the tag of the highest version among those of some commits; by its name where two say the same."""
    here = [tag for tag in sorted(versions) if tags[tag] in commits]
    return max(here, key=lambda tag: version.sort_key(versions[tag]), default=None)


def _why_no_tag(checkout: git.Checkout, tags: Mapping[str, str]) -> str:
    if checkout.is_shallow():
        return SHALLOW
    return "no tag on the way to this commit is a version" if tags else "no tag"
