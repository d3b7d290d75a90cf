"""Signing keys: every shape a secret arrives in, and a sentence for each that is none."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import os
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from pakman import signing
from pakman.errors import SigningError

NAME = "acme-shop.rsa.pub"
DIGEST = hashlib.sha1(b"content").digest()


@functools.cache
def private(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey | None = None,
    form: PrivateFormat = PrivateFormat.PKCS8,
    encryption: KeySerializationEncryption | None = None,
) -> str:
    return (key or private()).private_bytes(Encoding.PEM, form, encryption or NoEncryption()).decode()


SHAPES: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "without the last newline": str.rstrip,
    "with Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "with old Mac line ends": lambda text: text.replace("\n", "\r"),
    "with blanks for newlines": lambda text: text.replace("\n", " "),
    "with a literal backslash-n": lambda text: text.replace("\n", "\\n"),
    "with a literal backslash-r-backslash-n": lambda text: text.replace("\n", "\\r\\n"),
    "indented": lambda text: "".join(f"    {line}\n" for line in text.splitlines()),
    "between blank lines": lambda text: f"\n\n{text}\n\n",
    "with a byte order mark": lambda text: f"\ufeff{text}",
    "with trailing blanks": lambda text: text.replace("\n", " \n"),
}


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL], ids=["pkcs8", "pkcs1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_is_loaded_in_every_shape(form: PrivateFormat, shape: str) -> None:
    key = signing.load(SHAPES[shape](pem(form=form)), NAME)
    assert key.name == NAME
    assert key.public_key().holds(key.sign(DIGEST), "sha1", DIGEST)
    public = private().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert key.public_pem == public


OWN = "acme-shop-5f3a9c01.rsa.pub"


def named(name: str = OWN, text: str = "") -> str:
    return f"Key-Name: {name}\n{text or pem()}"


@pytest.mark.parametrize("shape", SHAPES)
def test_a_key_s_own_name_is_read_in_every_shape(shape: str) -> None:
    key = signing.load(SHAPES[shape](named()), NAME)
    assert (key.name, key.public_pem) == (OWN, signing.load(pem(), NAME).public_pem)


BAGS = "Bag Attributes\n    friendlyName: shop\nKey Attributes: <No Attributes>\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (BAGS, NAME),
        (f"{BAGS}Key-Name: {OWN}\n", OWN),
        (f"Key-Name: {OWN}\n{BAGS}", OWN),
        (f"key-name:{OWN}\n", OWN),
        (f"Key-Name:   {OWN}   \n\nKey-Name: {OWN}\n", OWN),
        ("Key-Name: other-project.rsa.pub\n", "other-project.rsa.pub"),
        ("# Key-Names: are in the wiki\n", NAME),
    ],
)
@pytest.mark.parametrize("newline", ["\n", " "])
def test_other_text_before_a_key_is_no_matter(text: str, name: str, newline: str) -> None:
    assert signing.load((text + pem()).replace("\n", newline), NAME).name == name


BAD_NAMES = ["", "shop", "shop.pub", "../shop.rsa.pub", "a b.rsa.pub", "-x.rsa.pub", "é.rsa.pub", ".rsa.pub"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "x" * 193 + ".rsa.pub"])
def test_a_name_that_no_key_can_have_is_refused(name: str) -> None:
    with pytest.raises(
        SigningError, match="the signing key's line Key-Name: has no name that a key can have"
    ) as caught:
        signing.load(named(name), NAME)
    assert "Key-Name: acme-shop-2.rsa.pub" in caught.value.hint


def test_a_line_that_misspells_the_field_is_not_passed_over() -> None:
    for misspelt in (f"Keyname: {OWN}\n", f"Key_Name: {OWN}\n", f"key name = {OWN}\n"):
        with pytest.raises(
            SigningError, match="has a line with a key's name that does not begin with Key-Name:"
        ) as caught:
            signing.load(misspelt + pem(), NAME)
        assert OWN not in caught.value.message


def test_a_key_has_one_name() -> None:
    with pytest.raises(SigningError, match="the signing key has more than one line Key-Name:"):
        signing.load(named(text=named("other.rsa.pub")), NAME)


def test_what_is_wrong_with_the_previous_key_names_where_that_one_comes_from() -> None:
    with pytest.raises(SigningError, match="the previous signing key is not a private key in PEM") as caught:
        signing.load("garbage", NAME, "previous signing key")
    assert "PAKMAN_PREVIOUS_SIGNING_KEY holds" in caught.value.hint
    assert "--previous-signing-key;" in caught.value.hint


def certificate() -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "example")])
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(private().public_key())
    builder = builder.serial_number(1).not_valid_before(moment).not_valid_after(moment + datetime.timedelta(1))
    return builder.sign(private(), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def public() -> str:
    return private().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def mixed_up() -> str:
    """A private key in whose text another number stands for the modulus."""
    der = private().private_bytes(Encoding.DER, PKCS1, NoEncryption())
    modulus = private().public_key().public_numbers().n
    size = modulus.bit_length() // 8
    wrong = der.replace(modulus.to_bytes(size), (modulus ^ 1 << 500).to_bytes(size))
    return f"-----BEGIN RSA PRIVATE KEY-----\n{base64.encodebytes(wrong).decode()}-----END RSA PRIVATE KEY-----\n"


PASSPHRASE = BestAvailableEncryption(b"a passphrase")
PKCS1 = PrivateFormat.TraditionalOpenSSL
WRONG: dict[str, tuple[Callable[[], str], str, str]] = {
    "empty": (lambda: "", "is empty", "is the secret set"),
    "blank": (lambda: " \n ", "is empty", "is the secret set"),
    "garbage": (lambda: "garbage", "is not a private key in PEM", "keygen"),
    "not ASCII": (lambda: "k\u00e9y\0\x1b", "is not a private key in PEM", "keygen"),
    "base64 of PEM": (lambda: base64.b64encode(pem().encode()).decode(), "is base64", "the key file's text itself"),
    "base64 of PEM with a name": (lambda: base64.b64encode(named().encode()).decode(), "is base64", "text itself"),
    "encrypted, PKCS#8": (lambda: pem(encryption=PASSPHRASE), "encrypted with a passphrase", "openssl pkey"),
    "encrypted, PKCS#1": (lambda: pem(form=PKCS1, encryption=PASSPHRASE), "encrypted with a passphrase", "openssl"),
    "a public key": (public, "is a public key", "without .pub"),
    "a certificate": (certificate, "is a certificate", "plain RSA keys"),
    "an EC key": (lambda: pem(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key", "keygen"),
    "an EC key of the old form": (
        lambda: pem(ec.generate_private_key(ec.SECP256R1()), PKCS1),
        "is not an RSA key",
        "keygen",
    ),
    # As `openssl ecparam -genkey` writes it, without -noout.
    "an EC key behind its curve": (
        lambda: (
            "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + pem(ec.generate_private_key(ec.SECP256R1()), PKCS1)
        ),
        "is not an RSA key",
        "keygen",
    ),
    "an Ed25519 key": (lambda: pem(ed25519.Ed25519PrivateKey.generate()), "is not an RSA key", "keygen"),
    "an OpenSSH key": (lambda: pem(form=PrivateFormat.OpenSSH), "is in OpenSSH's format", "ssh-keygen -p"),
    "too short a key": (lambda: pem(private(1024)), "has 1024 bits; at least 2048 are needed", "keygen"),
    "cut off": (lambda: pem()[:700], "is damaged", "copy the whole file"),
    "a line missing": (lambda: "".join([*pem().splitlines(keepends=True)[:5], pem()[-26:]]), "is damaged", "copy"),
    "a changed letter": (lambda: pem().replace(pem()[900], "!", 1), "is damaged|is not a private key", ""),
    "on one line behind a name": (lambda: named().replace("\n", ""), "is not a private key in PEM", ""),
    "on one line": (lambda: pem().replace("\n", ""), "is not a private key in PEM", ""),
    "a wrong number": (mixed_up, "is damaged", "copy"),
    "nothing inside": (lambda: "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "is damaged", "copy"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_no_key_is_one_sentence_without_its_text(kind: str) -> None:
    make, message, hint = WRONG[kind]
    text = make()
    with pytest.raises(SigningError, match=message) as caught:
        signing.load(text, NAME)
    assert hint in caught.value.hint
    said = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert not any(line in said for line in text.split("\n") if len(line) > 30 and "-----" not in line)


def test_the_key_is_in_no_repr() -> None:
    key = signing.load(pem(), NAME)
    numbers = private().private_numbers()
    for said in (repr(key), str(key), f"{key}", repr([key])):
        assert str(numbers.d) not in said
        assert str(numbers.p) not in said
        assert not any(line in said for line in pem().splitlines() if "-----" not in line)


def test_a_signature_holds_for_its_key_and_digest_only() -> None:
    key, other = signing.load(pem(), NAME), signing.generate(NAME)
    signature = key.sign(DIGEST)
    assert key.public_key().holds(signature, "sha1", DIGEST)
    assert not key.public_key().holds(signature, "sha1", hashlib.sha1(b"other").digest())
    assert not key.public_key().holds(signature[:-1], "sha1", DIGEST)
    assert not other.public_key().holds(signature, "sha1", DIGEST)
    assert key.sign(DIGEST) == signature


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pem, f"{NAME} is a private key; a public one is wanted"),
        (certificate, "is not an RSA public key in PEM"),
        (lambda: "garbage", "is not an RSA public key in PEM"),
        (
            lambda: (
                ec.generate_private_key(ec.SECP256R1())
                .public_key()
                .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
                .decode()
            ),
            "is not an RSA public key in PEM",
        ),
    ],
    ids=["private", "certificate", "garbage", "EC"],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, make: Callable[[], str], message: str) -> None:
    (tmp_path / NAME).write_text(make())
    with pytest.raises(SigningError, match=message):
        signing.read_public(tmp_path / NAME)


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_public_key_that_cannot_be_read_is_one_sentence(tmp_path: Path, place: str) -> None:
    with pytest.raises(SigningError, match=r"the public key .* cannot be read"):
        signing.read_public(tmp_path / place)


def test_a_key_is_named_after_the_repository() -> None:
    assert signing.key_name("Acme", "web.shop_2") == "Acme-web.shop_2.rsa.pub"


@pytest.mark.parametrize(
    ("owner", "name"), [("", "shop"), ("acme", ""), ("../acme", "x"), ("acme", "a/b"), ("a b", "c"), ("a", "x" * 200)]
)
def test_names_that_no_key_can_have_are_refused(owner: str, name: str) -> None:
    with pytest.raises(SigningError, match="no key can be named after"):
        signing.key_name(owner, name)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make short keys: a long one takes a second, and its length is not what these tests are about."""
    monkeypatch.setattr(signing, "_KEYGEN_BITS", 2048)


@pytest.fixture
def loose_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("quick", "loose_umask")
def test_keygen_makes_a_pair_that_fits(tmp_path: Path) -> None:
    secret, trusted = signing.keygen(tmp_path / "keys", NAME)
    assert (secret.name, trusted.name) == ("acme-shop.rsa", NAME)
    assert (secret.stat().st_mode & 0o777, trusted.stat().st_mode & 0o777) == (0o600, 0o644)
    key = signing.load(secret.read_text(), NAME)
    assert signing.read_public(trusted).holds(key.sign(DIGEST), "sha1", DIGEST)


def test_keygen_makes_keys_as_long_as_alpines(tmp_path: Path) -> None:
    secret, _ = signing.keygen(tmp_path, NAME)
    assert signing.load(secret.read_text(), NAME)._private.key_size == 4096


@pytest.mark.usefixtures("quick", "loose_umask")
def test_a_key_that_follows_has_a_name_of_its_own_and_carries_it(tmp_path: Path) -> None:
    signing.keygen(tmp_path, NAME)
    made = [signing.rotate(tmp_path, "acme", "shop") for _ in range(2)]
    assert len(list(tmp_path.iterdir())) == 6
    for secret, trusted in made:
        assert re.fullmatch(r"acme-shop-[0-9a-f]{8}\.rsa\.pub", trusted.name)
        assert secret.name == trusted.name.removesuffix(".pub")
        assert (secret.stat().st_mode & 0o777, trusted.stat().st_mode & 0o777) == (0o600, 0o644)
        assert secret.read_text().startswith(f"Key-Name: {trusted.name}\n-----BEGIN PRIVATE KEY-----\n")
        key = signing.load(secret.read_text(), NAME)
        assert key.name == trusted.name
        assert signing.read_public(trusted).holds(key.sign(DIGEST), "sha1", DIGEST)
        # Another parser than ours reads the file as it is.
        assert load_pem_private_key(secret.read_bytes(), password=None)
    assert {path.name for path in signing.private_keys(tmp_path, "acme", "shop")} == {
        "acme-shop.rsa",
        *(secret.name for secret, _ in made),
    }


@pytest.mark.usefixtures("quick")
def test_a_private_key_that_signs_is_known_when_it_is_seen(tmp_path: Path) -> None:
    first, _ = signing.keygen(tmp_path, NAME)
    second, _ = signing.rotate(tmp_path, "acme", "shop")
    ours = signing.load(first.read_text(), NAME)
    for name, content, keys in (
        ("local-shop.rsa", first.read_bytes(), ()),
        ("deploy.pem", first.read_bytes(), [ours]),
        ("deploy.pem", second.read_bytes(), ()),
    ):
        assert signing.is_one(name, content, keys), name
    # The application's own, and what is none.
    for name, content in {"jwt.rsa": first.read_bytes(), "a-b.rsa": b"PRIVATE KEY-----", "a-c.rsa": b"\xff"}.items():
        assert not signing.is_one(name, content), name


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("there", ["acme-shop.rsa", NAME])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_keygen_overwrites_nothing(tmp_path: Path, there: str, make: Callable[[Path], None]) -> None:
    make(tmp_path / there)
    with pytest.raises(SigningError, match=f"{there} exists; a key is never overwritten"):
        signing.keygen(tmp_path, NAME)
    assert [path.name for path in tmp_path.iterdir()] == [there]


@pytest.mark.usefixtures("quick")
def test_keygen_loses_a_race_without_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else makes the public key after we looked: the private key that fits none goes away again."""
    made = signing.generate

    def slowly(name: str, bits: int) -> signing.SigningKey:
        (tmp_path / NAME).write_text("theirs")
        return made(name, bits)

    monkeypatch.setattr(signing, "generate", slowly)
    with pytest.raises(SigningError, match="exists; a key is never overwritten"):
        signing.keygen(tmp_path, NAME)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(NAME, "theirs")]


@pytest.mark.usefixtures("quick")
def test_keygen_where_nothing_can_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SigningError, match=r"file cannot be written: File exists|Not a directory"):
        signing.keygen(tmp_path / "file", NAME)


def test_a_throwaway_key_is_a_key() -> None:
    assert signing.load(signing.throwaway_pem(2048).decode(), NAME).name == NAME
