"""What the flags, the settings and the manifest say about the stack; and `pakman stack`, which shows it."""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pakman import mirrors, references, settings, stack, stack_report, validation
from pakman.errors import UsageError
from pakman.manifest import Manifest
from pakman.settings import Settings
from pakman.stack import Stack

_MANIFEST = Path("instellar.yml")


def stack_to_build_for(
    args: argparse.Namespace,
    env: Mapping[str, str],
    manifest: Manifest,
    today: datetime.date,
    *,
    on_notice: Callable[[str], None],
) -> tuple[Manifest, Stack]:
    """Return the stack, what is tried for it in order, and the manifest with --stack in place of its own stack.

    Raises UsageError where a flag or the settings are not what they should be.
    """
    known = settings.read(args.file.parent)
    said = manifest.stack
    if args.stack is not None:
        manifest = replace(manifest, stack=_known(args.stack, known).name)
        if said is not None and manifest.stack != said:
            on_notice(f"built for {manifest.stack}, as --stack says; the manifest says {said}")
    named = _known(manifest.stack, known) if manifest.stack is not None else stack.newest_supported(today)
    return manifest, _choices(args, env, named, known).stack


def name(args: argparse.Namespace, manifest: Manifest) -> str | None:
    """Return the stack that --stack names, else the manifest; None where neither does."""
    return manifest.stack if args.stack is None else _known(args.stack, settings.read(args.file.parent)).name


def stack_named(
    args: argparse.Namespace, env: Mapping[str, str], text: str | None, today: datetime.date
) -> Stack | None:
    """Return the stack that a manifest's `stack` names, with what is tried for it in order; None for one unknown.

    Without a text it is the newest. Raises UsageError where a flag or the settings are not what they should be.
    """
    known = settings.read(args.file.parent)
    named = stack.find(text, known.stacks) if text is not None else stack.newest_supported(today)
    return _choices(args, env, named, known).stack if named is not None else None


def stack_of(args: argparse.Namespace, env: Mapping[str, str], name: str) -> Stack:
    """Return the stack that packages were built for, with what is tried for it in order; raises UsageError."""
    known = settings.read(args.file.parent)
    return _choices(args, env, _known(name, known), known).stack


def answer(args: argparse.Namespace, env: Mapping[str, str], today: datetime.date) -> str:
    """Return what `pakman stack list`, `inspect` or `suggest` prints; raises UsageError."""
    known = settings.read(Path())
    if args.action == "suggest":
        return stack_report.suggested(today, manifest=_MANIFEST.name, said=_said(known, today))
    as_json = args.format == "json"
    if args.action == "list":
        stacks = known.stacks
        return _json(stack_report.listed_as_json(stacks, today)) if as_json else stack_report.listed(stacks, today)
    choices = _choices(args, env, _known(args.stack, known), known)
    return _json(stack_report.inspected_as_json(choices, today)) if as_json else stack_report.inspected(choices, today)


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _known(text: str, known: Settings) -> Stack:
    found = stack.find(text, known.stacks)
    if found is None:
        raise UsageError(f"there is no stack {text!r}", hint=stack.hint(text, known.stacks))
    return found


def _choices(args: argparse.Namespace, env: Mapping[str, str], wanted: Stack, known: Settings) -> mirrors.Choices:
    _check("--mirror", args.mirror, references.mirror_problem)
    build_images: list[str] = getattr(args, "build_image", [])  # `pakman validate` builds nothing
    _check("--build-image", build_images, references.image_problem)
    # `pakman build` has no bucket.
    has_target = getattr(args, "bucket", None) is not None
    endpoint = getattr(args, "endpoint_url", None) or env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL")
    return mirrors.choices(
        wanted,
        known,
        mirrors=[mirror.rstrip("/") for mirror in args.mirror],
        build_images=build_images,
        target=mirrors.bucket_host(endpoint) if has_target else None,
    )


def _check(flag: str, values: list[str], problem: Callable[[str], references.Problem | None]) -> None:
    for value in values:
        if what := problem(value):
            raise UsageError(f"{flag} {value[:80]!r} {what[0]}", hint=what[1])


def _said(known: Settings, today: datetime.date) -> Stack | str | None:
    """Return what the manifest in this folder says: a stack, a text that is none, or None where there is none."""
    if not _MANIFEST.exists():
        return None
    data = validation.validate(_MANIFEST, repository=None, today=today, stacks=known.stacks).data
    text = str(data.get("stack") or "") if isinstance(data, dict) else ""
    return stack.find(text, known.stacks) or text
