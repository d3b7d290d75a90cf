"""Names: which of them are taken, and the nearest that apk, OpenRC and the shell accept.

The grammars themselves are patterns of the schema. apk's are in apk-tools' src/ctype.c and src/package.c, abuild's in
its verify_pkgname and check_depver.
"""

from __future__ import annotations

import re

MAX_NAME = 32
"""The longest user name that Linux's user database takes; the package's name is its user's."""

ARCHITECTURES = (
    "x86_64", "aarch64", "x86", "armhf", "armv7", "ppc64le", "s390x", "riscv64", "loongarch64", "noarch", "all"
)  # fmt: skip
"""What a package may be built for, in Alpine's words."""
ARCHITECTURES_ELSEWHERE = {
    "amd64": "x86_64",
    "x64": "x86_64",
    "arm64": "aarch64",
    "i386": "x86",
    "i686": "x86",
    "arm": "armv7",
    "armv8l": "armv7",
    "armv7l": "armv7",
    "armv6l": "armhf",
}
"""What Docker, Debian, GitHub and the kernel call them."""


PACKAGES_ELSEWHERE = {
    "awscli": "aws-cli",
    "build-essential": "build-base",
    "bundler": "ruby-bundler",
    "chromium-browser": "chromium",
    "chromium-driver": "chromium-chromedriver",
    "default-jdk": "openjdk21",
    "default-jre": "openjdk21-jre",
    "default-jre-headless": "openjdk21-jre-headless",
    "default-libmysqlclient-dev": "mariadb-dev",
    "default-mysql-client": "mariadb-client",
    "golang": "go",
    "golang-go": "go",
    "libbz2-dev": "bzip2-dev",
    "libcurl4-openssl-dev": "curl-dev",
    "libicu-dev": "icu-dev",
    "libjpeg62-turbo-dev": "libjpeg-turbo-dev",
    "liblzma-dev": "xz-dev",
    "libmysqlclient-dev": "mariadb-dev",
    "libncurses-dev": "ncurses-dev",
    "libpq5": "libpq",
    "libreadline-dev": "readline-dev",
    "libsqlite3-dev": "sqlite-dev",
    "libssl-dev": "openssl-dev",
    "libvips-dev": "vips-dev",
    "libvips42": "vips",
    "libxslt1-dev": "libxslt-dev",
    "libyaml-dev": "yaml-dev",
    "node": "nodejs",
    "nodejs-npm": "npm",
    "pip": "py3-pip",
    "pip3": "py3-pip",
    "pkg-config": "pkgconf",
    "python": "python3",
    "python3-pip": "py3-pip",
    "python3-setuptools": "py3-setuptools",
    "python3-venv": "python3",
    "rustc": "rust",
    "sqlite3": "sqlite",
    "xz-utils": "xz",
    "yarnpkg": "yarn",
    "zlib1g": "zlib",
    "zlib1g-dev": "zlib-dev",
}
"""What Debian, or the program itself, calls packages that Alpine has by another name only; nodejs-npm and python are
Alpine's own of years ago."""


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word for line in lines for word in line.split())


USERS = _words(
    "root bin daemon adm lp sync shutdown halt mail news uucp operator man postmaster cron ftp sshd at squid xfs games",
    "cyrus vpopmail ntp smmsp guest nobody sys tty disk kmem wheel floppy audio cdrom dialout input tape video netdev",
    "kvm shadow www-data users utmp ping nogroup abuild",
)
"""The users and groups of an Alpine root: /etc/passwd and /etc/group of the package alpine-baselayout-data."""

SERVICES = _words(
    "acpid binfmt bootmisc cgroups consolefont crond devfs dhcpcd dmesg firstboot fsck hostname hwclock hwdrivers",
    "killprocs klogd loadkmap local localmount loopback machine-id modloop modules mount-ro mtab net-online netmount",
    "networking ntpd numlock osclock procfs rdate root runsvdir s6-svscan save-keymaps save-termencoding savecache",
    "seedrng setup-dns staticroute swap swclock sysctl sysfs sysfsconf syslog termencoding user watchdog",
    # what these provide: a service of such a name stops OpenRC from making sense of the others
    "clock dev dev-mount dns firewall keymaps logger mta net network-online ntp-client urandom",
)
"""The services of an Alpine root: /etc/init.d of the packages openrc and busybox-openrc."""

COMMANDS = _words(
    # the shell's own words: `help` in Alpine's sh lists its builtins
    "if then else elif fi case esac for while until do done in function",
    "alias bg break cd chdir command continue echo eval exec exit export false fg getopts hash help history jobs kill",
    "let local printf pwd read readonly return set shift source test times trap true type ulimit umask unalias unset",
    "wait",
    # every service's commands, and the words that depend() is written with: openrc-run(8)
    "start stop restart status describe zap pause ineed iuse iwant needsme usesme wantsme ibefore iafter",
    "iprovide depend config need use want before after provide keyword start_pre start_post stop_pre stop_post",
    "healthcheck unhealthy",
    # what openrc-run, its supervisors and a service's script call
    "sourcex verify_boot apply_ulimits yesno checkpath einfo ewarn eerror ebegin eend ewend eindent eoutdent",
    "fstabinfo mountinfo save_options get_options shell_var supervise-daemon start-stop-daemon env environment",
    "env-exec cat chmod chown curl cut date grep id install ln logger logname ls mkdir mv ps rm sed sh sleep su touch",
    "pkill readlink seq stat tr",
)
"""Words that cannot be a command of a service: it would replace what the service's own script needs."""

_PREFIXES = ("default_", "supervise_", "ssd_", "s6_", "runit_", "cgroup_", "cgroup2_", "service_", "mark_service_", "_")


def is_reserved_command(name: str) -> bool:
    """Say whether OpenRC or the shell has this name for itself."""
    return name in COMMANDS or name.endswith(("_pre", "_post")) or name.startswith(_PREFIXES)


def is_reserved_variable(name: str) -> bool:
    """Say whether the build sets this environment variable, or its shell or loader obeys it."""
    return name in _VARIABLES or name.startswith("LD_")


_VARIABLES = _words(
    "BASH_ENV ENV HOME IFS LOGNAME OLDPWD PATH PS4 PWD SHELL SHELLOPTS SOURCE_DATE_EPOCH USER",
)


def is_refused_variable(name: str) -> bool:
    """Say whether a service takes no such variable from its environment: shells and loaders obey it."""
    return re.fullmatch(REFUSED_VARIABLES, name) is not None


REFUSED_VARIABLES = (
    "LD_.*|BASH.*|PATH|IFS|ENV|SHELLOPTS|PS[0-4]|PROMPT_COMMAND|POSIXLY_CORRECT|OPTIND|OPTERR|OPTARG|E?UID|PPID|LINENO"
    "|S?RANDOM|SECONDS|FUNCNAME|GROUPS|DIRSTACK|HOME|USER|LOGNAME|_"
)
"""A regular expression in the grammar of Python and of awk: what has a meaning for shells, loaders and supervisors."""


def slug(text: str) -> str:
    """Return a text as package names go: lower case, hyphens. `Laravel_POS` is `laravel-pos`; may be empty."""
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in text.lower()).split()
    return "-".join(words)


def ends_like_version(name: str) -> bool:
    """Say whether the end of a package's name could be read as its version: `shop-1`, `shop-r2`."""
    _, hyphen, end = name.rpartition("-")
    return bool(hyphen) and end.removeprefix("r").replace(".", "").isdigit()


def nearest_package(text: str) -> str:
    """Return the nearest name that a package, its user and its service can have; empty where there is none."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text.strip())
    while "--" in kept:
        kept = kept.replace("--", "-")
    kept = kept.strip("-._")[:MAX_NAME].strip("-._")
    if ends_like_version(kept):
        head, _, end = kept.rpartition("-")
        kept = head + end
    return kept


def nearest_command(text: str) -> str:
    """Return the nearest name that a shell function can have; empty where there is none."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text.strip()).strip("_-")
    return kept if not kept[:1].isdigit() else f"run_{kept}"


def nearest_variable(text: str) -> str:
    """Return the nearest name that an environment variable can have; empty where there is none."""
    return nearest_command(text).replace("-", "_").upper()


def nearest_dependency(text: str) -> str:
    """Return the nearest dependency word that apk takes; empty where there is none."""
    from pakman import version

    word = "".join(text.split())
    name = word[: min((word.index(c) for c in "<>=~^@*" if c in word), default=len(word))]
    rest = word[len(name) :]
    name = "".join(c for c in name if c.isascii() and (c.isalnum() or c in "_+.,:/[]-")).lstrip("+,:[]-")
    if not name:
        return ""
    negation = "!" if word.startswith("!") else ""
    number = rest.lstrip("<>=~^!")
    operator = rest[: len(rest) - len(number)]
    nearest = version.nearest(number[:60]) if operator else None
    if nearest is None:
        return negation + name
    return negation + name + (operator if operator in OPERATORS else _MEANT.get(operator, "=")) + nearest


OPERATORS = ("<", ">", "=", "~", "<=", ">=", "<~", ">~")
"""abuild's, in check_depver; apk takes more, and means the same by them."""
_MEANT = {"^": "~", "~>": "~", "=~": "~", "~=": "~", "=>": ">=", "=<": "<="}


def dependency_name(word: str) -> str:
    """Return the name in a dependency word: `curl` of `curl>=8`."""
    for sign in "<>=~@":
        word = word.partition(sign)[0]
    return word
