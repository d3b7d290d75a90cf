"""What the APKBUILD says is what the root's own shell makes of it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pakman import generate, recipe
from pakman.manifest import Build, Dependencies, Manifest, Run, Service
from pakman.project import Project
from tests.servers import free_ports
from tests.test_examples import EXAMPLES, compose

PROJECT = Project("acme", "app", "app", "c" * 40, 1_700_000_000, "1.2.3", 7, "tag v1.2.3")
ACCOUNT = 4321
"""The package's user and group, as abuild makes them on the build machine."""

# What abuild does around the functions of an APKBUILD, in as few lines as will do.
ABUILD = r"""
set -e
umask 022
startdir=/mnt srcdir=/mnt/src pkgdir=/mnt/pkg/app
. ./APKBUILD
mkdir -p "$srcdir" "$pkgdir"
echo "$sha512sums" | grep . | sha512sum -cs
for file in $source; do
	case "$file" in *.tar) tar -C "$srcdir" -xf "$file" ;; esac
	ln -s "$startdir/$file" "$srcdir/"
done
build
package
"""


@dataclass(frozen=True)
class Sandbox:
    """A root that nothing can be written to, but for /tmp and one directory, /mnt."""

    root: Path
    aport: Path
    etc: Path

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[bytes]:
        accounts = (("--ro-bind", f"{self.etc}/{name}", f"/etc/{name}") for name in ("passwd", "group"))
        view = ("--ro-bind", str(self.root), "/", "--tmpfs", "/tmp", "--bind", str(self.aport), "/mnt")
        kernel = ("--unshare-pid", "--die-with-parent", "--proc", "/proc", "--dev", "/dev", "--chdir", "/mnt")
        return subprocess.run(
            ["bwrap", *view, *(word for words in accounts for word in words), *kernel, "--", "/bin/ash", "-c", script],
            capture_output=True,
            timeout=60,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/tmp", **env},
        )


@pytest.fixture(scope="module")
def etc(alpine_pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("etc")
    for name, line in {"passwd": ":/var/lib/app:/sbin/nologin", "group": ""}.items():
        account = f"app:x:{ACCOUNT}:{ACCOUNT}:{line}\n" if name == "passwd" else f"app:x:{ACCOUNT}:\n"
        (directory / name).write_text((alpine_pristine / "etc" / name).read_text() + account)
    return directory


@pytest.fixture
def sandbox(alpine_pristine: Path, etc: Path, tmp_path: Path) -> Sandbox:
    (tmp_path / "aport").mkdir()
    return Sandbox(alpine_pristine, tmp_path / "aport", etc)


def write_tree(directory: Path, files: Mapping[str, str]) -> Path:
    """Write files; a content that begins with `->` makes a link, one that begins with `#!` an executable."""
    directory.mkdir()
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)
    return directory


def pack(sandbox: Sandbox, manifest: Manifest, files: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    source = write_tree(sandbox.aport.parent / "application", files)
    generate.generate(manifest, PROJECT, source, sandbox.aport)
    return sandbox.run(ABUILD)


def packed(sandbox: Sandbox, manifest: Manifest, files: Mapping[str, str]) -> Path:
    """Build and package; return the package's tree."""
    done = pack(sandbox, manifest, files)
    assert done.returncode == 0, done.stderr.decode()
    return sandbox.aport / "pkg/app"


def names(tree: Path) -> set[str]:
    """Return all files and links below a directory."""
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_symlink() or not path.is_dir()}


APPLICATION = {
    ".env.example": "A=1",
    "README.md": "",
    "bin/app": "#!/bin/sh",
    "current": "->bin/app",
    "dangling": "->nowhere",
    "dist/index.html": "",
    "dist/.well-known/x": "",
    "dist/bin/tool": "",
    "a b/c d": "",
    "-n": "",
    "[x]": "",
    'a"b': "",
    "it's": "",
    "$(touch evil)": "",
    "..data": "",
    "_build/prod/rel/app/bin/app": "#!/bin/sh",
    "_build/prod/rel/app/lib/app.so": "",
}


@pytest.mark.alpine
@pytest.mark.parametrize(
    ("destinations", "expected"),
    [
        (["*"], set(APPLICATION)),
        (["dist"], {"dist/index.html", "dist/.well-known/x", "dist/bin/tool"}),
        (["./dist/"], {"dist/index.html", "dist/.well-known/x", "dist/bin/tool"}),
        (["dist/*"], {"index.html", "bin/tool"}),
        (["dist/."], {"index.html", "bin/tool", ".well-known/x"}),
        (["dist/.*"], {".well-known/x"}),
        ([".*"], {".env.example", "..data"}),
        (["current", "dangling"], {"current", "dangling"}),
        (["_build/prod/rel/app/*"], {"bin/app", "lib/app.so"}),
        (["bin", "dist/bin"], {"bin/app", "bin/tool"}),
        (["a b", "-n", "[x]", 'a"b', "it's"], {"a b/c d", "-n", "[x]", 'a"b', "it's"}),
        (["a*/c*"], {"c d"}),
        (["$(touch evil)", "..data"], {"$(touch evil)", "..data"}),
        (["?in", "[!a-b]urrent"], {"bin/app", "current"}),
    ],
)
def test_what_a_destination_ships(sandbox: Sandbox, destinations: list[str], expected: set[str]) -> None:
    home = packed(sandbox, Manifest(build=Build(destinations=tuple(destinations))), APPLICATION) / "var/lib/app"
    assert names(home) == expected
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in [home, *home.rglob("*")]} == {(ACCOUNT, ACCOUNT)}
    if "current" in expected:
        assert (home / "current").readlink() == Path("bin/app")
    if "bin/app" in expected:
        assert (home / "bin/app").stat().st_mode & 0o777 == 0o755


@pytest.mark.alpine
@pytest.mark.parametrize("pattern", ["gone", "gone/*", "$HOME", ".git", "docs/*", "[!b-e]urrent", "'", "\\"])
def test_a_destination_without_a_match_fails_and_says_which(sandbox: Sandbox, pattern: str) -> None:
    manifest = Manifest(build=Build(command="mkdir .git docs", destinations=("dist", pattern)))
    done = pack(sandbox, manifest, APPLICATION)
    assert done.returncode != 0
    assert done.stderr.decode() == f"build.destinations: '{pattern}' matches nothing in the built application\n"


@pytest.mark.alpine
def test_what_is_excluded_is_not_packed_even_if_the_build_makes_it_again(sandbox: Sandbox) -> None:
    command = "mkdir -p .git .apk tmp/cache keep; touch .git/config .apk/x tmp/cache/a tmp/b .secret keep/.secret"
    build = Build(command=command, destinations=("*",), exclude=("tmp/cache", ".secret", "*.log", "a b", "../*"))
    tree = packed(sandbox, Manifest(build=build), {"a b/c": "", "x.log": "", "tmp/keep": "", "y": ""})
    assert names(tree / "var/lib/app") == {"tmp/b", "tmp/keep", "keep/.secret", "y"}
    # Neither did `../*` reach what lies beside the application.
    assert (sandbox.aport / "src/app.build").is_symlink()


@pytest.mark.alpine
def test_the_build_command_knows_what_it_builds(sandbox: Sandbox) -> None:
    value = "a 'b' \"c\" $(touch evil) `touch evil`\n# $HOME \\n*"
    command = """
        [ "$PWD" = "$srcdir" ] && [ "$PWD" = "$builddir" ] && [ -f application ]
        printf %s "$VALUE" > value
        echo "$pkgname $pkgver $pkgrel $PAKMAN_COMMIT $(umask)" > facts
    """
    build = Build(command=command, destinations=("value", "facts"), environment={"VALUE": value, "EMPTY": ""})
    home = packed(sandbox, Manifest(build=build), {"application": ""}) / "var/lib/app"
    assert (home / "value").read_text() == value
    assert (home / "facts").read_text() == f"app 1.2.3 7 {'c' * 40} 0022\n"
    assert not list(sandbox.aport.rglob("evil"))


@pytest.mark.alpine
@pytest.mark.parametrize("command", ["false\ntouch on", "if", "nothing-there; touch on"])
def test_a_build_command_that_fails_ends_the_build(sandbox: Sandbox, command: str) -> None:
    done = pack(sandbox, Manifest(build=Build(command=command, destinations=("*",))), {"application": ""})
    assert done.returncode != 0
    assert not (sandbox.aport / "pkg/app/var").exists()


@pytest.mark.alpine
def test_a_package_script_finds_the_application_and_the_recipe_in_one_place(sandbox: Sandbox) -> None:
    script = """
        cd "$srcdir"
        install -Dm755 bin/caddy "$pkgdir"/usr/sbin/caddy
        install -Dm644 "$srcdir"/Caddyfile "$pkgdir"/etc/$pkgname/Caddyfile
        install -Dm644 "$srcdir"/extra.conf "$pkgdir"/etc/$pkgname/extra.conf
        install -Dm755 "$srcdir"/$pkgname.initd "$pkgdir"/etc/init.d/$pkgname
        for part in run log finish environment env-exec; do
            install -Dm755 -o $pkgusers -g $pkggroups "$srcdir"/$pkgname.$part "$pkgdir"/var/lib/$pkgname/$part
        done
        echo "$pkgver $pkgrel $startdir" > "$pkgdir"/etc/$pkgname/facts
    """
    manifest = Manifest(
        run=Run(services=(Service("web", "caddy", "/usr/sbin"),)),
        build=Build(command="mkdir bin; touch bin/caddy", destinations=("not-looked-at",)),
        package=script,
        source=("conf/extra.conf",),
    )
    files = {"Caddyfile": "caddy", "conf/extra.conf": "extra", "app.initd": "the application's own"}
    tree = packed(sandbox, manifest, files)
    assert (tree / "usr/sbin/caddy").is_file()
    assert (tree / "etc/app/facts").read_text() == "1.2.3 7 /mnt\n"
    # The application's own file of that name wins, and what the script installed is not replaced.
    assert (tree / "etc/init.d/app").read_text() == "the application's own"
    parts = {"run", "log", "finish", "environment", "env-exec"}
    assert parts <= {path.name for path in (tree / "var/lib/app").iterdir()}
    assert (tree / "var/lib/app").stat().st_uid == ACCOUNT
    # What the script left out, and the service needs, is there.
    composed = recipe.compose(manifest, PROJECT, snapshot_sha512="", source_sha512={"extra.conf": ""})
    targets = [file.target for file in composed.files if file.target is not None]
    assert targets
    assert all((tree / target.relative_to("/")).is_file() for target in targets)


@pytest.mark.alpine
def test_what_root_runs_belongs_to_root(sandbox: Sandbox) -> None:
    manifest = Manifest(run=Run(services=(Service("web", "app"),)), build=Build(destinations=("*",)))
    tree = packed(sandbox, manifest, APPLICATION)
    home = tree / "var/lib/app"
    for path in tree.rglob("*"):
        assert (path.lstat().st_uid == ACCOUNT) == path.is_relative_to(home), path
    assert (tree / "etc/init.d/app").read_text().startswith("#!/sbin/openrc-run\n")


@pytest.mark.alpine
@pytest.mark.parametrize("user", ["root", None])
def test_the_tree_belongs_to_whoever_the_service_runs_as(sandbox: Sandbox, user: str | None) -> None:
    run = Run(name="app", user=user, services=(Service("web", "app"),))
    tree = packed(sandbox, Manifest(build=Build(destinations=("bin",)), run=run), {"bin/app": "#!/bin/sh\n"})
    owner = ACCOUNT if user is None else 0
    for path in ("var/lib/app", "var/lib/app/bin", "var/lib/app/bin/app"):
        assert ((tree / path).lstat().st_uid, (tree / path).lstat().st_gid) == (owner, owner)


@pytest.mark.alpine
@pytest.mark.parametrize("bin_", [{"bin": "->/mnt/src"}, {"bin": "a file"}], ids=["link", "file"])
def test_nothing_is_installed_through_a_bin_of_the_applications_own(sandbox: Sandbox, bin_: dict[str, str]) -> None:
    run = Run(name="app", services=(Service("web", "sh", path="/bin"),))
    tree = packed(sandbox, Manifest(build=Build(destinations=("bin",)), run=run), bin_)
    assert not (sandbox.aport / "src/env-exec").exists()
    assert not (tree / "var/lib/app/bin").is_dir()
    assert (tree / "usr/libexec/app/env-exec").is_file()


@pytest.mark.alpine
@pytest.mark.parametrize("own", [True, False])
def test_a_site_is_served_by_its_own_configuration_or_by_ours(sandbox: Sandbox, own: bool) -> None:
    files = {"public/index.html": "hi", **({"nginx.conf": "# mine"} if own else {})}
    command = "umask 077; echo secretive > public/made.html; mkdir public/made"
    manifest = Manifest(type="static", build=Build(command=command, destinations=("public",)))
    tree = packed(sandbox, manifest, files)
    conf = (tree / "etc/app/default.conf").read_text()
    link = tree / "etc/nginx/http.d/app.conf"
    assert (conf == "# mine") is own
    assert ("root /var/lib/app/public;" in conf) is not own
    assert link.is_symlink() is not own
    assert own or link.readlink() == Path("/etc/app/default.conf")
    assert (tree / "var/lib/app/public/made.html").stat().st_mode & 0o777 == 0o644
    assert (tree / "var/lib/app/public/made").stat().st_mode & 0o777 == 0o755
    assert not (tree / "etc/init.d").exists()


FRAGMENTS = (
    *"'\"\n\r\t#\\*?[-;|&<>~é !\x7f",
    *("$(touch evil)", "`touch evil`", "${IFS}", "$HOME", ";touch evil;", "\ntouch evil\n", "\\'", ".."),
)
texts = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), max_size=6
).map("".join)
globs = texts.filter(lambda text: text.strip("/.") not in ("", "*") and not text.endswith("/."))
keys = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
file_names = texts.map(lambda text: text.replace("/", "")).filter(
    lambda name: name not in ("", ".", "..") and len(name.encode()) < 200
)

READ_BACK = r"""
set -e
startdir=/mnt srcdir=/mnt/src pkgdir=/mnt/pkg
. ./APKBUILD
say() { printf '%s\0' "$@"; }
say "$pkgdesc" "$license" "$maintainer" "$depends"
cd() { :; }
install() { :; }
chown() { :; }
env() { say "$@"; }
_drop() { say drop "$@"; }
_ship() { say ship "$@"; }
build
package
"""


@pytest.mark.alpine
@settings(max_examples=40)
@given(st.tuples(texts, texts, texts, texts), st.lists(globs, min_size=1, max_size=3), st.dictionaries(keys, texts))
def test_the_shell_reads_back_exactly_what_the_manifest_said(
    alpine_pristine: Path, etc: Path, four: tuple[str, str, str, str], globs: list[str], environment: dict[str, str]
) -> None:
    description, license_, maintainer, dependency = four
    manifest = Manifest(
        dependencies=Dependencies(runtime=(f"a{dependency}",)),
        build=Build("true", tuple(globs), exclude=tuple(globs), environment=environment),
        description=description,
        license=license_,
        maintainer=maintainer,
    )
    composed = recipe.compose(manifest, PROJECT, snapshot_sha512="0" * 128)
    with tempfile.TemporaryDirectory() as scratch:
        aport = Path(scratch)
        for file in composed.files:
            (aport / file.name).write_text(file.content, newline="")
        before = names(aport)
        done = Sandbox(alpine_pristine, aport, etc).run(READ_BACK)
        assert (done.returncode, done.stderr) == (0, b"")
        assert names(aport) == before
    said = done.stdout.decode().split("\0")
    one_line = [" ".join(text.split()) for text in (description, license_, maintainer)]
    assert said[0] == (one_line[0] or "app") or len(one_line[0].encode()) > recipe.DESCRIPTION_BYTES
    owner = f"{PROJECT.owner} <{PROJECT.owner}@users.noreply.github.com>"
    assert said[1:4] == [one_line[1] or recipe.LICENSE, one_line[2] or owner, f"a{dependency}"]
    start = said.index("drop")
    build = [*(f"{key}={environment[key]}" for key in sorted(environment)), "/bin/ash", "-e", "/mnt/src/app.build"]
    assert said[start - len(build) : start] == build
    plain = [str(PurePosixPath(glob)) for glob in globs]
    words = [*("drop", ".git", "drop", ".apk"), *(word for glob in plain for word in ("drop", glob))]
    assert said[start:-1] == [*words, *(word for glob in plain for word in ("ship", glob))]


@pytest.mark.alpine
@settings(max_examples=25)
@given(st.lists(file_names, min_size=1, max_size=4, unique=True))
def test_every_file_can_be_named_by_a_glob(alpine_pristine: Path, etc: Path, files: list[str]) -> None:
    def literal(name: str) -> str:
        return "".join({"\\": r"[\\]"}.get(sign, f"[{sign}]") if sign in "*?[\\" else sign for sign in name)

    for destinations in (tuple(map(literal, files)), ("*",)):
        with tempfile.TemporaryDirectory() as scratch:
            aport = Path(scratch) / "aport"
            aport.mkdir()
            manifest = Manifest(build=Build(destinations=destinations))
            tree = packed(Sandbox(alpine_pristine, aport, etc), manifest, dict.fromkeys(files, ""))
            assert names(tree / "var/lib/app") == set(files) - {".git", ".apk"}


@pytest.mark.alpine
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_roots_shell_parses_an_examples_recipe(sandbox: Sandbox, example: Path) -> None:
    for file in compose(example).files:
        if not file.name.endswith((".conf", ".awk")):
            (sandbox.aport / file.name).write_text(file.content)
    done = sandbox.run('for file in *; do /bin/sh -n "$file" || echo "$file"; done')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.shellcheck
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_shellcheck_finds_nothing_in_an_example_and_its_recipe(example: Path, tmp_path: Path) -> None:
    scripts = [path for path in example.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]
    for file in compose(example).files:
        path = tmp_path / file.name
        path.write_text(file.content)
        if file.content.startswith(("#!", "# shellcheck")):
            scripts.append(path)
    # SC1091: what a script of the service sources is there only once it is installed.
    argv = ["shellcheck", "--exclude=SC1091", *map(str, scripts)]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.alpine
def test_hello_web_answers_many_at_once(sandbox: Sandbox) -> None:
    example = next(example for example in EXAMPLES if example.name == "hello-web")
    subprocess.run(["cp", "-a", f"{example}/.", str(sandbox.aport)], check=True)
    written = compose(example)
    build = next(file.content for file in written.files if file.name == "hello-web.build")
    done = sandbox.run(
        """
        sh -e -c "$BUILD" && chmod 777 .
        bin/serve &
        until curl -s "$URL"; do sleep 0.1; done
        bin/migrate && bin/migrate
        # Somebody who connects and says nothing holds up nobody.
        sleep 9 | nc 127.0.0.1 "$PORT" &
        many=
        for number in 1 2 3 4 5 6 7 8 9 10; do
            curl -sf "$URL" -o "/tmp/$number" &
            many="$many $!"
        done
        curl -si "$URL"
        curl -sI "${URL}nothing"
        curl -s -d a=b "$URL"
        wait $many
        cat /tmp/? /tmp/10 | grep -c 'has schema 2'
        """,
        BUILD=build,
        URL=f"http://127.0.0.1:{(port := free_ports(1)[0])}/",
        PORT=str(port),
        pkgver="1.2.3",
        GREETING="Hello there",
    )
    said = done.stdout.decode()
    assert "<h1>Hello there</h1>\n<p>This is hello-web 1.2.3. Its data has schema 0.</p>" in said
    assert "data has schema 2\ndata has schema 2\nHTTP/1.1 200 OK\r\n" in said
    assert "This is hello-web 1.2.3. Its data has schema 2.</p>" in said
    assert "HTTP/1.1 404 Not Found\r\n" in said
    assert "Only GET and HEAD are answered.10\n" in said
