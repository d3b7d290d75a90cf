"""`pakman repository`: what the channels of a bucket have, whether it is right, and what is done to them by hand."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pakman import commands, key_commands, shipping
from pakman.errors import BucketError, SigningError, UsageError

if TYPE_CHECKING:  # what a command does not need is not imported for it: start-up time is a promise
    from pakman.bucket import Bucket
    from pakman.channels import Channel
    from pakman.channels.pruning import Pruned, Rule
    from pakman.channels.verifying import Verdict
    from pakman.signing import PublicKey

Env = Mapping[str, str]


def answer(args: argparse.Namespace, env: Env) -> int:
    """Do what `pakman repository ACTION` says, and print what came of it."""
    actions = {"list": _list, "verify": _verify, "promote": _promote, "rollback": _roll_back, "prune": _prune}
    actions[args.action](args, env)
    return 0


def _list(args: argparse.Namespace, env: Env) -> None:
    from pakman.channels import listing

    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    entries: list[listing.Entry] = []
    errors: list[BucketError] = []
    with closing(shipping.bucket_for(args, env, progress)) as bucket:
        channels = _channels(args, bucket)
        for channel in channels:
            try:
                entries += listing.entries(channel)
            except BucketError as error:
                errors.append(error)
        if args.format == "json":
            _print_json([each.as_json() for each in entries])
        elif entries:
            print(listing.table(entries))
        elif not errors:
            print(_nothing(bucket, channels))
    if errors:
        # The other channels were worth seeing all the same.
        raise errors[0]


def _verify(args: argparse.Namespace, env: Env) -> None:
    from pakman import signing
    from pakman.channels import verifying

    trusted = [signing.read_public(file) for file in args.key]
    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    verdicts = []
    with closing(shipping.bucket_for(args, env, progress)) as bucket:
        channels = _channels(args, bucket, trusted)
        if not channels:
            # Who lets a schedule look after a channel wants to hear of a typing error.
            raise BucketError(
                f"{bucket.location} has no channels: there is nothing to verify",
                hint="look at the bucket's name and prefix; `pakman push --channel NAME` makes a channel",
            )
        for channel in channels:
            with progress.phase(f"Verify channel {channel.name} in {bucket.location}"):
                verdicts.append(verifying.verify(channel, on_progress=progress.bar))
        if args.format == "json":
            _print_json([each.as_json() for each in verdicts])
        else:
            print("\n".join(line for each in verdicts for line in _verdict(each)))
    wrong = sum(len(each.problems) for each in verdicts)
    if wrong:
        raise BucketError(
            f"{_count(wrong, 'problem')} in {' and '.join(each.channel for each in verdicts if each.problems)}",
            hint="a push that was interrupted is finished by running it again; for all else remove what is wrong, and "
            "push it again" + (f"; but first: {_WHOSE_KEY}" if args.key else ""),
        )


_WHOSE_KEY = (
    "is it the right --key? What was shipped before a key was rotated is signed by the old one: give its --key too"
)


def _verdict(verdict: Verdict) -> list[str]:
    from pakman.progress import human_size

    is_right = "all is well" if not verdict.problems else _count(len(verdict.problems), "problem")
    return [
        f"{verdict.channel}: {_count(verdict.packages, 'package')}, {human_size(verdict.size)} read: {is_right}",
        *_some([f"  {each.object} {each.problem}" for each in verdict.problems]),
        *_some([f"  {each} is named by no index: `pakman repository prune` takes it" for each in verdict.unnamed]),
    ]


_SHOWN = 100
"""Lines of a kind: of a channel where everything is wrong, the first ones tell enough."""


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"  … and {more} more: --format json has them all"] if more > 0 else [])]


def _promote(args: argparse.Namespace, env: Env) -> None:
    from pakman.channels import contents, promoting, refuse_name, versions

    refuse_name(args.source, "FROM")
    refuse_name(args.target, "TO")
    if args.source == args.target:
        raise UsageError(f"{args.source} cannot be promoted to itself", hint="name two channels: FROM and TO")
    if args.package_version is not None:
        versions.refuse_no_version("--package-version", args.package_version)
    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    with closing(shipping.bucket_for(args, env, progress)) as bucket:
        target = _to_change(args, env, bucket, args.target, args.source)
        source = _to_change(args, env, bucket, args.source)
        contents.refuse_unknown(bucket, source.name)
        with progress.phase(f"Promote {source.name} to {target.name} in {bucket.location}"):
            done = promoting.promote(
                source, target, args.package_version, on_progress=progress.bar, on_notice=progress.notice
            )
    for arch in done.without:
        progress.notice(f"channel {source.name} has no such version for {arch}")
    if args.format == "json":
        _print_json(done.as_json())
        return
    what = _shown_versions(done.versions)
    if not done.promoted:
        print(f"{target.name} has {what} already: there is nothing to promote")
    else:
        print(f"{target.name} has {what} now, from {source.name}")
    print("".join(f"  {line}\n" for line in (*done.promoted, *_signed_anew(target, done.signed_anew))), end="")


def _roll_back(args: argparse.Namespace, env: Env) -> None:
    from pakman.channels import rolling_back, versions

    if args.to is not None:
        versions.refuse_no_version("--to", args.to)
    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    with closing(shipping.bucket_for(args, env, progress)) as bucket:
        channel = _known(args, env, bucket)

        def say(targets: Mapping[str, str]) -> None:
            to = next(iter(targets.values()))
            progress.say(f"{channel.name} goes back; if this is interrupted, run it again with --to {to}")

        done = rolling_back.roll_back(channel, args.to, on_target=say)
    channel.say_who_signs_no_more(progress.notice)
    if args.format == "json":
        _print_json(done.as_json())
        return
    what = _shown_versions({name: (version,) for name, version in done.versions.items()})
    if done.finished:
        print(f"{channel.name} is back at {what}: a rollback was interrupted, and the rest of it is done now")
    elif not done.removed:
        print(f"{channel.name} has nothing newer than {what}: there is nothing to take back")
        return
    else:
        print(f"{channel.name} is back at {what}; its index does not name any more:")
        print("\n".join(f"  {name}" for name in done.removed))
    print("a machine that has installed it keeps it until it is told:")
    # Named, because --available of everything also removes what no repository of the machine has any more.
    print(f"  apk upgrade -U --available {' '.join(done.versions)}")


def _prune(args: argparse.Namespace, env: Env) -> None:
    from pakman.channels import pruning

    rule = _rule(args)
    progress = commands.progress_for(args, env, quiet_stdout=args.format == "json")
    with closing(shipping.bucket_for(args, env, progress)) as bucket:
        channel = _channels(args, bucket)[0] if args.dry_run else _known(args, env, bucket)
        with progress.phase(f"Prune channel {channel.name} in {bucket.location}{' (dry run)' if args.dry_run else ''}"):
            done = pruning.prune(channel, rule, clock=time.monotonic, dry_run=args.dry_run)
    channel.say_who_signs_no_more(progress.notice)
    if args.format == "json":
        _print_json(done.as_json())
    else:
        anew = [f"  {line}" for line in _signed_anew(channel, done.signed_anew)]
        print("\n".join([*_pruned(channel.name, done, dry_run=args.dry_run), *anew]))


def _pruned(name: str, done: Pruned, *, dry_run: bool) -> list[str]:
    from pakman.channels.listing import utc

    would = "would be " if dry_run else ""
    return [
        f"{name}: {_count(len(done.removed), 'package')} {would}taken from the index, "
        f"{len(done.deleted)} {would}deleted, {len(done.waiting)} waiting",
        *(f"  {would}taken from the index: {each}" for each in done.removed),
        *(f"  {would}deleted: {each}" for each in done.deleted),
        *(f"  waiting until {utc(each.until)}: {each.name}" for each in done.waiting),
    ]


def _rule(args: argparse.Namespace) -> Rule:
    from pakman.channels.pruning import Rule

    if args.keep is None and args.older_than is None:
        raise UsageError(
            "prune needs to know what may go", hint="give --keep N, e.g. 10, --older-than D, e.g. 30d, or both"
        )
    return Rule(
        keep=1 if args.keep is None else _whole_number(args.keep),
        older_than=0 if args.older_than is None else _seconds(args.older_than),
    )


def _whole_number(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text, re.ASCII):
        raise UsageError(
            f"--keep is {text[:80]!r}, but it should be a whole number from 1 to 999999999",
            hint="the newest version always stays: a channel without one would install nothing",
        )
    return int(text)


_UNITS = {"h": 3600, "d": 86400}


def _seconds(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([hd])", text, re.ASCII)
    if found is None:
        raise UsageError(
            f"--older-than is {text[:80]!r}, but it should be a number of days or hours, of six digits at most",
            hint="write it as 30d or 12h",
        )
    return int(found[1]) * _UNITS[found[2]]


def _channels(args: argparse.Namespace, bucket: Bucket, trusted: Sequence[PublicKey] = ()) -> list[Channel]:
    """Return the channels that are to be looked at, which need no private key."""
    from pakman.channels import Channel, contents, refuse_name

    if args.channel is not None:
        refuse_name(args.channel, "CHANNEL")
        contents.refuse_unknown(bucket, args.channel)
    names = contents.names(bucket) if args.channel is None else [args.channel]
    keys = (trusted or contents.published_keys(bucket)) if names else ()
    return [Channel(bucket, name, (), keys) for name in names]


def _nothing(bucket: Bucket, channels: Iterable[Channel]) -> str:
    names = " and ".join(each.name for each in channels)
    if names:
        return f"{names} in {bucket.location}: there are no packages yet"
    return f"{bucket.location} has no channels: `pakman push --channel NAME` makes one; or is it another --prefix?"


def _known(args: argparse.Namespace, env: Env, bucket: Bucket) -> Channel:
    """Return a channel that is there and is to be changed."""
    from pakman.channels import contents, refuse_name

    refuse_name(args.channel, "CHANNEL")
    channel = _to_change(args, env, bucket, args.channel)
    contents.refuse_unknown(bucket, channel.name)
    return channel


def _to_change(args: argparse.Namespace, env: Env, bucket: Bucket, name: str, *others: str) -> Channel:
    """Return a channel with the keys that sign it; where there is none yet, they are called as in the others."""
    from pakman.channels import Channel, contents

    keys = key_commands.given(args, env, contents.UNNAMED)
    if not keys:
        raise SigningError(
            f"changing channel {name} needs the signing key: its index is signed anew",
            hint="give --signing-key FILE or PAKMAN_SIGNING_KEY; in a workflow, a variable of the step: "
            "PAKMAN_SIGNING_KEY: ${{ secrets.PAKMAN_SIGNING_KEY }}",
        )
    return Channel(bucket, name, contents.published(bucket, keys, (name, *others)))


def _signed_anew(channel: Channel, architectures: Sequence[str]) -> list[str]:
    names = " and ".join(key.name for key in channel.keys)
    return [f"signed anew, by {names}: the index for {arch}" for arch in architectures]


def _shown_versions(versions: Mapping[str, Sequence[str]]) -> str:
    return " and ".join(f"{name} {', '.join(all_)}" for name, all_ in versions.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
