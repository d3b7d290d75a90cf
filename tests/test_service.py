"""What is written for a service: which files, where, whose, with which words in them."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pakman.errors import ManifestError
from pakman.manifest import HOOKS, Command, Dependencies, Manifest, Ready, Run, Service, Stop
from pakman.service import dependencies, install_scripts, service_files, supervisor

WEB = Service("web", "shop", call="start --port 80")
SHOP = Manifest(run=Run(name="shop", services=(WEB,), commands=(Command("migrate", "shop", call="eval 'a b'"),)))


def content(manifest: Manifest, file: str, name: str = "shop") -> str:
    files = (*service_files(manifest, name), *install_scripts(manifest, name))
    return next(each.content for each in files if each.name == f"{name}.{file}")


def running(**changes: object) -> Manifest:
    assert SHOP.run is not None
    return replace(SHOP, run=replace(SHOP.run, **changes))  # type: ignore[arg-type]


def test_roots_files_are_not_among_the_applications() -> None:
    targets = {str(file.target): oct(file.mode) for file in service_files(SHOP, "shop")}
    assert targets == {
        "/etc/init.d/shop": "0o755",
        "/usr/libexec/shop/run": "0o755",
        "/usr/libexec/shop/environment": "0o644",
        "/usr/libexec/shop/variables": "0o755",
        "/usr/libexec/shop/variables.awk": "0o644",
        "/usr/libexec/shop/env-exec": "0o755",
        "/var/lib/shop/bin/environment": "0o755",
        "/var/lib/shop/bin/env-exec": "0o755",
    }
    # Whatever runs as root knows the helpers by their place among root's files.
    for file in (*service_files(SHOP, "shop"), *install_scripts(SHOP, "shop")):
        assert "/var/lib/shop/bin/env" not in file.content


@pytest.mark.parametrize(
    ("named", "runtime", "expected"),
    [
        (None, (), "supervise-daemon"),
        (None, ("curl", "s6>=2.11"), "s6"),
        (None, ("s6-linux-init",), "supervise-daemon"),
        ("s6", (), "s6"),
        ("supervise-daemon", ("s6",), "supervise-daemon"),
    ],
)
def test_the_supervisor_is_the_one_named_or_listed(named: str | None, runtime: tuple[str, ...], expected: str) -> None:
    manifest = replace(running(supervisor=named), dependencies=Dependencies(runtime=runtime))
    assert supervisor(manifest) == expected
    assert dependencies(manifest) == (("curl", "s6") if expected == "s6" else ("curl",))
    own = {str(file.target) for file in service_files(manifest, "shop")} - {
        str(file.target) for file in service_files(SHOP, "shop")
    }
    assert own == ({"/usr/libexec/shop/finish", "/usr/libexec/shop/log"} if expected == "s6" else set())
    # Never what OpenRC makes of `supervisor=s6`: that changes with its releases.
    assert ("\nsupervisor=supervise-daemon\n" in content(manifest, "initd")) == (expected == "supervise-daemon")
    assert "\nsupervisor=s6" not in content(manifest, "initd")


def test_a_start_waits_for_the_main_kits_port_unless_told_otherwise() -> None:
    kits = ({"name": "web", "main": True, "ports": [{"target": 80}, {"target": 4000, "main": True}]},)

    def ready(ready: Ready, kits: tuple[dict[str, object], ...] = kits) -> str:
        return content(replace(running(services=(replace(WEB, ready=ready),)), kits=kits), "ready")

    assert "_port=4000 _hexadecimal=0FA0\n" in ready(Ready())
    assert "_port=80 _hexadecimal=0050\n" in ready(Ready(port=80))
    assert "_hexadecimal=0" not in ready(Ready(command="a 'b c'"))
    assert "\tset -- a 'b c'\n" in ready(Ready(command="a 'b c'"))
    assert "\t_seconds=7\n" in ready(Ready(timeout=7))
    with pytest.raises(ManifestError, match="says neither port nor command"):
        ready(Ready(), ())
    for manifest in (SHOP, running(supervisor="s6")):
        assert "start_post" not in content(manifest, "initd")


def test_the_main_kits_variables_are_defaults_and_demands() -> None:
    variables: list[dict[str, object]] = [
        {"key": "PLAIN", "default_value": "it's $HOME", "required": True},
        {"key": "NUMBER", "default_value": 80},
        {"key": "YES", "default_value": True},
        {"key": "DATABASE", "driver": "database/postgresql", "default_value": "ecto:///", "required": True},
        {"key": "SECRET", "driver": "generic/secret", "default_value": "not this", "required": True},
        {"key": "GIVEN", "required": True},
        {"key": "OPTIONAL"},
    ]
    manifest = replace(SHOP, kits=({"name": "w"}, {"name": "web", "main": True, "variables": variables}))
    environment = content(manifest, "environment")
    assert "export PLAIN='it'\"'\"'s $HOME'\n" in environment
    assert "export NUMBER=80\n" in environment
    assert "export YES=true\n" in environment
    run = content(manifest, "run")
    for key, is_required in {
        "PLAIN": False,
        "DATABASE": False,
        "SECRET": True,
        "GIVEN": True,
        "OPTIONAL": False,
    }.items():
        assert (f'|| set -- "$@" {key}\n' in run) == is_required
    assert "DATABASE" not in environment
    assert "SECRET" not in environment
    assert "required" not in content(SHOP, "run")


def test_commands_alone_need_no_supervisor() -> None:
    assert dependencies(running(services=(), supervisor="s6")) == ("curl",)
    assert dependencies(Manifest()) == ()


def test_an_init_script_begins_as_abuild_wants_it() -> None:
    assert content(SHOP, "initd").splitlines()[0] == "#!/sbin/openrc-run"


@pytest.mark.parametrize("manifest", [Manifest(), Manifest(type="static"), Manifest(run=Run(name="shop"))])
def test_without_services_and_commands_there_are_no_files(manifest: Manifest) -> None:
    assert service_files(manifest, "shop") == ()
    assert [file.name for file in install_scripts(manifest, "shop")] == ["shop.pre-install", "shop.pre-upgrade"]


def test_a_service_has_all_six_scripts_and_they_are_not_installed() -> None:
    scripts = install_scripts(SHOP, "shop")
    assert [file.name for file in scripts] == [f"shop.{kind}" for kind in HOOKS]
    assert {file.target for file in scripts} == {None}
    assert {file.content.splitlines()[0] for file in scripts} == {"#!/bin/sh"}


@pytest.mark.parametrize("kind", HOOKS)
@pytest.mark.parametrize("manifest", [SHOP, Manifest()], ids=["service", "files"])
def test_a_hook_is_kept_as_it_was_written_behind_ours(manifest: Manifest, kind: str) -> None:
    hook = "# {{ name }} {% raw %} {#\ncat <<'END'\n\ttext $(x) \\\n  \nEND"
    for written in (hook, f"{hook}\n"):
        script = content(replace(manifest, hook={kind: written}), kind)
        ours, _, theirs = script.partition("# The manifest's hook.\n")
        assert theirs == f"{hook}\n"
        assert "\nset -e\n" in ours


def test_the_binary_is_the_packages_own_unless_a_path_is_given() -> None:
    services = (WEB, Service("worker", "php", path="/usr/bin", call="artisan"), Service("odd", "a b", path="/opt/x y/"))
    run = content(running(services=services), "run")
    assert "'' | web)\n\tset -- \"${1:-}\" web /var/lib/shop/bin/shop start --port 80\n" in run
    assert '\nworker)\n\tset -- "${1:-}" worker /usr/bin/php artisan\n' in run
    assert "\nodd)\n\tset -- \"${1:-}\" odd '/opt/x y/a b'\n" in run
    assert "'web, worker, odd'" in run


def test_root_is_only_who_is_named() -> None:
    for file in ("run", "env-exec"):
        assert "busybox su" in content(SHOP, file)
        assert "busybox su" not in content(running(user="root"), file)


def test_logs_is_there_unless_the_manifest_has_its_own() -> None:
    assert "\nextra_commands='migrate logs healthcheck'\n" in content(SHOP, "initd")
    assert "/usr/bin/tail -n 100 -F /var/log/shop/current" in content(SHOP, "initd")
    own = content(running(commands=(Command("logs", "less", path="/usr/bin"),)), "initd")
    assert "\nextra_commands='logs healthcheck'\n" in own
    assert "/usr/bin/tail" not in own


WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.lists(WORD, max_size=6))
def test_the_words_of_a_call_are_exact(words: list[str]) -> None:
    call = shlex.join(words)
    script = content(running(commands=(Command("c", "b", path="/x", call=call),)), "initd")
    body = script.partition("\nc() {\n\t")[2].partition("\n}\n\nlogs() {")[0]
    assert shlex.split(body) == ["_in_terminal", "/usr/libexec/shop/env-exec", "--", "/x/b", *words]
    run = content(running(services=(Service("web", "b", path="/x", call=call),)), "run")
    assert shlex.split(run.partition('\n\tset -- "${1:-}" web ')[2].partition("\n\t;;\n*)")[0]) == ["/x/b", *words]


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True))
def test_a_name_means_itself_everywhere(name: str) -> None:
    manifest = running(name=name)
    for file in service_files(manifest, name):
        assert file.target is not None
        assert name in file.target.parts
        assert PurePosixPath(*file.target.parts) == file.target
    assert f"grep -q '^{name.replace('.', '[.]')}:' /etc/group" in content(manifest, "pre-install", name)


@pytest.mark.parametrize("name", ["", "a b", "$(id)", "a/b", "-x", "a\n", "a'", "ä"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="cannot be the name of a package"):
        service_files(SHOP, name)
    with pytest.raises(ManifestError, match="cannot be the name of a package"):
        install_scripts(SHOP, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"services": (replace(WEB, call="it's"),)},
        {"services": (replace(WEB, stop=Stop(call="it's")),)},
        {"services": (replace(WEB, ready=Ready(command="it's")),)},
        {"commands": (Command("c", "b", call='"'),)},
    ],
)
def test_quotes_that_do_not_match_are_said(changes: dict[str, object]) -> None:
    with pytest.raises(
        ManifestError, match=r"the quotes in `(stop\.|ready\.)?c(all|ommand)` of (web|c) do not match"
    ) as caught:
        service_files(running(**changes), "shop")
    assert caught.value.hint


def test_a_call_of_dollars_stays_one() -> None:
    assert "shop '$PORT' '*'" in content(running(services=(replace(WEB, call="$PORT *"),)), "run")
