"""The recipe is what the manifest says, no value of it is shell, and its directory holds nothing else."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tarfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman import generate, manifest, recipe
from pakman.errors import ManifestError, PakmanError, UsageError
from pakman.manifest import HOOKS, Build, Command, Dependencies, Manifest, Run, Service
from pakman.project import Project
from pakman.recipe import Recipe
from pakman.templating import ash_word

PROJECT = Project("acme", "Web_Shop", "web-shop", "c" * 40, 1_700_000_000, "1.2.3", 7, "tag v1.2.3")
SERVICE = Run(name="shop", services=(Service("web", "serve"),))
SHIPPED = Manifest(build=Build(destinations=("dist",)))


def composed(manifest: Manifest, project: Project = PROJECT) -> Recipe:
    checksums = {path.name: "b" * 128 for path in recipe.extra_sources(manifest, project)}
    return recipe.compose(manifest, project, snapshot_sha512="a" * 128, source_sha512=checksums)


def content(written: Recipe, name: str = recipe.APKBUILD) -> str:
    return next(file.content for file in written.files if file.name == name)


def value(manifest: Manifest, variable: str) -> str:
    """Return what an APKBUILD's line assigns, as a shell reads it."""
    lines = content(composed(manifest)).splitlines()
    words = [shlex.split(line) for line in lines if line.startswith(f"{variable}=")]
    assert len(words) == 1
    assert len(words[0]) == 1
    return words[0][0].removeprefix(f"{variable}=")


@pytest.mark.parametrize(
    ("manifest", "variable", "expected"),
    [
        (SHIPPED, "pkgname", "web-shop"),
        (replace(SHIPPED, run=SERVICE), "pkgname", "shop"),
        (SHIPPED, "pkgver", "1.2.3"),
        (SHIPPED, "pkgrel", "7"),
        (SHIPPED, "pkgdesc", "web-shop"),
        (replace(SHIPPED, description="A  shop\nfor\tall "), "pkgdesc", "A shop for all"),
        (replace(SHIPPED, description='a "b" $(touch x) `touch y`'), "pkgdesc", 'a "b" $(touch x) `touch y`'),
        (SHIPPED, "url", "https://github.com/acme/Web_Shop"),
        (replace(SHIPPED, url="https://shop.example/#top"), "url", "https://shop.example/#top"),
        (SHIPPED, "license", "LicenseRef-unspecified"),
        (replace(SHIPPED, license="MIT OR (Apache-2.0)"), "license", "MIT OR (Apache-2.0)"),
        (SHIPPED, "maintainer", "acme <acme@users.noreply.github.com>"),
        (replace(SHIPPED, maintainer="Ada L. <ada@example.com>"), "maintainer", "Ada L. <ada@example.com>"),
        (SHIPPED, "arch", "all"),
        (replace(SHIPPED, architectures=("x86_64", "aarch64")), "arch", "x86_64 aarch64"),
        (replace(SHIPPED, dependencies=Dependencies(build=("npm", "go", "npm"))), "makedepends", "npm go"),
        (SHIPPED, "options", "!check !tracedeps !archcheck"),
        (replace(SHIPPED, dependencies=Dependencies(trace=True)), "options", "!check !archcheck"),
        (replace(SHIPPED, architectures=("noarch",)), "options", "!check !tracedeps"),
        (
            replace(SHIPPED, build=Build(command="npm ci", strip_binary=False)),
            "options",
            "!check !tracedeps !strip !archcheck net",
        ),
        (replace(SHIPPED, package='setcap x=+ep "$pkgdir"/a'), "options", "!check !tracedeps !archcheck setcap"),
    ],
)
def test_a_variable_of_the_apkbuild_is_what_the_manifest_says(manifest: Manifest, variable: str, expected: str) -> None:
    assert value(manifest, variable) == expected


@pytest.mark.parametrize(
    ("kind", "run", "runtime", "expected"),
    [
        (None, None, (), ""),
        (None, None, ("ruby>=3", "ruby>=3"), "ruby>=3"),
        (None, SERVICE, (), "curl shop-openrc=1.2.3-r7"),
        (None, SERVICE, ("ruby", "curl>=8", "shop-openrc"), "ruby curl>=8 shop-openrc=1.2.3-r7"),
        (None, SERVICE, ("shop-openrc>=1", "shop-openrc=0.1-r0"), "curl shop-openrc=1.2.3-r7"),
        (None, SERVICE, ("other-openrc",), "other-openrc curl shop-openrc=1.2.3-r7"),
        (None, Run(commands=(Command("migrate", "m"),)), (), "curl web-shop-openrc=1.2.3-r7"),
        ("static", Run(name="shop"), (), "nginx"),
        ("static", SERVICE, ("nginx>1",), "nginx>1 curl shop-openrc=1.2.3-r7"),
        ("custom", None, ("bash",), "bash"),
    ],
)
def test_runtime_dependencies_are_completed(
    kind: str | None, run: Run | None, runtime: tuple[str, ...], expected: str
) -> None:
    manifest = Manifest(type=kind, run=run, dependencies=Dependencies(runtime=runtime))  # type: ignore[arg-type]
    assert value(manifest, "depends") == expected
    assert ('subpackages="$pkgname-openrc"' in content(composed(manifest))) == ("-openrc=1.2.3" in expected)


def test_a_package_script_with_an_init_script_of_its_own_gets_the_openrc_package() -> None:
    script = 'install -Dm755 web.initd "$pkgdir"/etc/init.d/web-shop\n'
    assert value(Manifest(package=script), "depends") == "web-shop-openrc=1.2.3-r7"


@pytest.mark.parametrize("text", ["word " * 60, "w" * 300, "ü" * 100, "🎉" * 40, "a" * 126 + " b"])
def test_a_long_description_is_cut_to_what_abuild_takes(text: str) -> None:
    short = value(replace(SHIPPED, description=text), "pkgdesc")
    assert 100 < len(short.encode()) <= 127
    assert short.endswith("…")
    assert text.startswith(short.removesuffix("…"))


def test_a_description_that_just_fits_is_left_alone() -> None:
    assert value(replace(SHIPPED, description="d" * 127), "pkgdesc") == "d" * 127


def test_scripts_are_files_of_their_own_as_they_were_written() -> None:
    script = "echo '`$(x)`'\n\tcat <<EOF\n$a\nEOF"
    manifest = Manifest(build=Build(command=script), package=script, hook=dict.fromkeys(HOOKS, script))
    written = composed(manifest)
    assert content(written, "web-shop.build") == script
    assert content(written, "web-shop.package") == script
    assert script not in content(written)
    for hook in HOOKS:
        assert script in content(written, f"web-shop.{hook}")


def test_every_file_is_named_and_checksummed() -> None:
    written = composed(Manifest(run=SERVICE, build=Build(command="make"), package="x", source=("Caddyfile",)))
    apkbuild = content(written)
    sources = re.search(r'^source="\n(.*?)\n\t"$', apkbuild, re.MULTILINE | re.DOTALL)
    assert sources is not None
    named = sources[1].replace("$pkgname-$pkgver", written.top).split()
    checksums = re.findall(r"^([0-9a-f]{128})  (\S+)$", apkbuild, re.MULTILINE)
    # abuild compares them in this order.
    assert [name for _, name in checksums] == named
    assert named[0] == written.snapshot == "shop-1.2.3.tar"
    by_name = {file.name: file for file in written.files}
    for digest, name in checksums[1:]:
        if name in by_name:
            assert digest == hashlib.sha512(by_name[name].content.encode()).hexdigest()
    scripts = {name for name in by_name if name.rpartition(".")[2] in HOOKS}
    assert set(named) == (set(by_name) - scripts - {"APKBUILD"}) | {written.snapshot, "Caddyfile"}
    assert scripts == set(re.findall(r"^\t(shop\.(?:pre|post)-\w+)$", apkbuild, re.MULTILINE))


def test_the_account_is_made_even_without_a_service() -> None:
    assert "web-shop.pre-install" in {file.name for file in composed(SHIPPED).files}


def test_a_package_script_finds_the_files_that_older_manifests_install() -> None:
    names = {file.name for file in composed(Manifest(run=SERVICE, package="true")).files}
    assert {f"shop.{suffix}" for suffix in ("initd", "run", "environment", "env-exec", "log", "finish")} <= names
    assert "shop.log" not in {file.name for file in composed(replace(SHIPPED, run=SERVICE)).files}


@pytest.mark.parametrize(
    ("destinations", "lines"),
    [
        (("dist",), ["_ship dist"]),
        (("./dist/", "a b"), ["_ship dist", "_ship 'a b'"]),
        (("*",), ["_ship '*' '.[!.]*' '..?*'"]),
        (("dist/*",), ["_ship 'dist/*'"]),
        (("dist/.",), ["_ship 'dist/*' 'dist/.[!.]*' 'dist/..?*'"]),
    ],
)
def test_what_a_destination_means(destinations: tuple[str, ...], lines: list[str]) -> None:
    apkbuild = content(composed(Manifest(build=Build(destinations=destinations))))
    assert re.findall(r"^\t(_ship .*)$", apkbuild, re.MULTILINE) == lines


def test_what_is_excluded_is_dropped_before_anything_is_shipped() -> None:
    apkbuild = content(composed(Manifest(build=Build(destinations=("*",), exclude=("node_modules/.cache",)))))
    steps = re.findall(r"^\t(_drop|_ship) (\S+)", apkbuild, re.MULTILINE)
    assert steps == [("_drop", ".git"), ("_drop", ".apk"), ("_drop", "node_modules/.cache"), ("_ship", "'*'")]


@pytest.mark.parametrize(
    ("destination", "root"),
    [
        ("dist", "/var/lib/site/dist"),
        ("_site/public", "/var/lib/site/public"),
        ("dist/*", "/var/lib/site"),
        ("index.html", "/var/lib/site"),
        ("*", "/var/lib/site"),
    ],
)
def test_the_root_of_a_site(destination: str, root: str) -> None:
    manifest = Manifest(type="static", run=Run(name="site"), build=Build(destinations=(destination,)))
    assert f"root {root};" in content(composed(manifest), "site.nginx.conf")


@pytest.mark.parametrize(
    ("kits", "port"),
    [
        ((), 80),
        (({"name": "a", "ports": [{"target": 1}]},), 80),
        (({"name": "a", "main": True},), 80),
        (({"name": "b"}, {"main": True, "ports": [{"target": 1}, {"target": 3000, "main": True}]}), 3000),
        (({"main": True, "ports": [{"name": "web", "target": 8080}]},), 8080),
    ],
)
def test_the_port_of_a_site_is_the_main_kits_main_port(kits: tuple[dict[str, object], ...], port: int) -> None:
    conf = content(composed(replace(SHIPPED, type="static", kits=kits)), "web-shop.nginx.conf")
    assert f"listen {port};" in conf
    assert f"listen [::]:{port};" in conf


def test_sources_may_say_the_packages_name_and_version_and_leave_out_what_is_there_anyway() -> None:
    manifest = Manifest(source=("$pkgname.initd", "conf/${pkgname}-$pkgver.ini", "$pkgname-$pkgver.tar", "$pkgnames"))
    with pytest.raises(ManifestError, match=r"\$pkgnames"):
        recipe.extra_sources(manifest, PROJECT)
    found = recipe.extra_sources(replace(manifest, source=manifest.source[:3]), PROJECT)
    assert found == (PurePosixPath("conf/web-shop-1.2.3.ini"),)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (("https://example.com/a.tar.gz",), "is a URL"),
        (("a.tgz::https://example.com/a",), "is a URL"),
        (("../secret",), "cannot be a file beside"),
        (("/etc/passwd",), "cannot be a file beside"),
        (("a b",), "cannot be a file beside"),
        (("$(touch x)",), "cannot be a file beside"),
        (("a/conf", "b/conf"), "a/conf and b/conf would be one file"),
    ],
)
def test_sources_that_cannot_be(source: tuple[str, ...], message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        composed(Manifest(source=source))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (replace(SHIPPED, description="a\0b"), "APKBUILD would hold a NUL"),
        (Manifest(build=Build(command="echo \0")), "web-shop.build would hold a NUL"),
        (replace(SHIPPED, description="a\ud800b"), r"APKBUILD would hold half a character, '\\ud800'"),
        (Manifest(build=Build(command="echo \udfff")), "web-shop.build would hold half a character"),
    ],
)
def test_text_that_no_file_can_hold(manifest: Manifest, message: str) -> None:
    with pytest.raises(ManifestError, match=message) as caught:
        composed(manifest)
    assert caught.value.hint


ATTACKS = (
    *"'\"\n\r\t#\\*[-;|~é",
    *("$(touch x)", "`touch y`", "${IFS}", "..", "# Maintainer: ", "\nsha512sums='", "{{ x }}", "{% x %}"),
)
nasty = st.lists(st.sampled_from(ATTACKS) | st.text(max_size=8), max_size=6).map("".join)


@given(nasty)
def test_a_word_is_one_line_without_comment_signs(text: str) -> None:
    word = ash_word(text)
    assert "\n" not in word
    assert not re.search("# *Maintainer", word)
    # Python's shlex knows no $'…'; everything else is one word to it, and the same.
    if "\n" not in text:
        assert shlex.split(word) == [text]


@given(nasty, nasty, st.lists(nasty.filter(bool), min_size=1, max_size=3), nasty)
def test_no_value_changes_the_shape_of_the_apkbuild(
    description: str, license_: str, globs: list[str], text: str
) -> None:
    def manifest(description: str, license_: str, globs: list[str], text: str) -> Manifest:
        build = Build(command="make", destinations=tuple(globs), exclude=tuple(globs), environment={"A": text})
        return Manifest(description=description, license=license_, build=build)

    try:
        attacked = content(composed(manifest(description, license_, globs, text))).split("\n")
    except PakmanError:
        return
    plain = content(composed(manifest("d", "l", ["g"] * len(globs), "t"))).split("\n")
    assert [line[:2] for line in attacked] == [line[:2] for line in plain]


def application(directory: Path) -> Path:
    source = directory / "application"
    (source / ".git").mkdir(parents=True)
    (source / ".git/config").write_text("secret")
    (source / "conf").mkdir()
    (source / "conf/app.ini").write_text("ini")
    (source / "dist").write_text("dist")
    return source


def tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mode & 0o777, path.read_bytes()) for path in directory.iterdir()}


def test_what_is_only_tested_changes_nothing_that_is_packed() -> None:
    plain = replace(SHIPPED, run=SERVICE)
    tested = replace(plain, test=manifest.Test("curl -f localhost", ("jq",), {"PORT": "8080"}))
    assert composed(tested) == composed(plain)


FULL = replace(SHIPPED, run=SERVICE, source=("conf/app.ini",), hook={"post-upgrade": "true\n"})


def test_generating_twice_gives_the_same_files(tmp_path: Path) -> None:
    source = application(tmp_path)
    written = generate.generate(FULL, PROJECT, source, tmp_path / "out")
    first = tree(tmp_path / "out")
    assert set(first) == {file.name for file in written.files} | {written.snapshot, "app.ini"}
    assert first["shop.initd"][0] == 0o755
    assert first["APKBUILD"][0] == first["app.ini"][0] == first[written.snapshot][0] == 0o644
    umask = os.umask(0o077)
    try:
        generate.generate(FULL, PROJECT, source, tmp_path / "out")
    finally:
        os.umask(umask)
    assert tree(tmp_path / "out") == first


def test_the_checksums_are_those_of_the_files(tmp_path: Path) -> None:
    generate.generate(FULL, PROJECT, application(tmp_path), tmp_path / "out")
    for digest, name in re.findall(r"^([0-9a-f]{128})  (\S+)$", (tmp_path / "out/APKBUILD").read_text(), re.MULTILINE):
        assert hashlib.sha512((tmp_path / "out" / name).read_bytes()).hexdigest() == digest


def test_what_an_earlier_run_wrote_goes_and_what_abuild_left_stays(tmp_path: Path) -> None:
    source, output = application(tmp_path), tmp_path / "out"
    generate.generate(FULL, PROJECT, source, output)
    (output / "src").mkdir()
    (output / "fi").write_text("mine")
    (output / ".generating-killed").mkdir()
    generate.generate(SHIPPED, replace(PROJECT, version="2.0"), source, output)
    assert {path.name for path in output.iterdir()} == {
        "APKBUILD",
        "web-shop-2.0.tar",
        "web-shop.pre-install",
        "src",
        "fi",
    } | {file.name for file in composed(SHIPPED).files}


def test_what_a_killed_first_run_left_does_not_stop_the_next(tmp_path: Path) -> None:
    (tmp_path / "out/.generating-killed").mkdir(parents=True)
    generate.generate(SHIPPED, PROJECT, application(tmp_path), tmp_path / "out")
    assert not list((tmp_path / "out").glob(".generating-*"))


def test_what_is_ours_by_half_a_name_stays(tmp_path: Path) -> None:
    generate.generate(SHIPPED, PROJECT, application(tmp_path), tmp_path / "out")
    (tmp_path / "out/.pakman-cache").mkdir()
    generate.generate(SHIPPED, PROJECT, application(tmp_path / "again"), tmp_path / "out")
    assert (tmp_path / "out/.pakman-cache").is_dir()


def test_a_directory_inside_the_application_is_not_part_of_the_snapshot(tmp_path: Path) -> None:
    source = application(tmp_path)
    for _ in range(2):
        written = generate.generate(SHIPPED, PROJECT, source, source / "aport")
    with tarfile.open(source / "aport" / written.snapshot) as tar:
        names = tar.getnames()
    assert f"{written.top}/dist" in names
    assert not [name for name in names if "aport" in name or ".git" in name]


def test_the_project_s_private_keys_are_not_part_of_the_snapshot(tmp_path: Path) -> None:
    source = application(tmp_path)
    for name in ("acme-web.shop.rsa", "acme-web.shop-5f3a9c01.rsa", "acme-web.shopping.rsa", "acme-web.shop.rsa.pub"):
        (source / name).write_text("a key")
    project = replace(PROJECT, owner="acme", name="web.shop")
    written = generate.generate(SHIPPED, project, source, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / written.snapshot) as tar:
        found = {Path(name).name for name in tar.getnames() if ".rsa" in name}
    assert found == {"acme-web.shopping.rsa", "acme-web.shop.rsa.pub"}


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    source = application(tmp_path)
    for mine in (".pakman-cache", ".generating-mine"):
        (source / mine).mkdir()
    before = sorted(source.rglob("*"))
    with pytest.raises(UsageError, match="is not empty, and what is in it was not written by pakman"):
        generate.generate(SHIPPED, PROJECT, source, source)
    (source / "APKBUILD").write_text("pkgname=mine\n")
    with pytest.raises(UsageError, match="was not written by pakman"):
        generate.generate(SHIPPED, PROJECT, source, source)
    assert sorted(source.rglob("*")) == sorted([*before, source / "APKBUILD"])
    assert (source / "APKBUILD").read_text() == "pkgname=mine\n"


def test_an_output_that_cannot_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written: ") as caught:
        generate.generate(SHIPPED, PROJECT, application(tmp_path), tmp_path / "application/dist/out")
    assert "--output" in caught.value.hint


def test_a_refused_manifest_leaves_the_earlier_recipe_as_it_was(tmp_path: Path) -> None:
    source = application(tmp_path)
    generate.generate(FULL, PROJECT, source, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(ManifestError):
        generate.generate(replace(FULL, source=("gone",)), PROJECT, source, tmp_path / "out")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize("entry", ["gone", "conf", "outside", "loop"])
def test_a_source_that_is_no_file_of_the_application(tmp_path: Path, entry: str) -> None:
    source = application(tmp_path)
    (source / "outside").symlink_to("/etc/passwd")
    (source / "loop").symlink_to("loop")
    with pytest.raises(ManifestError, match=f"source: there is no file {entry} in "):
        generate.generate(replace(SHIPPED, source=(entry,)), PROJECT, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("slug", "reason", "fits"),
    [
        ("root", "every Alpine machine has a user", "root-app"),
        ("2048", "digits", "2048-app"),
        ("shop-2", "read as the package's version", "shop2"),
        ("a" * 33, "at most 32 characters", "a" * 32),
    ],
)
def test_a_repository_whose_name_no_package_can_have(slug: str, reason: str, fits: str) -> None:
    project = replace(PROJECT, name=slug.upper(), slug=slug)
    with pytest.raises(
        ManifestError, match=rf"^{slug}, after the repository {slug.upper()}, cannot be .*{reason}"
    ) as e:
        composed(SHIPPED, project)
    assert e.value.hint.endswith(f"\n  run:\n    name: {fits}")
    assert composed(replace(SHIPPED, run=Run(name=fits)), project).name == fits
