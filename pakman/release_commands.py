"""`pakman release`: all architectures of a commit become one release, and somebody is told."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import commands

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.notify import Hook
    from pakman.outputs import Results
    from pakman.progress import Progress
    from pakman.pushed import Pushed
    from pakman.release import Release
    from pakman.repository import Repository

Env = Mapping[str, str]


def release(args: argparse.Namespace, env: Env) -> int:
    """Check what the jobs have pushed, make a release of it, tell of it."""
    from contextlib import closing

    from pakman import (
        archive,
        channel_commands,
        deploy_commands,
        detection,
        event,
        outputs,
        pushed,
        shipping,
    )
    from pakman.project import slug
    from pakman.pushed import Commit

    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    results = commands.results_for(args)
    if why := event.without_secrets(env):
        results.skipped = f"nothing was released: {why}"
        progress.notice(results.skipped)
        return 0
    channel_commands.leave_out(args, env, progress, results)
    hook = _hook(args, env, progress)
    owner, name = detection.owner_and_name(Path.cwd(), env, project=args.project)
    commit = Commit(owner, slug(name), deploy_commands.sha(args, env, Path.cwd()))
    bucket = shipping.bucket_for(args, env, progress)
    channel_commands.refuse_before_building(args, bucket)
    if args.channel is not None:
        channel_commands.keys_for(args, env, owner, name)
    with closing(bucket), archive.scratch() as folder:
        with progress.phase(f"Fetch what was pushed of {commit.sha} to {bucket.location}"):
            found = pushed.fetch(bucket, commit, args.expect, folder / "pushed", on_progress=progress.bar)
        _say_what_is_there(found, progress)
        made = _made(args, env, bucket, found.repositories, folder, progress, results)
    if hook is not None and not args.dry_run:
        with progress.phase(f"Tell {hook.server}"):
            hook.tell(made.body)
            progress.say(f"{hook.server} has taken it")
    if args.format == "json":
        print(made.body.decode(), end="")
    elif not args.dry_run:
        print("\n".join(outputs.how_to_install(made.repositories[0], made.publication, made.joined)))
    return 0


def _hook(args: argparse.Namespace, env: Env, progress: Progress) -> Hook | None:
    """Return whom to tell; raise UsageError where the address or the secret cannot be one."""
    if args.notify_url is None:
        return None
    from pakman import notify

    return notify.Hook(args.notify_url, env.get(notify.SECRET, ""), clock=time.monotonic, on_wait=progress.notice)


def _say_what_is_there(found: Pushed, progress: Progress) -> None:
    for each in found.repositories:
        main, count = each.packages[0], len(each.packages)
        number = "1 package" if count == 1 else f"{count} packages"
        progress.say(f"{each.arch}: {main.name} {main.version}, {number} (builder: {each.builder.name})")
    if found.more:
        progress.notice(f"{' and '.join(found.more)} has arrived too, but is not among the expected: it is left out")


def _made(
    args: argparse.Namespace,
    env: Env,
    bucket: Bucket,
    repositories: tuple[Repository, ...],
    folder: Path,
    progress: Progress,
    results: Results,
) -> Release:
    from pakman import channel_commands
    from pakman import release as story

    results.repositories, results.is_fetched = repositories, True
    channel = channel_commands.channel_for(args, env, bucket, repositories)
    with progress.phase(f"Release in {bucket.location}{' (dry run)' if args.dry_run else ''}"):
        made = story.release(
            bucket,
            repositories,
            folder,
            channel=channel,
            on_progress=progress.bar,
            on_notice=progress.notice,
            dry_run=args.dry_run,
        )
    if args.dry_run:
        why = f"{made.path} is there already" if made.was_there else "it is a dry run"
        results.plan, results.skipped = made.publication, f"nothing was released: {why}"
        progress.notice(results.skipped)
        if channel is not None and made.joined is not None and not made.was_there:
            channel_commands.say_plan(channel, repositories, made.joined, progress)
        for key in made.publication.uploaded:
            progress.must_say(f"would be stored: {key}")
        for key in made.publication.skipped:
            progress.must_say(f"is there already: {key}")
        return made
    results.publication, results.joined, results.release = made.publication, made.joined, made
    if made.was_there:
        progress.notice(f"{made.path} is there already: nothing was changed")
    else:
        progress.say(f"released: {made.url}")
    return made
