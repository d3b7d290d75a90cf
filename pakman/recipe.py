"""The recipe: what Alpine calls an aport, an APKBUILD and the files beside it, composed from manifest and project.

Composing reads and writes nothing. No value of the manifest becomes shell: in the APKBUILD it is one quoted word, and
scripts (`build.command`, `package`, hooks) are files of their own, as they were written.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pakman import names, service
from pakman.errors import ManifestError
from pakman.manifest import HOOKS, Manifest, main_port
from pakman.project import Project
from pakman.templating import RecipeFile, render

APKBUILD = "APKBUILD"

DESCRIPTION_BYTES = 127
"""What abuild takes as pkgdesc: `abuild validate` counts 128 with the newline."""

LICENSE = "LicenseRef-unspecified"
"""abuild insists on a license; this is SPDX's form for one that is on no list, and it claims nothing."""

NEVER_SHIPPED = (".git", ".apk")
"""Version control (and the credentials in it), and the folder that earlier pakmans built in."""

HTTP_PORT = 80


@dataclass(frozen=True, slots=True)
class Recipe:
    """One aport: the files that `abuild`, or the embedded builder, needs in one directory."""

    name: str
    """pkgname."""
    version: str
    """pkgver."""
    release: int
    """pkgrel."""
    snapshot: str
    """The file name of the application's sources, a tar whose one top directory is NAME-VERSION."""
    files: tuple[RecipeFile, ...]
    """APKBUILD, service files, scripts: everything but the snapshot and `sources`."""
    sources: tuple[PurePosixPath, ...]
    """What `source` names: files of the application that are copied beside the APKBUILD, relative to its top."""

    @property
    def top(self) -> str:
        """The snapshot's top directory."""
        return f"{self.name}-{self.version}"


def package_name(manifest: Manifest, project: Project) -> str:
    """Return pkgname: run.name, else the repository's name in apk's grammar.

    Raises ManifestError where the latter cannot be a package's name, and an account's; run.name has been checked.
    """
    if manifest.run is not None and manifest.run.name is not None:
        return manifest.run.name
    name = project.slug
    reasons = {
        "every Alpine machine has a user or group of this name already": name in names.USERS,
        "a user's name of digits is taken for a number": name.isdigit(),
        "its end would be read as the package's version": names.ends_like_version(name),
        f"a user's name has at most {names.MAX_NAME} characters": len(name) > names.MAX_NAME,
    }
    for reason, is_so in reasons.items():
        if is_so:
            fits = names.nearest_package(name)
            fits = f"{fits[: names.MAX_NAME - 4]}-app" if fits == name else fits
            raise ManifestError(
                f"{name}, after the repository {project.name}, cannot be the package's name: {reason}",
                hint=f"write the name into the manifest, for instance\n  run:\n    name: {fits}",
            )
    return name


def compose(
    manifest: Manifest, project: Project, *, snapshot_sha512: str, source_sha512: Mapping[str, str] | None = None
) -> Recipe:
    """Return the recipe; the checksums, in hex, are those of the snapshot and, by file name, of what `source` names.

    Raises ManifestError where a value cannot be part of any recipe; a manifest that was read is checked for most of it.
    """
    name = package_name(manifest, project)
    snapshot = f"{name}-{project.version}.tar"
    sources = extra_sources(manifest, project)
    installed = service.service_files(manifest, name)
    scripts = service.install_scripts(manifest, name)
    beside = (*installed, *_verbatim(manifest, name), *_placeholders(manifest, name, installed))
    if _is_site(manifest):
        beside = (*beside, _nginx_conf(manifest, name))
    checksums = {
        snapshot: snapshot_sha512,
        **{file.name: _sha512(file) for file in beside},
        **{path.name: (source_sha512 or {})[path.name] for path in sources},
    }
    build = manifest.build
    apkbuild = render(
        "APKBUILD.j2",
        name=name,
        version=project.version,
        release=project.release,
        commit=project.commit or "",
        maintainer=_maintainer(manifest, project),
        description=_shortened(_one_line(manifest.description or "") or name),
        url=_one_line(manifest.url or "") or f"https://github.com/{project.owner}/{project.name}",
        license=_one_line(manifest.license or "") or LICENSE,
        architectures=manifest.architectures or ("all",),
        depends=_depends(manifest, project, name),
        makedepends=_unique(manifest.dependencies.build),
        options=_options(manifest),
        has_openrc=_has_openrc(manifest),
        scripts=scripts,
        has_command=bool(build.command.strip()),
        environment=sorted(build.environment.items()),
        has_package=manifest.package is not None,
        # What runs as root must not be for another user to rewrite.
        runs_as_root=manifest.run is not None and manifest.run.user == "root",
        excluded=(*NEVER_SHIPPED, *(_plain(pattern) for pattern in build.exclude)),
        destinations=tuple(_alternatives(pattern) for pattern in build.destinations),
        is_site=_is_site(manifest),
        installed=tuple(file for file in installed if file.target is not None),
        sources=tuple(checksums)[1:],
        checksums=checksums,
    )
    files = (RecipeFile(APKBUILD, apkbuild), *beside, *scripts)
    for file in files:
        _must_be_text(file)
    return Recipe(name, project.version, project.release, snapshot, files, sources)


def extra_sources(manifest: Manifest, project: Project) -> tuple[PurePosixPath, ...]:
    """Return what `source` names, relative to the application's top, without the files that pakman writes anyway.

    As in an APKBUILD an entry may say `$pkgname` and `$pkgver`. Raises ManifestError for a URL and for what is no name
    that abuild takes (`ensure_valid_filename`).
    """
    name = package_name(manifest, project)
    own = _own_names(manifest, name, project.version) if manifest.source else set()
    found: dict[str, PurePosixPath] = {}
    for entry in manifest.source:
        text = _VARIABLE.sub(lambda match: {"pkgname": name, "pkgver": project.version}[match[1] or match[2]], entry)
        if "://" in text:
            raise ManifestError(
                f"source: {text} is a URL, and there is no checksum to hold what it gives against",
                hint="download it in build.command, which can check it, or add the file to the repository",
            )
        path = PurePosixPath(text)
        if path.is_absolute() or ".." in path.parts or not _FILE_NAME.fullmatch(path.name):
            raise ManifestError(
                f"source: {text!r} cannot be a file beside the APKBUILD",
                hint="name a file of the repository, relative to its top; letters, digits and `+@~._-` make its name",
            )
        if path.name in own:
            continue
        if found.setdefault(path.name, path) != path:
            raise ManifestError(
                f"source: {found[path.name]} and {path} would be one file beside the APKBUILD",
                hint="rename one of them",
            )
    return tuple(found.values())


_VARIABLE = re.compile(r"\$(?:\{(pkgname|pkgver)\}|(pkgname|pkgver)\b)")
_FILE_NAME = re.compile(r"[A-Za-z0-9+@~._-]+")
_S6_FILES = ("finish", "log")


def _own_names(manifest: Manifest, name: str, version: str) -> set[str]:
    """Return what pakman writes beside the APKBUILD for any manifest, and for this one."""
    suffixes = ("initd", "run", "environment", "env-exec", "build", "package", "nginx.conf", *_S6_FILES, *HOOKS)
    return {
        *(APKBUILD, f"{name}-{version}.tar"),
        *(f"{name}.{suffix}" for suffix in suffixes),
        *(file.name for file in service.service_files(manifest, name)),
    }


def _verbatim(manifest: Manifest, name: str) -> tuple[RecipeFile, ...]:
    """The scripts that the manifest's author wrote, as they are."""
    scripts = {"build": manifest.build.command, "package": manifest.package or ""}
    return tuple(
        RecipeFile(f"{name}.{suffix}", script)
        for suffix, script in scripts.items()
        if script.strip() or (suffix == "package" and manifest.package is not None)
    )


def _placeholders(manifest: Manifest, name: str, installed: Iterable[RecipeFile]) -> tuple[RecipeFile, ...]:
    """Files of s6 that `package` scripts of older manifests install; today's service does not need them."""
    if manifest.package is None or not service.has_service(manifest):
        return ()
    there = {file.name for file in installed}
    return tuple(
        RecipeFile(f"{name}.{suffix}", _PLACEHOLDER, 0o755) for suffix in _S6_FILES if f"{name}.{suffix}" not in there
    )


_PLACEHOLDER = "#!/bin/sh\n# Nothing runs this: OpenRC supervises the service and keeps its log.\n"


def _has_openrc(manifest: Manifest) -> bool:
    """Whether there is an init script to split off: ours, or one that the `package` script installs."""
    return service.has_service(manifest) or "/etc/init.d" in (manifest.package or "")


def _maintainer(manifest: Manifest, project: Project) -> str:
    """Return who answers for the package; GitHub has this address for each owner, and abuild warns of none."""
    named = _one_line(manifest.maintainer or "")
    return named or f"{project.owner} <{project.owner}@users.noreply.github.com>"


def _depends(manifest: Manifest, project: Project, name: str) -> tuple[str, ...]:
    own = f"{name}-openrc"
    words = [word for word in manifest.dependencies.runtime if names.dependency_name(word) != own]
    there = {names.dependency_name(word) for word in words}
    added = [
        *service.dependencies(manifest),
        *(["nginx"] if manifest.type == "static" else ()),
    ]
    words += [word for word in added if word not in there]
    if _has_openrc(manifest):
        # Left to its install_if alone, apk would install it after the package whose hooks need it.
        words.append(f"{own}={project.version}-r{project.release}")
    return _unique(words)


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _options(manifest: Manifest) -> tuple[str, ...]:
    """The words for `options=`, from APKBUILD(5)."""
    package = manifest.package or ""
    wanted = {
        # The application's tests ran in its own workflow, with its own tools.
        "!check": True,
        "!tracedeps": not manifest.dependencies.trace,
        "!strip": not manifest.build.strip_binary,
        # Whether the build makes programs nobody knows yet; abuild warns of each package without any.
        "!archcheck": "noarch" not in (manifest.architectures or ()),
        # Build commands download what they need: npm, bundler, mix.
        "net": bool(manifest.build.command.strip()),
        "setcap": "setcap" in package,
    }
    return tuple(word for word, is_wanted in wanted.items() if is_wanted)


def _plain(pattern: str) -> str:
    """Return a glob without `./` before and `/` behind."""
    return str(PurePosixPath(pattern))


def _alternatives(pattern: str) -> tuple[str, ...]:
    """Return the shell globs that say what a destination means; at least one has to match.

    A glob takes dotfiles only where it asks for them, with two exceptions that mean a whole directory: `*` alone is
    everything in the application's top, and a `.` at the end is everything in the directory before it.
    """
    path = _plain(pattern)
    if path == "*":
        return _EVERYTHING
    if pattern.endswith("/."):
        return tuple(f"{path}/{glob}" for glob in _EVERYTHING)
    return (path,)


_EVERYTHING = ("*", ".[!.]*", "..?*")
"""The globs for all names but `.` and `..`."""


def _is_site(manifest: Manifest) -> bool:
    """Whether nginx is told to serve what is shipped; a `package` script does that itself, as it does everything."""
    return manifest.type == "static" and manifest.package is None


def _nginx_conf(manifest: Manifest, name: str) -> RecipeFile:
    """The nginx configuration of a static site whose repository has none."""
    root = PurePosixPath("/var/lib") / name
    if len(manifest.build.destinations) == 1:
        only = PurePosixPath(manifest.build.destinations[0])
        # `dist` is shipped as a directory, and the site is what is in it; `dist/*` is the site itself.
        if only.name and not only.suffix and not set("*?[\\") & set(only.name):
            root /= only.name
    return RecipeFile(f"{name}.nginx.conf", render("nginx.conf.j2", root=root, port=main_port(manifest) or HTTP_PORT))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str) -> str:
    """Cut a text to what fits into pkgdesc, between words where there are any."""
    encoded = text.encode("utf-8", "surrogatepass")
    if len(encoded) <= DESCRIPTION_BYTES:
        return text
    kept = encoded[: DESCRIPTION_BYTES - len("…".encode())].decode("utf-8", "ignore")
    return f"{kept.rpartition(' ')[0] or kept}…"


def _must_be_text(file: RecipeFile) -> None:
    try:
        file.content.encode()
    except UnicodeEncodeError as error:
        raise ManifestError(
            f"{file.name} would hold half a character, {file.content[error.start]!a}, which no file can",
            hint="write the character itself instead of two \\u escapes",
        ) from error
    if "\0" in file.content:
        raise ManifestError(
            f"{file.name} would hold a NUL character, which no shell can take", hint="remove the \\0 from the manifest"
        )


def _sha512(file: RecipeFile) -> str:
    return hashlib.sha512(file.content.encode("utf-8", "replace")).hexdigest()
