"""RSA keys that packages and indexes are signed with, and that machines trust.

The private key stays inside `SigningKey`: no text of it is in an exception, a repr or a log line.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from pakman import pem
from pakman.errors import SigningError

if TYPE_CHECKING:  # cryptography takes a tenth of a second to import; most commands sign nothing
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

MIN_BITS = 2048
_THROWAWAY_BITS = 2048
_KEYGEN_BITS = 4096
"""What abuild-keygen makes."""

Role = Literal["signing key", "previous signing key"]
ROLES: tuple[Role, Role] = ("signing key", "previous signing key")
"""What a private key is for: the flag, the variable and the input that it comes by are called the same."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, under the name that its public half has on every machine that trusts it."""

    name: str
    """The public key's file name, `<owner>-<name>.rsa.pub`: apk looks for exactly this in /etc/apk/keys."""
    public_pem: bytes
    """The public key's file."""
    _private: RSAPrivateKey = field(repr=False, compare=False)

    def sign(self, sha1: bytes) -> bytes:
        """Return RSA PKCS#1 v1.5 over this SHA-1 digest: what apk calls an RSA signature."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, utils

        return self._private.sign(sha1, padding.PKCS1v15(), utils.Prehashed(hashes.SHA1()))  # noqa: S303 apk's format

    def public_key(self) -> PublicKey:
        """Return the half that others may have."""
        return load_public(self.public_pem.decode(), self.name)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that a machine trusts."""

    name: str
    """Its file name."""
    pem: bytes
    _public: RSAPublicKey = field(repr=False, compare=False)

    def holds(self, signature: bytes, algorithm: str, digest: bytes) -> bool:
        """Say whether `signature` is this key's, of what has this digest by `algorithm` (hashlib's name)."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding, utils

        digests: dict[str, hashes.HashAlgorithm] = {
            "sha1": hashes.SHA1(),  # noqa: S303 apk's format
            "sha256": hashes.SHA256(),
            "sha512": hashes.SHA512(),
        }
        try:
            self._public.verify(signature, digest, padding.PKCS1v15(), utils.Prehashed(digests[algorithm]))
        except InvalidSignature:
            return False
        return True


def key_name(owner: str, name: str) -> str:
    """Return the public key's file name for a repository `owner/name`. Raises SigningError where it can be none."""
    result = f"{owner}-{name}.rsa.pub"
    if not pem.is_key_name(result) or not owner or not name:
        raise SigningError(
            f"no key can be named after {owner!r} and {name!r}: a key's name is letters, digits, '.', '_' and '-', "
            f"at most {pem.MOST_OF_A_NAME} of them",
            hint="give --project OWNER/NAME as GitHub spells it",
        )
    return result


def is_one(name: str, content: bytes, keys: Collection[SigningKey] = ()) -> bool:
    """Say whether a file holds a private key that signs packages: one of `keys`, or one that `keygen` may have made.

    Its keys carry their name, or their file does: `<owner>-<name>.rsa`.
    """
    try:
        text = content.decode()
        found = load(text, "x.rsa.pub")
    except (SigningError, UnicodeDecodeError):
        return False
    is_keygens = re.fullmatch(r".+-.+\.rsa", name) is not None or bool(pem.names(pem.lines(text)))
    return is_keygens or found.public_pem in {key.public_pem for key in keys}


def load(text: str, default_name: str, role: Role = "signing key") -> SigningKey:
    """Return the private key in a PEM text (PKCS#1 or PKCS#8), known to apk by the name in the text, else the default.

    Line ends, indentation and a blank or a literal backslash-n for a newline, which secrets go through, do not matter.
    Whichever project's key the name is of, it is taken: several may share one key. Other text before the key is no
    matter, either, but a name that none can have is an error: under the default one, machines would refuse the key.
    Raises SigningError saying what else the text is, never quoting it.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = pem.lines(text)
    kind = pem.kind(text)
    if kind not in ("PRIVATE KEY", "RSA PRIVATE KEY"):
        _refuse(kind, role)
    if "Proc-Type: 4,ENCRYPTED" in text:
        _refuse("ENCRYPTED PRIVATE KEY", role)
    name = _name(text, default_name, role)
    try:
        # OpenSSL's own check tests the primes, which takes a quarter of a second of every run; what it signs is tested.
        key = load_pem_private_key(text.encode(), password=None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, RSAPrivateKey):
            key.public_key().verify(key.sign(b"", PKCS1v15(), SHA256()), b"", PKCS1v15(), SHA256())
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature):
        # Not `from error`: what OpenSSL says helps nobody here, and must not carry the text along.
        key = None
    if key is None:
        raise SigningError(
            f"the {role} is damaged: it begins and ends like a private key, but what is in between is none",
            hint="copy the whole file again, from -----BEGIN to -----END, line breaks included",
        )
    if not isinstance(key, RSAPrivateKey):
        raise SigningError(f"the {role} is not an RSA key, and apk knows no other", hint=pem.MAKE_ONE)
    if key.key_size < MIN_BITS:
        raise SigningError(f"the {role} has {key.key_size} bits; at least {MIN_BITS} are needed", hint=pem.MAKE_ONE)
    return _signing_key(key, name)


def _name(text: str, default: str, role: Role) -> str:
    names = pem.names(text)
    if len(names) > 1:
        raise SigningError(
            f"the {role} has more than one line {pem.NAME_FIELD}:, and a key has one name", hint="keep one of them"
        )
    if not names and pem.misspells_name(text):
        raise SigningError(
            f"the {role} has a line with a key's name that does not begin with {pem.NAME_FIELD}:",
            hint=f"write it as {pem.NAME_FIELD}: acme-shop-2.rsa.pub, or take the line away",
        )
    name = next(iter(names), default)
    if names and not pem.is_key_name(name):
        raise SigningError(
            f"the {role}'s line {pem.NAME_FIELD}: has no name that a key can have: letters, digits, '.', '_' and '-', "
            f"at most {pem.MOST_OF_A_NAME} of them, and .rsa.pub at the end",
            hint=f"write what its public half is called on the machines, e.g. {pem.NAME_FIELD}: acme-shop-2.rsa.pub; "
            "or take the line away",
        )
    return name


def load_public(text: str, name: str) -> PublicKey:
    """Return the public key in a PEM text. Raises SigningError saying what else the text is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    text = pem.lines(text)
    if "PRIVATE KEY-----" in text:
        raise SigningError(
            f"{name} is a private key; a public one is wanted", hint="name the file that ends in .rsa.pub"
        )
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise SigningError(f"{name} is not an RSA public key in PEM", hint="it begins with -----BEGIN PUBLIC KEY-----")
    return PublicKey(name, text.encode(), key)


def read_public(path: Path) -> PublicKey:
    """Return the public key in a file. Raises SigningError where it cannot be read or is none."""
    try:
        with path.open("rb") as file:
            content = file.read(pem.MOST_BYTES)
    except OSError as error:
        raise SigningError(
            f"the public key {path} cannot be read: {error.strerror or error}",
            hint="name the .rsa.pub file that `pakman build` or `pakman keygen` wrote",
        ) from error
    return load_public(content.decode("ascii", "replace"), path.name)


def generate(name: str, bits: int = _THROWAWAY_BITS) -> SigningKey:
    """Return a new key."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return _signing_key(generate_private_key(public_exponent=65537, key_size=bits), name)


def throwaway_pem(bits: int) -> bytes:
    """Return the PEM text of a new private key, for what has to be signed and is signed again by a key that counts."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = generate_private_key(public_exponent=65537, key_size=bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def keygen(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a key; return the paths of the private key, readable by its owner only, and of the public one.

    The public key's file is DIR/<name>, the private key's is the same without `.pub`; DIR is made where it is missing.
    Nothing is ever overwritten. Raises SigningError where one of the files exists or cannot be written.
    """
    for path in _pair(directory, name):
        if path.exists() or path.is_symlink():
            raise _exists(path)
    return _write(directory, generate(name, _KEYGEN_BITS), "")


def rotate(directory: Path, owner: str, name: str) -> tuple[Path, Path]:
    """Make the key that follows a repository's earlier ones, as `keygen` does, under a name that is its alone.

    The name is `<owner>-<name>-<the first eight digits of its SHA-256>.rsa.pub`, and the private key's text carries it.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = generate(key_name(owner, name), _KEYGEN_BITS)
    der = key._private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    own = replace(key, name=key_name(owner, f"{name}-{hashlib.sha256(der).hexdigest()[:8]}"))
    return _write(directory, own, f"{pem.NAME_FIELD}: {own.name}\n")


def may_be_keys(directory: Path, owner: str, name: str) -> tuple[Path, ...]:
    """Return the places in a directory where a repository's private keys may lie, whatever is in these files."""
    return (directory / f"{owner}-{name}.rsa", *sorted(directory.glob(f"{owner}-{name}-*.rsa")))


def private_keys(directory: Path, owner: str, name: str) -> tuple[Path, ...]:
    """Return those of `may_be_keys` that are called exactly as `keygen` calls them, rotated or not; sorted."""
    exactly = re.compile(rf"{re.escape(f'{owner}-{name}')}(-[0-9a-f]{{8}})?\.rsa")
    places = may_be_keys(directory, owner, name)
    return tuple(sorted(each for each in places if exactly.fullmatch(each.name) and each.is_file()))


def _pair(directory: Path, name: str) -> tuple[Path, Path]:
    return directory / name.removesuffix(".pub"), directory / name


def _write(directory: Path, key: SigningKey, head: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private, public = _pair(directory, key.name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(directory, error) from error
    text = key._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _create(private, head.encode() + text, 0o600)
    try:
        _create(public, key.public_pem, 0o644)
    except SigningError:
        private.unlink()
        raise
    return private, public


def flag(role: Role) -> str:
    """Return the flag that names a key's file."""
    return f"--{role.replace(' ', '-')}"


def variable(role: Role) -> str:
    """Return the variable of the environment that holds a key's text."""
    return f"PAKMAN_{role.replace(' ', '_').upper()}"


def _refuse(kind: str, role: Role) -> NoReturn:
    what, hint = pem.WRONG_KINDS.get(kind, pem.WRONG_KINDS[""])
    raise SigningError(f"the {role} {what}", hint=hint.format(variable=variable(role), flag=flag(role)))


def _signing_key(key: RSAPrivateKey, name: str) -> SigningKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return SigningKey(name, public, key)


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            # Whatever the umask says: others must be able to read the one, nobody the other.
            os.fchmod(descriptor, mode)
            file.write(content)
    except OSError as error:
        path.unlink()
        raise _cannot_write(path, error) from error


def _exists(path: Path) -> SigningError:
    return SigningError(
        f"{path} exists; a key is never overwritten",
        hint="use the key that is there: machines that trust it refuse packages of another one; "
        "`pakman keygen --rotate` makes the one that follows it",
    )


def _cannot_write(path: Path, error: OSError) -> SigningError:
    return SigningError(
        f"{path} cannot be written: {error.strerror or error}", hint="choose another --output directory"
    )
