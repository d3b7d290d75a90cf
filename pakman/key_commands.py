"""The keys that a command signs with, from its flags and its environment; and `pakman keygen`, which makes them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pakman import pem, signing
from pakman.errors import SigningError

if TYPE_CHECKING:
    from pakman.progress import Progress

Env = Mapping[str, str]


def is_given(args: argparse.Namespace, env: Env) -> bool:
    """Say whether there is a key to sign with, whatever it is."""
    return args.signing_key is not None or bool(env.get(signing.variable("signing key")))


def without(args: argparse.Namespace, env: Env) -> Env:
    """Take the keys out of the arguments; return the environment without them."""
    for role in signing.ROLES:
        setattr(args, _attribute(role), None)
    return {**env, **{signing.variable(role): "" for role in signing.ROLES}}


def given(args: argparse.Namespace, env: Env, default_name: str) -> tuple[signing.SigningKey, ...]:
    """Return the signing key and, while keys are rotated, the previous one; none where there is no key.

    `default_name` is that of a key that does not carry one. Raises SigningError for what is no key, and for two that
    cannot sign beside each other.
    """
    keys = [_given(args, env, default_name, role) for role in signing.ROLES]
    key, previous = keys
    if previous is None:
        return () if key is None else (key,)
    if key is None:
        raise SigningError(
            "there is a previous signing key, but no signing key: while keys are rotated, both sign",
            hint=f"give the new one, too: --signing-key or {signing.variable('signing key')}; "
            "in a workflow signing-key (is the secret set?)",
        )
    if key.public_pem == previous.public_pem:
        raise SigningError(
            "the signing key and the previous signing key are the same key",
            hint="the signing key is the new one, as `pakman keygen --rotate` makes it; where there is none, give no "
            "previous one",
        )
    if key.name == previous.name:
        raise SigningError(
            f"the signing key and the previous signing key are both called {key.name}, and machines know a key by its "
            "name",
            hint=f"`pakman keygen --rotate` makes a key under a name of its own, which its text has in a line "
            f"{pem.NAME_FIELD}: in front of -----BEGIN: is that missing?",
        )
    return key, previous


def to_sign_with(
    args: argparse.Namespace, env: Env, default_name: str, progress: Progress
) -> tuple[tuple[signing.SigningKey, ...], bool]:
    """Return the keys to sign with, and whether it is a throwaway one; raises SigningError as `given`."""
    if keys := given(args, env, default_name):
        _say_other_names(args, keys, default_name, progress)
        if len(keys) > 1:
            progress.say(f"signed with {keys[0].name} and, for machines that have no other, {keys[1].name}")
        return keys, False
    progress.notice(
        "signed with a throwaway key: machines that trust it today will not trust the next build; "
        "`pakman keygen` makes a key to keep, --signing-key or PAKMAN_SIGNING_KEY hands it over"
    )
    return (signing.generate(default_name),), True


def _say_other_names(
    args: argparse.Namespace, keys: tuple[signing.SigningKey, ...], default_name: str, progress: Progress
) -> None:
    """Say where a key is not called what the public half beside its file is: `keygen` made them for another project."""
    for key, role in zip(keys, signing.ROLES, strict=False):
        file: Path | None = getattr(args, _attribute(role))
        public = None if file is None else file.with_name(f"{file.name}.pub")
        if public is not None and public.name != key.name == default_name and public.is_file():
            progress.notice(
                f"{file} signs as {key.name}, after the project, and not as {public.name}: machines know a key by its "
                "name; --project OWNER/NAME, or git's remote origin, says whose project this is"
            )


def _given(args: argparse.Namespace, env: Env, default_name: str, role: signing.Role) -> signing.SigningKey | None:
    file: Path | None = getattr(args, _attribute(role))
    if file is None:
        text = env.get(signing.variable(role), "")
        return signing.load(text, default_name, role) if text else None
    try:
        with file.open("rb") as stream:
            text = stream.read(pem.MOST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise SigningError(
            f"the {role} {file} cannot be read: {_reason(error)}",
            hint=f"`pakman keygen` makes one; or put the key's text into {signing.variable(role)}",
        ) from error
    return signing.load(text, default_name, role)


def _attribute(role: signing.Role) -> str:
    return role.replace(" ", "_")


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not text"


def keygen(args: argparse.Namespace, env: Env) -> str:
    """Make a key; return what it is for, and what to do with it."""
    from pakman import detection

    owner, name = detection.owner_and_name(Path.cwd(), env, project=args.project)
    if args.rotate:
        old = signing.private_keys(args.output, owner, name)
        made = signing.rotate(args.output, owner, name)
        return _unfinished(made, old, signing.key_name(owner, name)) + _rotation(
            *made, old[0] if len(old) == 1 else None
        )
    private, public = signing.keygen(args.output, signing.key_name(owner, name))
    return (
        f"{private}  the secret: put its text into a secret named PAKMAN_SIGNING_KEY, keep a copy, never commit it\n"
        f"{public}  what machines trust: it goes into their /etc/apk/keys under exactly this name"
    )


def _unfinished(made: tuple[Path, Path], old: tuple[Path, ...], first: str) -> str:
    """Return what to do where a rotation may have begun before; nothing where no key of one is there."""
    import shlex

    rotated = [str(each) for each in old if f"{each.name}.pub" != first]
    if not rotated:
        return ""
    return (
        f"{' and '.join(rotated)} {'is' if len(rotated) == 1 else 'are'} here from before. "
        "If the rotation to it is not finished, go on with that key,\n"
        "and take the new one away again, before anything is signed with it:\n"
        f"  rm {' '.join(shlex.quote(str(file)) for file in made)}\n\n"
    )


def _rotation(private: Path, public: Path, old: Path | None) -> str:
    """Return what to do, `old` being the file of the key before, where that is known."""
    import shlex

    file = shlex.quote(str(private))
    old_file, old_name = (
        ("FILE-OF-THE-OLD-KEY", "NAME-OF-THE-OLD-KEY.rsa") if old is None else (shlex.quote(str(old)), old.name)
    )
    secret = f"PAKMAN_SIGNING_KEY_{private.stem[-8:].upper()}"
    return f"""\
{private}  the new secret: keep a copy, never commit it
{public}  what machines are to trust, under exactly this name

1. Let both keys sign. Keep the old one where it is, and put the new one beside it:
     gh secret set {secret} < {file}
   and into the workflow:
     signing-key: ${{{{ secrets.{secret} }}}}
     previous-signing-key: ${{{{ secrets.PAKMAN_SIGNING_KEY }}}} # what signing-key had
   On the command line:
     --signing-key {file} --previous-signing-key {old_file}
   for all that signs: run, build, push, release and `pakman repository`.

2. Ship a new commit, into every channel that there is, for every architecture. Machines
   that know the old key alone upgrade as before; a new one needs the new key only.
   Where there is no new commit, sign a channel's indexes again, with both keys:
     pakman repository prune CHANNEL --keep 1000
   Its install.sh brings the new key from the next push, release or promote on.

3. Give the new key to every machine, as root: run the channel's install.sh again, or
   (the push says the whole address)
     wget -P /etc/apk/keys https://.../keys/{public.name}
   A deployment service (Instellar) that has the old .rsa.pub from you needs it, too.

4. Not before each of them has the new key, let the old one go: no previous-signing-key
   any more, in a workflow or on the command line, and on the machines
     rm /etc/apk/keys/{old_name}.pub
   A machine that has not got the new key by then is told "UNTRUSTED signature", and
   keeps what it has until it gets it.

Has somebody else got hold of the old key? Then do not wait for the machines: after 2, take
previous-signing-key away and ship one more commit, for until then install.sh brings the
old key, too. After that, on each machine, remove the old key and run install.sh again."""
