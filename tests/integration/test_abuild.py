"""The builder abuild, with real abuild: what it makes, beside what the embedded builder makes, and how it fails.

Neither PyPI nor Debian has abuild, so these tests take an image that has it: PAKMAN_TEST_ABUILD_IMAGE names one of
Alpine 3.23 with abuild, build-base and curl, which is what pakman's own image is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pakman import generate, signing, stack
from pakman.apk.index import write_index
from pakman.apk.read import Control, PackageFile, read_package
from pakman.builders import abuild
from pakman.builders.driver import compiling
from pakman.buildroots.sandbox import Sandbox
from pakman.errors import BuildError
from pakman.manifest import Build, Dependencies, Manifest, Run, Service
from pakman.repository import Repository
from tests.building import PROJECT, Builds, manifest
from tests.engine import Engine
from tests.integration.conftest import CACHE, AlpineRoot
from tests.packages import METADATA, pack
from tests.test_examples import EXAMPLES, read

pytestmark = [pytest.mark.alpine, pytest.mark.docker]

KEY = signing.generate("acme-shop.rsa.pub")
SECRETS = {"AWS_SECRET_ACCESS_KEY": "secret-seen-1", "PAKMAN_SIGNING_KEY": "secret-seen-2"}


@pytest.fixture(scope="session")
def image(docker_engine: Engine, abuild_image: str) -> str:
    """An image that has abuild."""
    if not abuild_image:
        pytest.skip("PAKMAN_TEST_ABUILD_IMAGE names no image that has abuild, and no registry here has abuild")
    assert docker_engine.has_image(abuild_image), f"PAKMAN_TEST_ABUILD_IMAGE: there is no image {abuild_image}"
    return abuild_image


@pytest.fixture(scope="session")
def rootfs(docker_engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The same root as an archive for the sandbox."""
    folder = tmp_path_factory.mktemp("rootfs")
    container = docker_engine.ask("create", "--network", "none", image, "true")
    try:
        script = 'docker export "$0" | gzip -1 >"$1/root.tar.gz"'
        subprocess.run(["sh", "-ec", script, container, str(folder)], check=True, env=docker_engine.env)
    finally:
        docker_engine.ask("rm", container)
    yield folder / "root.tar.gz"
    shutil.rmtree(folder)


@pytest.fixture
def builds(docker_engine: Engine, image: str, tmp_path: Path) -> Builds:
    """Builds with abuild in containers of the image."""
    source = tmp_path / "source"
    (source / "app").mkdir(parents=True)
    (source / "app/page.html").write_text("hello")
    found = stack.find("alpine/3.23")
    assert found is not None
    arguments = {
        "builder": "abuild",
        "build_root": "docker",
        "stack": found._replace(build_images=(image,)),
        "env": {**docker_engine.env, **SECRETS},
    }
    return Builds(source, tmp_path / "cache", KEY, arguments=arguments)


def of(example: Path, builds: Builds, tmp_path: Path) -> tuple[Builds, Manifest]:
    """Return builds of a copy of an example, and its manifest."""
    source = tmp_path / example.name
    shutil.copytree(example, source)
    return replace(builds, source=source), read(example)


def warnings(builds: Builds) -> list[str]:
    """Return what abuild warned of, and the notices that it became."""
    return [line for line in builds.lines if ">>> WARNING" in line or line.startswith("notice: abuild:")]


# What differs between the builders, and why; everything else in a package is the same.
DIFFERENCES = {"datahash": "the digest of compressed bytes, and gzip and zlib compress the same content differently"}

NASTY = manifest(
    package="""
        mkdir -p "$pkgdir/usr/bin" "$pkgdir/usr/lib" "$pkgdir/usr/share/shop/deep/er" "$pkgdir/var/lib/shop/data"
        printf 'int main(void) { return 7; }\\n' >main.c
        gcc -g -o "$pkgdir/usr/bin/shop" main.c
        ln "$pkgdir/usr/bin/shop" "$pkgdir/usr/bin/same"
        ln -s ../bin/shop "$pkgdir/usr/share/shop/link"
        ln -s nowhere/$(printf %0120d 7) "$pkgdir/usr/share/shop/long"
        printf x >"$pkgdir/usr/share/shop/ünï cödé"
        printf x >"$pkgdir/usr/share/shop/$(printf %0200d 7)"
        printf x >"$pkgdir/usr/share/shop/.hidden"
        mkfifo "$pkgdir/usr/share/shop/fifo"
        chmod 2750 "$pkgdir/var/lib/shop/data"
        chmod 600 "$pkgdir/usr/share/shop/.hidden"
        chown shop:daemon "$pkgdir/var/lib/shop/data"
        install -Dm644 app/page.html "$pkgdir/etc/shop/page.html"
        touch "$pkgdir/usr/lib/libshop.la"
        install -m750 "$pkgdir/usr/bin/shop" "$pkgdir/usr/bin/capable"
        strip "$pkgdir/usr/bin/capable"
        ! command -v setcap || setcap cap_net_bind_service=+ep "$pkgdir/usr/bin/capable"
    """,
    run=Run(name="shop", services=(Service(name="web", binary="serve"),)),
    hook={"post-install": "true"},
)


def same(one: Repository, other: Repository) -> None:
    """Hold the packages of two repositories against each other."""
    assert [package.path.name for package in one.packages] == [package.path.name for package in other.packages]
    for ours, theirs in zip(one.packages, other.packages, strict=True):
        (control, files), (other_control, other_files) = read_package(ours.path), read_package(theirs.path)
        fields, other_fields = asdict(control.metadata), asdict(other_control.metadata)
        assert {key for key in fields if fields[key] != other_fields[key]} == set(DIFFERENCES), ours.name
        assert [_sorted(file) for file in files] == [_sorted(file) for file in other_files]
        assert dict(control.scripts) == dict(other_control.scripts)


def _sorted(file: PackageFile) -> PackageFile:
    """Return a file with its attributes in one order: each file system has its own."""
    return replace(file, xattrs=tuple(sorted(file.xattrs)))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_is_the_same_package_from_either_builder_and_apk_takes_it(
    builds: Builds, alpine_root: AlpineRoot, tmp_path: Path, example: Path
) -> None:
    builds, wanted = of(example, builds, tmp_path)
    project = replace(PROJECT, name=example.name, slug=example.name)
    made = builds.run(wanted, tmp_path / "abuild", project=project)
    assert warnings(builds) == []
    assert any("Entering fakeroot..." in line for line in builds.lines)
    same(made, builds.run(wanted, tmp_path / "embedded", project=project, builder="embedded"))
    shutil.copytree(made.directory, alpine_root.path / "repository")
    shutil.copy(made.public_key, alpine_root.path / "etc/apk/keys")
    # What hello-static depends on, which the root does not have.
    nginx = replace(METADATA, pkgname="nginx", origin="nginx", arch=made.arch)
    beside = alpine_root.path / "beside" / made.arch
    (tmp_path / "empty").mkdir()
    beside.mkdir(parents=True)
    pack(beside / "nginx-1.2.3-r4.apk", tmp_path / "empty", metadata=nginx, signed_by=KEY)
    write_index(beside / "APKINDEX.tar.gz", [beside / "nginx-1.2.3-r4.apk"], [KEY], "beside")
    alpine_root.sh("apk verify /repository/*/*.apk")
    alpine_root.sh(f"apk add --no-network --repository /repository --repository /beside {example.name}")
    assert alpine_root.sh(f"apk info --installed {example.name}").strip() == example.name
    assert alpine_root.sh(f"apk audit --packages --system {example.name} || true") == ""


def test_whatever_is_in_a_package_is_the_same_from_either_builder(builds: Builds, tmp_path: Path) -> None:
    made = builds.run(NASTY, tmp_path / "abuild")
    assert warnings(builds) == []
    same(made, builds.run(NASTY, tmp_path / "embedded", builder="embedded"))
    files = {file.path.decode(): file for file in read_package(made.packages[0].path)[1]}
    data = files["var/lib/shop/data"]
    assert (data.mode & 0o7777, data.owner, data.group) == (0o2750, b"shop", b"daemon")


def test_compilers_are_told_the_same_by_either_builder(builds: Builds, tmp_path: Path) -> None:
    names = "|".join(compiling(threads=1))
    wanted = manifest(f"env | grep -E '^({names})=' | sort >app/told; test $(wc -l <app/told) = {names.count('|') + 1}")
    same(builds.run(wanted, tmp_path / "abuild"), builds.run(wanted, tmp_path / "embedded", builder="embedded"))


def test_the_same_commit_gives_the_same_bytes_in_either_root(builds: Builds, rootfs: Path, tmp_path: Path) -> None:
    wanted = manifest("mkdir app/x; touch app/x/{b,a}; ln -s x app/link", run=Run(name="shop"))
    first = builds.run(wanted, tmp_path / "one")
    time.sleep(1.1)
    second = builds.run(wanted, tmp_path / "two")
    sandbox = replace(builds, cache=CACHE).run(wanted, tmp_path / "three", build_root="sandbox", rootfs=rootfs)
    for package in first.packages:
        for repository in (second, sandbox):
            assert (repository.index.parent / package.path.name).read_bytes() == package.path.read_bytes()


SEEN = """
env -0 >app/environment
cat /proc/[0-9]*/environ >app/environments 2>/dev/null || true
find / -xdev -name '*.rsa' >app/keys 2>/dev/null || true
set -- --exclude-dir=proc --exclude-dir=sys --exclude-dir=dev
grep -rlE 'secret-seen|PRIVATE KEY' "$@" / >app/files 2>/dev/null || true
id -un >app/user
id -Gn >app/groups
for file in "$startdir/APKBUILD" "$startdir/x" "$ABUILD_USERDIR/abuild.conf" /etc/apk/keys/x /usr/bin/abuild; do
	{ echo x >"$file"; } 2>/dev/null && exit 1
done
ls -A /pakman /etc/apk/keys >app/listing
"""


def test_a_build_sees_no_secret_and_no_key_but_its_own(builds: Builds, tmp_path: Path) -> None:
    made = builds.run(manifest(SEEN), tmp_path / "out")
    subprocess.run(["tar", "-xzf", made.packages[0].path, "-C", tmp_path, "var"], check=True, stderr=subprocess.DEVNULL)
    app = tmp_path / "var/lib/shop/app"
    assert "secret-seen" not in (app / "environment").read_text() + (app / "environments").read_text(errors="replace")
    # The key that abuild needs: made for this build, trusted by nobody.
    assert (app / "keys").read_text() == "/pakman/abuild/pakman.rsa\n"
    found = {line for line in (app / "files").read_text().splitlines() if "/lib/" not in line and "/bin/" not in line}
    ours = ("/pakman/aport/shop.build", "/pakman/aport/shop-1.0.0.tar", "/pakman/abuild/pakman.rsa")
    assert found <= {*ours, "/pakman/work/src/shop-1.0.0/app/environments"}, found
    assert (app / "user").read_text() == "pakman-build\n"
    assert "abuild" not in (app / "groups").read_text().split()
    assert not [line for line in (app / "listing").read_text().splitlines() if line.startswith(("pakman.rsa", "acme"))]


FAILURES: list[tuple[Manifest, str, str]] = [
    (
        manifest("echo one; echo two >&2\nexit 7"),
        r"the build command `echo one; echo two >&2 …` failed: exit status 7",
        "its last lines:\n  one\n  two",
    ),
    (manifest("kill -SEGV $$"), r"the build command `kill -SEGV \$\$` failed: killed by SIGSEGV", ""),
    (
        manifest("", "nothing"),
        "^build.destinations: 'nothing' matches nothing",
        "name what build.command leaves behind",
    ),
    (manifest(package="echo so; exit 3"), r"package\(\) failed: exit status 3", "its last lines:\n  so"),
    (manifest(package='rm -rf "${pkgdir:?}"/*'), r"shop would be empty: package\(\) put nothing into it", ""),
    (
        manifest(package='install -d "$pkgdir/x"; : /etc/init.d'),
        r"shop-openrc would be empty: package\(\) installs no init script",
        "build.destinations",
    ),
    (
        manifest(
            package='install -Dm4755 /bin/busybox "$pkgdir/usr/bin/x"; install -Dm644 app/page.html "$pkgdir/opt/y"'
        ),
        r"postcheck: Packages must not put anything under /opt; Found executable files with SUID bit set: /usr/bin/x",
        "/var/lib/NAME",
    ),
    (
        manifest(dependencies=Dependencies(build=("no-such-package",))),
        r"the build needs no-such-package",
        "",
    ),
    (
        manifest(
            dependencies=Dependencies(trace=True),
            package="""
                echo 'int f(void) { return 0; }' >f.c
                echo 'int main(void) { return 0; }' >main.c
                gcc -shared -fPIC -Wl,-soname,libmine.so.1 -o libmine.so.1 f.c
                gcc -Wl,--no-as-needed -o main main.c ./libmine.so.1
                install -D main "$pkgdir/usr/bin/main"
            """,
        ),
        r"dependencies: shop is linked to libmine.so.1, and nothing in the build root has it",
        "dependencies.trace",
    ),
]


@pytest.mark.parametrize(("wrong", "message", "hint"), FAILURES, ids=[case[1] for case in FAILURES])
def test_a_failure_names_its_step_and_shows_the_lines_that_matter(
    builds: Builds, tmp_path: Path, wrong: Manifest, message: str, hint: str
) -> None:
    with pytest.raises(BuildError, match=message) as caught:
        builds.run(wrong, tmp_path / "out")
    assert hint in caught.value.hint
    assert not any((tmp_path / "out").iterdir())


def test_a_source_that_was_changed_is_refused(builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tampered(root: Any, aport: Path, *args: Any, **kwargs: Any) -> Any:
        (aport / "shop.build").write_text("echo something else\n")
        return real(root, aport, *args, **kwargs)

    real = abuild.build
    monkeypatch.setattr(abuild, "build", tampered)
    with pytest.raises(BuildError, match=r"shop\.build is not the file that sha512sums in the APKBUILD names"):
        builds.run(manifest("true"), tmp_path / "out")


def test_another_architecture_is_not_built_for(builds: Builds, tmp_path: Path) -> None:
    made = builds.run(manifest(architectures=("s390x",)), tmp_path / "out")
    assert made.packages == ()
    assert not any("Entering fakeroot" in line for line in builds.lines)


@pytest.mark.parametrize("first", ["validate", "sanitycheck"])
def test_an_abuild_that_ends_well_without_a_package_is_quoted(
    builds: Builds, rootfs: Path, tmp_path: Path, first: str
) -> None:
    generate.generate(manifest("true"), PROJECT, builds.source, tmp_path / "aport")
    with Sandbox(rootfs, CACHE, os.environ) as root:
        program = root.path / "usr/bin/abuild"
        program.write_text(f"#!/bin/sh\n{first}() {{ :; }}\nmkdir -p $REPODEST\necho nothing to do of $*\n")
        with pytest.raises(BuildError, match=r"abuild ended well and made no shop-1\.0\.0-r0\.apk") as caught:
            abuild.build(
                root, tmp_path / "aport", tmp_path, keys=[KEY], mtime=0, commit=None, threads=1,
                on_line=print, on_notice=print,
            )  # fmt: skip
    assert caught.value.hint == f"its last lines:\n  nothing to do of -d -m {first} unpack prepare build rootpkg"


def test_what_abuild_warns_of_is_a_notice(builds: Builds, tmp_path: Path) -> None:
    builds.run(manifest(package='install -D app/page.html "$pkgdir/bin/x"'), tmp_path / "out")
    said = "notice: abuild: Packages must not put anything under /bin, use /usr/bin instead"
    assert said in builds.lines


def test_a_service_whose_program_is_not_there_is_a_notice(builds: Builds, tmp_path: Path) -> None:
    wanted = manifest(run=Run(name="shop", services=(Service(name="web", binary="serve"),)))
    builds.run(wanted, tmp_path / "out")
    assert any("/var/lib/shop/bin/serve is no program in the package" in line for line in builds.lines)


def traced(control: Control, files: tuple[PackageFile, ...]) -> tuple[set[str], set[str], bool]:
    """Return what a package depends on, what it provides, and whether it has a program."""
    return set(control.metadata.depends), set(control.metadata.provides), any(f.path == b"usr/bin/main" for f in files)


def test_dependencies_are_traced(builds: Builds, tmp_path: Path) -> None:
    wanted = Manifest(
        stack="alpine/3.23",
        dependencies=Dependencies(trace=True),
        build=Build(),
        package="""
            echo 'extern const char *zlibVersion(void); int main(void) { return !zlibVersion(); }' >main.c
            gcc -o main main.c -L/usr/lib -l:libz.so.1
            install -D main "$pkgdir/usr/bin/main"
        """,
    )
    made = builds.run(wanted, tmp_path / "out")
    depends, provides, has_program = traced(*read_package(made.packages[0].path))
    assert depends == {"/bin/sh", "so:libz.so.1", f"so:libc.musl-{made.arch}.so.1"}
    assert provides == {"cmd:main=1.0.0-r0"}
    assert has_program


def test_keep_leaves_abuilds_tree(builds: Builds, rootfs: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        builds.run(
            manifest("echo half >app/made; exit 1"), tmp_path / "out", keep=True, build_root="sandbox", rootfs=rootfs
        )
    kept = Path(caught.value.hint.rpartition("the build tree is kept in ")[2])
    assert (kept / "work/src/shop-1.0.0/app/made").read_text() == "half\n"
