r"""A private key as text (PEM): what secret stores and shells make of it, what it is, and the name that it carries.

    Key-Name: acme-shop-5f3a9c01.rsa.pub
    -----BEGIN PRIVATE KEY-----

RFC 7468 lets explanatory text stand before -----BEGIN, and parsers ignore it: openssl reads such a file as any other.
The line is more than the name alone, because GitHub blots each line of a secret out of a job's outputs, where the
name has to be. Source: the runner's Worker.InitializeSecretMasker.
"""

from __future__ import annotations

import re

NAME_FIELD = "Key-Name"
MOST_BYTES = 64 << 10
"""Of a key's file; a key of 16384 bits has 13 KB."""
MOST_OF_A_NAME = 200
"""Characters."""

_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*\.rsa\.pub"
_NAME_LINE = re.compile(rf"{NAME_FIELD}:[^\S\n]*(.*)", re.IGNORECASE)
_ONE_LINE = re.compile(r"\s*(?:(\S.*)\s)?(-----BEGIN [A-Z ]+-----) (.+) (-----END [A-Z ]+-----)\s*")


def is_key_name(text: str) -> bool:
    """Say whether a public key's file can be called this: letters, digits, `.`, `_`, `-`, and `.rsa.pub` at the end."""
    return re.fullmatch(_NAME, text) is not None and len(text) <= MOST_OF_A_NAME


def lines(text: str) -> str:
    r"""Return a PEM text as it was before a secret store, an editor or a `\n` in a variable touched it."""
    text = text.lstrip("\ufeff")
    if "\n" not in text.strip():
        text = text.replace("\\r", "").replace("\\n", "\n")
        # What `echo $KEY` makes of it, without quotes.
        if (whole := _ONE_LINE.fullmatch(text)) is not None:
            head, begin, body, end = whole.groups(default="")
            before = re.sub(rf"({NAME_FIELD}:\s*\S*)", r"\n\1\n", head, flags=re.IGNORECASE)
            text = "\n".join([before, begin, *body.split(), end])
    kept = [line.strip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in kept if line)


def kind(text: str) -> str:
    """Return what a text says it is (`PRIVATE KEY`), of `lines`; EMPTY, BASE64 or "" where it says nothing."""
    if not text:
        return "EMPTY"
    if text.startswith(("LS0tLS1CRUdJTi", "S2V5LU5hbWU6")):  # -----BEGIN, Key-Name:
        return "BASE64"
    begin = re.search(r"^-----BEGIN ([A-Z ]+)-----$", text, re.MULTILINE)
    return begin[1] if begin else ""


def names(text: str) -> set[str]:
    """Return what a text, of `lines`, says that the key is called; whether that can be a name, is_key_name says."""
    return {found[1] for line in text.splitlines() if (found := _NAME_LINE.fullmatch(line))}


def misspells_name(text: str) -> bool:
    """Say whether a line of a text, of `lines`, names a key as `names` does not read it: `Keyname: x.rsa.pub`."""
    return re.search(rf"^key[ _]?name\s*[:=]\s*{_NAME}$", text, re.IGNORECASE | re.MULTILINE) is not None


def without_names(text: str) -> str:
    """Return a text, as it came, without the lines that name the key: all that may be secret in it."""
    return re.sub(rf"(?<!\S){NAME_FIELD}:\s*{_NAME}(?!\S)", " ", text, flags=re.IGNORECASE)


MAKE_ONE = "`pakman keygen` makes a key that fits"
WRONG_KINDS = {
    "": (
        "is not a private key in PEM",
        "{variable} holds the key's text, -----BEGIN PRIVATE KEY----- and on; a file is for {flag}; " + MAKE_ONE,
    ),
    "BASE64": (
        "is base64 of something, not PEM",
        "store the key file's text itself: gh secret set {variable} < FILE",
    ),
    "EMPTY": ("is empty", "is the secret set, and may this workflow see it? " + MAKE_ONE),
    "ENCRYPTED PRIVATE KEY": (
        "is encrypted with a passphrase, which nobody can type here",
        "remove the passphrase: openssl pkey -in FILE -out NEW-FILE",
    ),
    "PUBLIC KEY": ("is a public key", "the private key is the file without .pub"),
    "RSA PUBLIC KEY": ("is a public key", "the private key is the file without .pub"),
    "CERTIFICATE": ("is a certificate", "apk uses plain RSA keys; " + MAKE_ONE),
    # What openssl writes in front of such a key.
    "EC PARAMETERS": ("is not an RSA key, and apk knows no other", MAKE_ONE),
    "DSA PARAMETERS": ("is not an RSA key, and apk knows no other", MAKE_ONE),
    "EC PRIVATE KEY": ("is not an RSA key, and apk knows no other", MAKE_ONE),
    "DSA PRIVATE KEY": ("is not an RSA key, and apk knows no other", MAKE_ONE),
    "OPENSSH PRIVATE KEY": ("is in OpenSSH's format, not PEM", "convert a copy of it: ssh-keygen -p -m PKCS8 -f COPY"),
}
"""What a text is that is no key for us, by its kind, and what to do; {variable} and {flag} are what brought it."""
