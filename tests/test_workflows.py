"""The workflows below .github: pinned, without rights that they do not need, and of one mind with action.yml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pakman import arguments
from pakman.stack import STACKS
from tests.test_documents import TOP

WORKFLOWS = sorted((TOP / ".github/workflows").glob("*.yml"))
ACTION = yaml.safe_load((TOP / "action.yml").read_text())
PINNED = re.compile(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
SECRETS = {
    "signing-key", "previous-signing-key", "access-key-id", "secret-access-key", "session-token", "notify-secret"
}  # fmt: skip
ELSEWHERE = {"instellar-endpoint", "instellar-package-token", "instellar-auth-token", "ref", "sha", "expect"}
"""What is none of the reusable workflow's: it deploys nothing, and what it releases is what its own jobs have built."""
RELEASING = {"channel", "notify-url", "notify-secret"}
"""What is for the job that comes after all architectures."""
WITHOUT_ENVIRONMENT = {
    "bucket": "nowhere, they stay artifacts",
    "endpoint-url": "AWS",
    "region": "the server's own",
    **dict.fromkeys(("access-key-id", "secret-access-key", "session-token", "notify-secret"), "none"),
}
"""Defaults that are not the action's: the variables of who calls it do not reach a reusable workflow."""
NO_PULL_REQUEST = "!startsWith(github.event_name, 'pull_request')"

each_workflow = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)


def workflow(name: str) -> Any:
    return yaml.safe_load((TOP / ".github/workflows" / name).read_text())


def steps(file: Path) -> Iterator[Any]:
    for job in workflow(file.name)["jobs"].values():
        yield from job.get("steps", [])


def used(file: Path) -> list[str]:
    """Return what stands behind each `uses:`, with its comment."""
    return re.findall(r"^ *(?:- )?uses: (.+)$", file.read_text(), re.MULTILINE)


@each_workflow
def test_actions_are_pinned_to_a_commit_with_its_version(file: Path) -> None:
    for reference in used(file):
        if reference.startswith("$/"):
            assert (TOP / reference.removeprefix("$/")).is_file()
        elif not reference.startswith("./"):
            assert PINNED.fullmatch(reference), reference


def test_an_action_has_the_same_pin_everywhere() -> None:
    pins = {reference for file in WORKFLOWS for reference in used(file) if "@" in reference}
    assert len(pins) == len({pin.split("@")[0] for pin in pins})


def test_the_readme_uses_actions_as_its_own_workflows_do() -> None:
    pins = {reference for file in WORKFLOWS for reference in used(file)}
    ours = {pin.split("@")[0]: pin.split("# v")[1].split(".")[0] for pin in pins if "# v" in pin}
    theirs = dict(reference.split("@v") for reference in used(TOP / "README.md") if reference.startswith("actions/"))
    assert "actions/checkout" in theirs
    assert {action: ours[action] for action in theirs if action in ours}.items() <= theirs.items()


def test_the_reusable_workflow_is_called_with_the_secrets_that_the_readme_makes() -> None:
    made = set(re.findall(r"gh secret set ([A-Z_]+)", (TOP / "README.md").read_text()))
    head = (TOP / ".github/workflows/package.yml").read_text().split("\nname:")[0]
    assert set(re.findall(r"secrets\.([A-Z_]+)", head)) == made


@each_workflow
def test_a_workflow_may_nothing_and_a_job_what_it_says(file: Path) -> None:
    assert workflow(file.name)["permissions"] == {}
    for job in workflow(file.name)["jobs"].values():
        assert "permissions" in job
        assert "uses" in job or "timeout-minutes" in job


@each_workflow
def test_only_a_release_may_write_to_the_repository(file: Path) -> None:
    writers = [job for job in workflow(file.name)["jobs"].values() if job["permissions"].get("contents") == "write"]
    assert len(writers) == (file.stem == "release")


@each_workflow
def test_every_step_has_a_name(file: Path) -> None:
    assert all(re.match(r"[A-Z].+ ", step["name"]) for step in steps(file))


@each_workflow
def test_no_expression_becomes_part_of_a_script(file: Path) -> None:
    assert [step["name"] for step in steps(file) if "${{" in step.get("run", "")] == []


@each_workflow
def test_a_checkout_leaves_no_credential_behind(file: Path) -> None:
    for step in steps(file):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_the_action_is_tried_on_every_example_and_the_newest_alpine() -> None:
    jobs = workflow("action.yml")["jobs"]
    built, installed = (jobs[name]["strategy"]["matrix"] for name in ("build", "install"))
    assert built["example"] == sorted(path.name for path in (TOP / "examples").iterdir())
    assert built["alpine"] == installed["alpine"]
    assert built["runner"] == installed["runner"]
    releases = [stack.version for stack in STACKS if stack.end_of_life is not None]
    assert built["alpine"] == releases[-len(built["alpine"]) :]


def test_every_update_waits_until_a_version_is_some_days_old() -> None:
    updates = yaml.safe_load((TOP / ".github/dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "docker", "pip"}
    assert all(update["cooldown"]["default-days"] >= 7 for update in updates)


def called() -> Any:
    # YAML 1.1 reads `on` as true.
    return workflow("package.yml")[True]["workflow_call"]


def test_the_reusable_workflow_has_the_actions_inputs() -> None:
    inputs, secrets = called()["inputs"], called()["secrets"]
    # It always runs all, on machines of its own.
    assert set(inputs) - {"ref", "artifact"} == set(ACTION["inputs"]) - SECRETS - ELSEWHERE - {"command", "cache-dir"}
    assert set(secrets) == SECRETS
    for name, given in {**inputs, **secrets}.items():
        if name in ACTION["inputs"] and name not in ELSEWHERE:
            what, default = ACTION["inputs"][name]["description"].rsplit(" Default: ", 1)
            assert given["description"] == f"{what} Default: {WITHOUT_ENVIRONMENT.get(name, default)}"
            assert not given.get("required")


def test_the_reusable_workflow_hands_every_input_on() -> None:
    build, release = (step["with"] for step in steps(TOP / "package.yml") if step.get("id") == "pakman")
    assert set(build) == set(called()["inputs"]) - {"ref", "artifact"} - RELEASING | SECRETS - RELEASING
    assert release.pop("command") == "release"
    assert release.pop("sha") == "${{ needs.collect.outputs.commit }}"
    assert release.pop("expect") == "${{ join(fromJSON(needs.collect.outputs.architectures), ',') }}"
    of_release = set(arguments.flags("release")) & set(called()["inputs"]) - {"working-directory", "dry-run"}
    assert set(release) == of_release | SECRETS
    for name, value in [*build.items(), *release.items()]:
        context = "secrets" if name in SECRETS else "inputs"
        only = f"{NO_PULL_REQUEST} && {context}.{name} || ''" if name in {*SECRETS, "bucket"} else f"{context}.{name}"
        assert value == f"${{{{ {only} }}}}"


def test_the_reusable_workflow_gives_a_pull_request_no_secret() -> None:
    text = (TOP / ".github/workflows/package.yml").read_text().split("\njobs:")[1]
    for line in text.splitlines():
        assert "secrets." not in line or NO_PULL_REQUEST in line


def collect(folder: Path, monkeypatch: pytest.MonkeyPatch, *jobs: dict[str, str]) -> dict[str, str]:
    """Run the step that collects what the jobs of the matrix have left, and return its outputs."""
    (step,) = (step for step in steps(TOP / "package.yml") if step.get("id") == "collect")
    for number, outputs in enumerate(jobs):
        (folder / f"gathered/{number}").mkdir(parents=True)
        (folder / f"gathered/{number}/outputs.json").write_text(json.dumps(outputs))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GITHUB_OUTPUT", str(folder / "output"))
    exec(compile(step["run"], "collect", "exec"), {})
    found = re.findall(r"^(\S+)<<(\w+)\n(.*?)\n\2$", (folder / "output").read_text(), re.MULTILINE | re.DOTALL)
    return {name: value for name, _, value in found}


def left_by(arch: str, **more: str) -> dict[str, str]:
    package = {"name": "notes", "arch": arch, "file": f"{arch}/notes-1.0.0-r0.apk"}
    return {
        "name": "notes",
        "version": "1.0.0-r0",
        "arch": arch,
        "commit": "0" * 40,
        "packages": json.dumps([package]),
        "checksums": f"{'0' * 64}  {arch}/notes-1.0.0-r0.apk",
        "repository-url": "https://example.org/deployments",
        "skipped": "",
        **more,
    }


def test_the_collected_outputs_are_those_of_all_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = collect(tmp_path, monkeypatch, left_by("x86_64"), left_by("aarch64"))
    jobs = workflow("package.yml")["jobs"]
    assert set(outputs) == set(jobs["collect"]["outputs"])
    assert {name: each["value"] for name, each in called()["outputs"].items()} == {
        name: f"${{{{ jobs.{job}.outputs.{name} }}}}" for job in ("collect", "release") for name in jobs[job]["outputs"]
    }
    assert set(jobs["release"]["outputs"]) <= set(ACTION["outputs"])
    assert [package["arch"] for package in json.loads(outputs["packages"])] == ["aarch64", "x86_64"]
    assert json.loads(outputs["architectures"]) == ["aarch64", "x86_64"]
    assert len(outputs["checksums"].splitlines()) == 2
    assert outputs["version"] == "1.0.0-r0"
    assert outputs["commit"] == "0" * 40
    assert outputs["repository-url"] == "https://example.org/deployments"
    assert outputs["skipped"] == outputs["key-name"] == ""


def test_what_is_collected_is_this_call_s_alone() -> None:
    each = list(steps(TOP / "package.yml"))
    (kept,) = (step["with"]["name"] for step in each if step["name"] == "Keep them for later jobs")
    (wanted,) = (step["with"]["pattern"] for step in each if "pattern" in step.get("with", {}))
    runners = workflow("package.yml")["jobs"]["build"]["strategy"]["matrix"]["runner"]
    architectures = ["aarch64" if runner.endswith("-arm") else "x86_64" for runner in runners]
    assert kept.replace("${{ steps.pakman.outputs.arch }}", f"{{{','.join(architectures)}}}") == wanted


def test_a_skipped_architecture_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = {"arch": "aarch64", "stack": "alpine/3.23", "skipped": "the manifest leaves it out"}
    outputs = collect(tmp_path, monkeypatch, skipped, left_by("x86_64"))
    assert outputs["skipped"] == "aarch64: the manifest leaves it out"
    assert json.loads(outputs["architectures"]) == ["x86_64"]
    assert outputs["name"] == "notes"


def test_nothing_but_what_is_skipped_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = [{"arch": arch, "skipped": "the manifest leaves it out"} for arch in ("x86_64", "aarch64")]
    outputs = collect(tmp_path, monkeypatch, *skipped)
    assert (outputs["packages"], outputs["architectures"], outputs["name"]) == ("[]", "[]", "")
    assert len(outputs["skipped"].splitlines()) == 2


def test_the_release_fills_the_images_labels() -> None:
    (build,) = (step for step in steps(TOP / "release.yml") if step.get("id") == "build")
    label = re.compile(r"org\.opencontainers\.image\.(\w+)=")
    of_release = set(label.findall(build["with"]["labels"]))
    of_image = set(label.findall((TOP / "Dockerfile").read_text()))
    assert of_release == {"version", "revision", "source"}
    assert of_image == {"title", "description", "licenses"}
