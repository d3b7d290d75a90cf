"""An OpenID provider as GitHub has one for its jobs, and an S3 server's security token service that trusts it."""

from __future__ import annotations

import json
import os
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ROLE = "arn:aws:iam::000000000000:role/pusher"
TRUSTED = "repo:acme/notes:ref:refs/heads/main"
"""Who may take the role, as GitHub names a job of a branch."""
_AUDIENCE = "sts.amazonaws.com"


@dataclass(frozen=True)
class OpenIdProvider:
    """Says who a job is, in tokens that its key has signed."""

    address: str
    _key: rsa.RSAPrivateKey

    def token(self, subject: str = TRUSTED) -> str:
        """Return a token for a job, good for ten minutes."""
        now = int(time.time())
        claims = {"iss": self.address, "sub": subject, "aud": _AUDIENCE, "iat": now, "exp": now + 600}
        signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "one"}, claims))
        return f"{signed}.{_base64(self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def trusted_by(self, folder: Path) -> str:
        """Return SeaweedFS's flag for a token service that gives the role to whom this provider says is `TRUSTED`."""
        trust = {
            "Effect": "Allow",
            "Principal": {"Federated": "github"},
            "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Condition": {"StringEquals": {"oidc:sub": TRUSTED}},
        }
        may = {"Effect": "Allow", "Action": ["s3:*", "sts:ValidateSession"], "Resource": ["*"]}
        endpoint = {"issuer": self.address, "clientId": _AUDIENCE, "jwksUri": f"{self.address}/keys"}
        configuration: dict[str, Any] = {
            "sts": {
                "tokenDuration": "1h", "maxSessionLength": "12h", "issuer": "tests",
                "signingKey": b64encode(os.urandom(32)).decode(),
            },
            "providers": [{"name": "github", "type": "oidc", "enabled": True, "config": endpoint}],
            "policy": {"defaultEffect": "Deny", "storeType": "memory"},
            "policies": [{"name": "push", "document": {"Version": "2012-10-17", "Statement": [may]}}],
            "roles": [
                {
                    "roleName": "pusher", "roleArn": ROLE, "attachedPolicies": ["push"],
                    "trustPolicy": {"Version": "2012-10-17", "Statement": [trust]},
                }
            ],
        }  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "iam.json"
        file.write_text(json.dumps(configuration))
        return f"-s3.iam.config={file}"


@contextmanager
def running_openid_provider() -> Iterator[OpenIdProvider]:
    """Serve a new key's public half on a free loopback port."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    numbers = key.public_key().public_numbers()
    public = {
        "kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256",
        "n": _base64(numbers.n.to_bytes(256, "big")), "e": _base64(numbers.e.to_bytes(3, "big")),
    }  # fmt: skip
    keys = json.dumps({"keys": [public]}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield OpenIdProvider(f"http://127.0.0.1:{server.server_port}", key)
        finally:
            server.shutdown()
            thread.join()


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
