"""What the commands that ship do with --channel."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pakman import key_commands
from pakman.errors import SigningError, UsageError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.channels import Channel
    from pakman.channels.adding import Joined
    from pakman.outputs import Results
    from pakman.progress import Progress
    from pakman.repository import Repository
    from pakman.signing import SigningKey

Env = Mapping[str, str]


def leave_out(args: argparse.Namespace, env: Env, progress: Progress, results: Results) -> None:
    """Forget --channel where a change is only proposed: machines upgrade to what joins a channel."""
    from pakman import event

    if args.channel is not None and event.is_proposal(env):
        results.skipped = f"nothing joins channel {args.channel}: a change that is only proposed is for no machine yet"
        progress.notice(results.skipped)
        args.channel = None


def refuse_before_building(args: argparse.Namespace, bucket: Bucket | None) -> None:
    """Raise UsageError for a channel that can be none, BucketError where the bucket can have no channels."""
    if args.channel is None:
        return
    from pakman import channels

    channels.refuse_name(args.channel)
    if args.bucket is None:
        raise UsageError("--channel needs a bucket to be in", hint="give --bucket s3://NAME, or leave --channel out")
    if bucket is not None and not args.dry_run:
        bucket.refuse_without_conditions()


def refuse_another_project_s(args: argparse.Namespace, env: Env, bucket: Bucket) -> None:
    """Raise BucketError for a channel that other keys have signed: a build for it takes longer than to look."""
    if args.channel is None:
        return
    from contextlib import closing

    from pakman import channels, detection
    from pakman.channels import adding

    owner, name = detection.owner_and_name(args.file.absolute().parent, env, project=args.project)
    with closing(bucket):
        adding.refuse(channels.Channel(bucket, args.channel, keys_for(args, env, owner, name)), {})


def keys_for(args: argparse.Namespace, env: Env, owner: str, name: str) -> tuple[SigningKey, ...]:
    """Return the keys that sign the indexes of a channel of a repository on GitHub; raise SigningError."""
    from pakman import signing

    keys = key_commands.given(args, env, signing.key_name(owner, name))
    if not keys:
        raise SigningError(
            "--channel needs the signing key: a channel's index is signed anew with every push",
            hint="give --signing-key FILE or PAKMAN_SIGNING_KEY; in a workflow: "
            "signing-key: ${{ secrets.PAKMAN_SIGNING_KEY }}",
        )
    return keys


def channel_for(
    args: argparse.Namespace, env: Env, bucket: Bucket, repositories: tuple[Repository, ...]
) -> Channel | None:
    """Return the channel that the repositories are to join; None where none was named.

    Raises SigningError where the keys that sign its indexes are not those that have signed the packages.
    """
    if args.channel is None:
        return None
    from pakman import channels, signing

    first = repositories[0]
    keys = keys_for(args, env, first.owner, first.project)
    if [key.public_pem for key in keys] != [signing.read_public(file).pem for file in first.public_keys]:
        given = "the signing key is" if len(keys) == 1 else "the signing key and the previous one are"
        names = " and ".join(file.name for file in first.public_keys)
        if len(keys) == 1 and keys[0].public_pem == signing.read_public(first.public_keys[0]).pem:
            raise SigningError(
                f"{signing.flag('previous signing key')} is missing: {first.packages[0].name} was built with {names}",
                hint=f"give both: while keys are rotated, both sign ({signing.variable('previous signing key')}; in a "
                "workflow previous-signing-key)",
            )
        raise SigningError(
            f"{given} not {names}, which {first.packages[0].name} was built with",
            hint="build and push with the same, the previous one included where there is one",
        )
    # As they are called where the packages name them.
    named = [replace(key, name=file.name) for key, file in zip(keys, first.public_keys, strict=True)]
    return channels.Channel(bucket, args.channel, named)


def refuse(channel: Channel, repositories: tuple[Repository, ...], *, dry_run: bool) -> None:
    """Raise BucketError for what the channel would refuse, before anything is pushed."""
    from pakman.channels import adding

    if not dry_run:
        channel.bucket.refuse_without_conditions()
    adding.refuse(channel, adding.built(repositories))


def say_plan(channel: Channel, repositories: tuple[Repository, ...], joined: Joined, progress: Progress) -> None:
    """Say what would happen to a channel."""
    from pakman.channels import adding

    wanted, package = adding.built(repositories), repositories[0].packages[0].name

    for key in joined.uploaded:
        progress.must_say(f"would be stored: {key}")
    for key in joined.skipped:
        progress.must_say(f"is there already: {key}")
    for key in adding.kept_true(channel, wanted, package, joined):
        progress.must_say(f"would be brought up to date: {key}")


def join(
    channel: Channel, repositories: tuple[Repository, ...], progress: Progress, results: Results, *, dry_run: bool
) -> Joined:
    """Let what a build left join a channel, or say what would happen."""
    from pakman.channels import adding

    wanted = adding.built(repositories)
    if dry_run:
        joined = adding.plan(channel, wanted, on_notice=progress.notice)
        say_plan(channel, repositories, joined, progress)
        return joined
    package = repositories[0].packages[0].name
    with progress.phase(f"Channel {channel.name} in {channel.bucket.location}"):
        results.joined = adding.add(channel, wanted, package, on_progress=progress.bar, on_notice=progress.notice)
    return results.joined
