"""The half of the embedded builder that runs inside the build root: embedded.sh, and what it is told."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pakman import command
from pakman.builders.apkbuild import VARIABLES, Apkbuild, parse
from pakman.buildroots import BUILD_USER, HOME, BuildRoot, User
from pakman.errors import BuildError

FOLDER = PurePosixPath("/pakman")
"""Where all that is ours is in the root, always the same: what is built may hold such a path, whoever packs it."""
STARTDIR = FOLDER / "aport"
"""The aport, not in the build user's hands; abuild calls its repository by the name of the directory around it."""
WORK = FOLDER / "work"
"""The build user's."""
SRCDIR = WORK / "src"
PKGBASEDIR = FOLDER / "pkg"
"""The packages' trees, of the user that packs; abuild's are among what it makes itself."""

PACKAGER = "pakman"

_SCRIPT = Path(__file__).with_name("embedded.sh")
_LAST_LINES = 20
_SHOWN = 500
"""Characters of each that an error repeats: a minified file on one line would bury it."""
_NO_STRIP = 77
"""embedded.sh's exit status where the root has no strip."""
_NO_PROGRAM = 127
"""A shell's exit status for a command that it does not find, and env's."""
_WORDS_PER_CALL = 500

ENDED = re.compile(r"(?:build\.command|package) ended with exit status ([0-9]+)")
"""What the APKBUILD says of a script that failed, and abuild does not."""
_NOTHING = re.compile(r"build\.destinations: .* matches nothing in the built application")
"""What the APKBUILD says of a glob."""
_MISSING = re.compile(
    r".*: line [0-9]+: ([^\s:]+): (?:command )?not found|env: can't execute '([^']+)': No such file.*"
)
"""What BusyBox' ash, bash and BusyBox' env say of a program that is not there."""

_CHOST = {
    "armhf": "armv6-alpine-linux-musleabihf",
    "armv7": "armv7-alpine-linux-musleabihf",
    "x86": "i586-alpine-linux-musl",
}
"""Where it is not simply ARCH-alpine-linux-musl (abuild's `arch_to_triplet`)."""


def environment(arch: str, *, mtime: int, threads: int) -> dict[str, str]:
    """Return all that a build is told; nothing of what pakman itself was told is in it."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(HOME),
        "USER": BUILD_USER,
        "LOGNAME": BUILD_USER,
        "SHELL": "/bin/sh",
        "TMPDIR": "/tmp",  # noqa: S108  (the view's own)
        "TERM": "dumb",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "CI": "true",
        "CARCH": arch,
        "CHOST": _CHOST.get(arch, f"{arch}-alpine-linux-musl"),
        "SOURCE_DATE_EPOCH": str(mtime),
        "JOBS": str(threads),
        "MAKEFLAGS": f"-j{threads}",
        "GIT_CEILING_DIRECTORIES": str(STARTDIR),
        # Downloads go where caches.DOWNLOADS looks for them, also under abuild, which would have them among the
        # sources, and Go's modules always where its build cache is. npm, Hex and pip need no telling.
        "BUNDLE_USER_CACHE": str(HOME / ".bundle/cache"),
        "BUNDLE_GLOBAL_GEM_CACHE": "true",
        "COMPOSER_CACHE_DIR": str(HOME / ".cache/composer"),
        "GOCACHE": str(HOME / ".cache/go"),
        "GOMODCACHE": str(HOME / ".cache/go"),
        "CARGO_HOME": str(HOME / ".cargo"),
    }


def compiling(threads: int) -> dict[str, str]:
    """Return what abuild tells compilers, for builds without it: the same sources shall give the same programs.

    What abuild 3.18 has in https://gitlab.alpinelinux.org/alpine/abuild/-/blob/master/default.conf.
    """
    hardened = "-Os -fstack-clash-protection -Wformat -Werror=format-security"
    return {
        "CFLAGS": hardened,
        "CXXFLAGS": f"{hardened} -D_GLIBCXX_ASSERTIONS=1 -D_LIBCPP_ENABLE_THREAD_SAFETY_ANNOTATIONS=1 "
        "-D_LIBCPP_HARDENING_MODE=_LIBCPP_HARDENING_MODE_FAST",
        "LDFLAGS": "-Wl,--as-needed,-O1,--sort-common",
        "DFLAGS": "-Os",
        "GOFLAGS": "-buildmode=pie -modcacherw -trimpath -buildvcs=false",
        "CARGO_PROFILE_RELEASE_OPT_LEVEL": "s",
        "CARGO_PROFILE_RELEASE_PANIC": "abort",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "1",
        "CARGO_PROFILE_RELEASE_LTO": "true",
        "RUST_LIBC_UNSTABLE_MUSL_V1_2_3": "1",
        "CMAKE_GENERATOR": "Ninja",
        "CTEST_OUTPUT_ON_FAILURE": "ON",
        "CTEST_NO_TESTS_ACTION": "error",
        "PERL_MM_USE_DEFAULT": "1",
        "SAMUFLAGS": f"-j{threads}",
        "CARGO_BUILD_JOBS": str(threads),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(threads),
        "CTEST_PARALLEL_LEVEL": str(threads),
    }


class LastLines:
    """The last lines that a program wrote, as an error quotes them."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)

    def add(self, line: str) -> None:
        """Take one line."""
        self._lines.append(line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …")

    def clear(self) -> None:
        """Forget what was written so far."""
        self._lines.clear()

    def find(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Return the newest line that a pattern matches whole."""
        return next((found for line in reversed(self._lines) if (found := pattern.fullmatch(line))), None)

    def quoted(self) -> str:
        """Return them under a headline."""
        if not self._lines:
            return "it wrote nothing"
        return "\n".join(["its last lines:", *(f"  {line}" for line in self._lines)])


@dataclass(frozen=True, slots=True)
class Driver:
    """embedded.sh in one root that holds an aport."""

    root: BuildRoot
    env: dict[str, str]
    on_line: Callable[[str], None]

    @property
    def packer(self) -> User:
        """Who lays out packages: root, unless a link that the build made could lead it out of the build root."""
        return "root" if self.root.confines_root else "build"

    def call(self, task: str, *words: str, user: User, on_line: Callable[[str], None]) -> int:
        """Do a task of the script; return its exit status."""
        argv = ["/bin/sh", "-c", _SCRIPT.read_text(), _SCRIPT.stem, task, *words]
        return self.root.call(argv, user=user, env=self.env, cwd=STARTDIR, on_line=on_line)

    def read(self) -> Apkbuild:
        """Return what the APKBUILD says. Raises BuildError where a shell cannot read it."""
        said: list[str] = []
        if (status := self.call("variables", *VARIABLES, user="build", on_line=said.append)) != 0:
            raise BuildError(f"the APKBUILD cannot be read: {reason(said, status)}")
        return parse(said)

    def must(self, task: str, *words: str, user: User) -> None:
        """Do a task that the user's scripts have no part in; raise BuildError when it fails."""
        said: list[str] = []
        if (status := self.call(task, *words, user=user, on_line=said.append)) != 0:
            raise BuildError(f"{task} failed in the build root: {reason(said, status)}")

    def run(self, function: str, user: User, what: str) -> None:
        """Run a function of the APKBUILD, its output live; raise BuildError with its last lines when it fails."""
        last = LastLines()

        def on_line(line: str) -> None:
            if not ENDED.fullmatch(line):
                last.add(line)
                self.on_line(line)

        if (status := self.call(function, user=user, on_line=on_line)) != 0:
            raise failure(what, status, last)

    def strip(self, files: Sequence[str]) -> bool:
        """Take the symbols out of files below PKGBASEDIR; False where the root has no strip."""
        for start in range(0, len(files), _WORDS_PER_CALL):
            said: list[str] = []
            words = files[start : start + _WORDS_PER_CALL]
            status = self.call("strip", *words, user=self.packer, on_line=said.append)
            if status == _NO_STRIP:
                return False
            if status != 0:
                raise BuildError(
                    f"strip failed: {reason(said, status)}",
                    hint="programs that carry data behind their code do not survive it: set build.strip_binary: false",
                )
        return True


def failure(what: str, status: int, last: LastLines) -> BuildError:
    """Return the error for a function of the APKBUILD that ended with a status other than 0; `what` is its name."""
    if nothing := last.find(_NOTHING):
        return BuildError(
            nothing[0],
            hint="name what build.command leaves behind, relative to the folder that has the manifest",
        )
    hint = last.quoted()
    if status == _NO_PROGRAM and (missing := last.find(_MISSING)):
        hint = f"{_no_program(missing[1] or missing[2])}\n{hint}"
    return BuildError(f"{what} failed: {command.how_it_ended(status)}", hint=hint)


def _no_program(name: str) -> str:
    if "/" in name:
        return (
            f"{name} is not there; or it is, and what its first line names is not: add that one's package, "
            "e.g. bash, to dependencies.build"
        )
    return f"the build root has no {name}: add the Alpine package that has it to dependencies.build"


def reason(said: Sequence[str], status: int) -> str:
    """Return why a program failed: the last line it wrote, else its exit status in words."""
    return next((line.strip() for line in reversed(said) if line.strip()), command.how_it_ended(status))
