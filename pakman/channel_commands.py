"""What the commands that ship do with --channel."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pakman import commands
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


def refuse_before_building(args: argparse.Namespace, bucket: Bucket | None) -> None:
    """Raise UsageError for a channel that can be none, BucketError where the bucket can have no channels."""
    if args.channel is None:
        return
    from pakman import channels

    channels.refuse_name(args.channel)
    if args.bucket is None:
        raise UsageError("--channel needs a bucket to be in", hint="give --bucket s3://NAME, or leave --channel out")
    if bucket is not None and not args.dry_run:
        bucket.refuse_without_conditions(bucket.location.key("channels", args.channel))


def key_for(args: argparse.Namespace, env: Env, name: str) -> SigningKey:
    """Return the key that signs a channel's indexes, `name` where it has none of its own; raise SigningError."""
    key = commands.given_key(args, env, name)
    if key is None:
        raise SigningError(
            "--channel needs the signing key: a channel's index is signed anew with every push",
            hint="give --signing-key FILE or PAKMAN_SIGNING_KEY; in a workflow: "
            "signing-key: ${{ secrets.PAKMAN_SIGNING_KEY }}",
        )
    return key


def channel_for(
    args: argparse.Namespace, env: Env, bucket: Bucket, repositories: tuple[Repository, ...]
) -> Channel | None:
    """Return the channel that the repositories are to join; None where none was named.

    Raises SigningError where the key that signs its indexes is not the one that has signed the packages.
    """
    if args.channel is None:
        return None
    from pakman import channels

    first = repositories[0]
    key = key_for(args, env, first.key_name)
    if key.public_pem != first.public_key.read_bytes():
        raise SigningError(
            f"the signing key is not {first.key_name}, the one that {first.packages[0].name} was built with",
            hint="build and push with the same key",
        )
    return channels.Channel(bucket, args.channel, [key])


def refuse(channel: Channel, repositories: tuple[Repository, ...], *, dry_run: bool) -> None:
    """Raise BucketError for what the channel would refuse, before anything is pushed."""
    from pakman.channels import adding

    if not dry_run:
        channel.bucket.refuse_without_conditions(channel.path)
    adding.refuse(channel, adding.built(repositories))


def join(
    channel: Channel, repositories: tuple[Repository, ...], progress: Progress, results: Results, *, dry_run: bool
) -> Joined:
    """Let what a build left join a channel, or say what would happen."""
    from pakman.channels import adding

    wanted = adding.built(repositories)
    if dry_run:
        joined = adding.plan(channel, wanted)
        for key in joined.uploaded:
            progress.must_say(f"would be stored: {key}")
        for key in joined.skipped:
            progress.must_say(f"is there already: {key}")
        return joined
    package = repositories[0].packages[0].name
    with progress.phase(f"Channel {channel.name} in {channel.bucket.location}"):
        results.joined = adding.add(channel, wanted, package, on_progress=progress.bar, on_wait=progress.notice)
    return results.joined
