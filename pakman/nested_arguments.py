"""The commands that have commands of their own, `pakman stack` and `pakman repository`, as argparse has them."""

from __future__ import annotations

from pathlib import Path

from pakman import flag_groups
from pakman.parsers import CommandParser, Commands, add_command


def stack(commands: Commands) -> None:
    """Add `pakman stack`."""
    command = add_command(
        commands,
        "stack",
        "list, inspect or suggest the Alpine versions to build for",
        "What can stand as `stack` in the manifest, and what a build would use for it.",
    )
    actions = command.add_subparsers(
        prog="pakman stack", dest="action", metavar="ACTION", title="actions", parser_class=CommandParser, required=True
    )
    listing = add_command(
        actions,
        "list",
        "the stacks, when each one ends, and which is taken by default",
        "List Alpine's versions and the stacks that .pakman.toml names, oldest first. `*`\n"
        "marks the one that a manifest without `stack` is built for.",
    )
    listing.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    inspect = add_command(
        actions,
        "inspect",
        "what a build for a stack would use, in which order, and who says so",
        "Show which images and package repositories are tried for a stack, in their\n"
        "order, and what named each: a flag, .pakman.toml or pakman itself. With --bucket\n"
        "one with the bucket's own provider comes first among its like.",
    )
    inspect.add_argument("stack", metavar="STACK", help="e.g. alpine/3.24, 3.24, v3.24, or one of .pakman.toml's")
    flag_groups.mirrors_and_images(inspect)
    inspect.add_argument("--bucket", metavar="s3://NAME[/PREFIX]", help="where the packages will go")
    inspect.add_argument("--endpoint-url", metavar="URL", help=flag_groups.ENDPOINT)
    inspect.add_argument("--format", choices=("text", "json"), default="text", help="(default: text)")
    add_command(
        actions,
        "suggest",
        "which stack to take, and why",
        "Name the stack to take, say until when it is supported, and what the manifest\nin this folder says today.",
    )


def repository(commands: Commands) -> None:
    """Add `pakman repository`."""
    command = add_command(
        commands,
        "repository",
        "look after the channels of a bucket: list, verify, promote, roll back, prune",
        "What `pakman push --channel` made, and what a person or a schedule does to it.",
    )
    actions = command.add_subparsers(
        prog="pakman repository",
        dest="action",
        metavar="ACTION",
        title="actions",
        parser_class=CommandParser,
        required=True,
    )
    listing = add_command(
        actions,
        "list",
        "the packages in each channel",
        "List what each index names: architecture, package, version, size, and when the\n"
        "index changed. `*` marks the newest versions, which are what `apk add` takes.",
        f"environment:\n{flag_groups.BUCKET_VARIABLES}",
    )
    listing.add_argument("channel", metavar="CHANNEL", nargs="?", help="the channel (default: all)")
    flag_groups.place(listing)
    verify = add_command(
        actions,
        "verify",
        "read all that a channel has, and say everything that is wrong with it",
        "Read every index, its signature and every package that it names: size,\n"
        "checksums, files, signature. SHA256SUMS and the copies of the newest versions\n"
        "have to agree. Exit 6 where something is wrong; all of it is said. A package\n"
        "that no index names is not wrong: `pakman repository prune` takes it.",
        f"environment:\n{flag_groups.BUCKET_VARIABLES}",
    )
    verify.add_argument("channel", metavar="CHANNEL", nargs="?", help="the channel (default: all)")
    verify.add_argument(
        "--key",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a public key that may have signed it; repeatable (default: those in the bucket's folder keys)",
    )
    flag_groups.place(verify)
    promote = add_command(
        actions,
        "promote",
        "let the newest version in one channel join another one",
        "Let a version, with all its packages for all architectures, join another channel\n"
        "as it is: nothing is built anew. Each package is compared with what the index\n"
        "says first. Run again, it changes nothing.",
        f"environment:\n{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    promote.add_argument("source", metavar="FROM", help="the channel that has it")
    promote.add_argument("target", metavar="TO", help="the channel that it joins")
    promote.add_argument(
        "--package-version", metavar="VERSION", help="which one, e.g. 1.2.3 or 1.2.3-r4 (default: the newest)"
    )
    flag_groups.channel_key(promote)
    flag_groups.place(promote, has_public_url=True)
    rollback = add_command(
        actions,
        "rollback",
        "take the newest version out of a channel",
        "Take all that is newer than a version out of the index of every architecture,\n"
        "and say what a machine has to do that has it already. The packages stay in the\n"
        "bucket until `pakman repository prune` deletes them.",
        f"environment:\n{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    rollback.add_argument("channel", metavar="CHANNEL", help="the channel")
    rollback.add_argument(
        "--to",
        metavar="VERSION",
        help="what to go back to, e.g. 1.2.3 or 1.2.3-r4 (default: the version before the newest)",
    )
    flag_groups.channel_key(rollback)
    flag_groups.place(rollback)
    prune = add_command(
        actions,
        "prune",
        "take old versions out of a channel, and delete what no machine needs any more",
        "Take versions out of the index that are neither among the newest N of their\n"
        "application nor younger than D. apk goes by an index for up to four hours: what\n"
        "left the index is deleted by a prune that runs later than that, so run it daily.\n"
        "Safe while others push, and finished by the next one where it is killed.",
        f"environment:\n{flag_groups.KEY_VARIABLES}{flag_groups.BUCKET_VARIABLES}",
    )
    prune.add_argument("channel", metavar="CHANNEL", help="the channel")
    prune.add_argument("--keep", metavar="N", help="how many versions stay at least (with --older-than: 1 by default)")
    prune.add_argument(
        "--older-than",
        metavar="D",
        help="keep what is younger than that, e.g. 30d or 12h; one of the two flags is needed, or both",
    )
    prune.add_argument("--dry-run", action="store_true", help="change nothing, and say what would go")
    flag_groups.channel_key(prune)
    flag_groups.place(prune)
    for each in (listing, verify, promote, rollback, prune):
        each.add_argument(
            "--format", choices=("text", "json"), default="text", help="json: print it as JSON (default: text)"
        )
