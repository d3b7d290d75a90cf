"""What goes wrong with an S3 server, in one sentence and a hint each; never with a credential in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pakman.bucket.connection import Access
from pakman.bucket.waiting import unsent
from pakman.errors import BucketError, one_line

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_SENTENCES: dict[str, tuple[str, str]] = {
    "NoSuchBucket": (
        "there is no such bucket",
        "make it first, or look at its name and the server's address",
    ),
    "InvalidAccessKeyId": (
        "the server does not know this access key id",
        "look at AWS_ACCESS_KEY_ID, and whether it is for this server",
    ),
    "SignatureDoesNotMatch": (
        "the secret access key is not the one that belongs to the access key id",
        "look at AWS_SECRET_ACCESS_KEY: is all of it there, and nothing else?",
    ),
    "ExpiredToken": (
        "the session token has expired",
        "get new credentials and run it again: what has arrived is kept",
    ),
    "InvalidToken": (
        "the server does not take the session token",
        "look at AWS_SESSION_TOKEN: it belongs to one pair of keys, and long-lived keys have none",
    ),
    "RequestTimeTooSkewed": (
        "this machine's clock and the server's are too far apart",
        "set this machine's clock: more than fifteen minutes of difference are refused",
    ),
    "AccessDenied": (
        "the credentials do not allow this",
        "they need s3:PutObject on the bucket's objects, as all that ships does; to replace one, s3:GetObject as well",
    ),
    "PermanentRedirect": (
        "the bucket is in another region",
        "give the bucket's region as --region",
    ),
    "InsufficientStorage": (
        "the server has no room left",
        "make room there and run it again: what has arrived is kept",
    ),
    "ServerError": (
        "the server failed, again and again",
        "its disk may be full: its log says more; run it again later: what has arrived is kept",
    ),
    "SlowDown": (
        "the server has too much to do",
        "run it again later (`push`, `release` and `deploy` with a lower --concurrency): what has arrived is kept",
    ),
    "NotS3": (
        "what answers there is not an S3 server",
        "look at the server's address and port: it is the address of S3's API, not that of a web page",
    ),
    "BadDigest": (
        "the bytes changed on their way, or while they were read",
        "run it again; if it happens again, look at this machine's memory and at proxies on the way",
    ),
}
"""By S3's error codes (docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), other codes under one of these."""

_OTHER_CODES = {
    "400": "NotS3",
    "404": "NotS3",
    "405": "NotS3",
    "403": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "AccountProblem": "AccessDenied",
    "Forbidden": "AccessDenied",
    "TokenRefreshRequired": "ExpiredToken",
    "ExpiredTokenException": "ExpiredToken",
    "RequestExpired": "RequestTimeTooSkewed",
    "301": "PermanentRedirect",
    "307": "PermanentRedirect",
    "AuthorizationHeaderMalformed": "PermanentRedirect",
    "IllegalLocationConstraintException": "PermanentRedirect",
    "507": "InsufficientStorage",
    "XMinioStorageFull": "InsufficientStorage",
    "QuotaExceeded": "InsufficientStorage",
    "storage_cap_exceeded": "InsufficientStorage",
}

_RIGHTS = {
    "ListObjectsV2": "they need s3:ListBucket on the bucket, as `pakman release`, `deploy` and `repository` do",
    "GetObject": "they need s3:GetObject on the bucket's objects, as every command does: it reads what is there",
    "CopyObject": "they need s3:GetObject and s3:PutObject on the bucket's objects, as all that changes a channel does",
    "DeleteObject": "they need s3:DeleteObject on the bucket's objects, as `pakman repository prune` and `rollback` do",
}
"""What is missing where one of these requests is denied; of the others all store. What only clears up, and is denied,
stops nobody."""

_ROLE = "look at AWS_ROLE_ARN, and at what the role's trust policy wants of who takes it: repository, branch, audience"

NOT_S3 = _SENTENCES["NotS3"]

_ADDRESS = "look at the server's address and port, and whether it is running"
_AWS = (
    "a server that is not AWS is named by --endpoint-url (AWS_ENDPOINT_URL); for AWS, look at the network and at "
    "proxies on the way"
)


@contextmanager
def told(access: Access, key: str = "") -> Iterator[None]:
    """Turn what botocore raises inside into a BucketError about the bucket, or about the object `key` in it."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _refused(access, key, error) from error
    except BotoCoreError as error:
        raise _failed(access, key, error) from error
    except (ResponseParserError, LookupError, TypeError, ValueError, AttributeError) as error:
        # The latter: what every S3 server's answer has is missing in this one, or botocore could not make sense of it.
        raise failure(access, key, NOT_S3) from error


def failure(access: Access, key: str, sentence: tuple[str, str]) -> BucketError:
    """Return the error for a sentence and its hint, said of the bucket, or of the object `key` in it."""
    where = f"{key} in {access.place}" if key else access.place
    return BucketError(f"{where}: {sentence[0]}", hint=sentence[1])


def code(error: ClientError) -> str:
    """Return S3's code for what it refused; where the answer has no body, as on HEAD, the HTTP status as text."""
    return one_line(error.response.get("Error", {}).get("Code") or status(error))


def status(error: ClientError) -> int:
    """Return the HTTP status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refused(access: Access, key: str, error: ClientError) -> BucketError:
    said = code(error)
    if error.operation_name.startswith("Assume"):
        words = one_line(error.response.get("Error", {}).get("Message", said))
        return failure(access, "", (f"the role cannot be taken: {words}", _ROLE))
    known = said if said in _SENTENCES else _OTHER_CODES.get(said)
    if said == "500" and not key:
        # So botocore calls an answer of 200 that is not XML. S3 has a code of its own in every 500.
        known = "NotS3"
    if known is None and status(error) == 507:
        known = "InsufficientStorage"
    if known is None and status(error) in (429, 503):
        known = "SlowDown"
    if known is None and ((status(error) >= 500 and status(error) != 501) or said == "RequestTimeout"):
        known = "ServerError"
    if known is None:
        return failure(access, key, (f"the server refused: {said} ({status(error)})", "the server's log may say more"))
    sentence, hint = _SENTENCES[known]
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
    if known == "AccessDenied":
        hint = _RIGHTS.get(error.operation_name, hint)
    if known == "PermanentRedirect" and region:
        hint = f"give the bucket's region: --region {one_line(region)}"
    if known in ("PermanentRedirect", "ServerError", "SlowDown"):
        sentence = f"{sentence} ({said})"
    return failure(access, key, (sentence, hint))


def _failed(access: Access, key: str, error: Exception) -> BucketError:
    from botocore import exceptions as botocore

    server = access.endpoint or "AWS"
    address = (f"nobody answers at {server}", _ADDRESS if access.endpoint else _AWS)
    broken = ("the connection broke", "run it again: what has arrived is kept")
    sentences: list[tuple[type[Exception], tuple[str, str]]] = [
        (
            botocore.NoCredentialsError,
            (
                "no credentials were found",
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the job a role; in a workflow: access-key-id "
                "and secret-access-key, of secrets that it may see",
            ),
        ),
        (
            botocore.CredentialRetrievalError,
            (
                f"the credentials cannot be had: {_how(error)}",
                "look at where they come from: AWS_CONTAINER_CREDENTIALS_FULL_URI (or _RELATIVE_URI), "
                "AWS_WEB_IDENTITY_TOKEN_FILE, or AWS_PROFILE and ~/.aws, whichever there is",
            ),
        ),
        (botocore.SSLError, _without_tls(access, error)),
        (botocore.ProxyConnectionError, ("the proxy does not answer", _proxies(access))),
        (
            botocore.ReadTimeoutError,
            (
                "the server took the request, but did not answer in time",
                "run it again: what has arrived is kept; if it happens again, is it an S3 server?",
            ),
        ),
        (botocore.EndpointConnectionError, address),
        (botocore.ConnectTimeoutError, address),
        # Before the first object it is the first thing that we hear from there.
        (botocore.ConnectionClosedError, broken if key or _has_begun(error) else NOT_S3),
        (botocore.HTTPClientError, _unsent(access, error) or broken),
        (botocore.IncompleteReadError, broken),
        (botocore.PaginationError, NOT_S3),
    ]
    for kind, sentence in sentences:
        if isinstance(error, kind):
            return failure(access, key, sentence)
    # A profile that is not there, a role that cannot be taken: botocore's words name files and profiles, not secrets.
    text = one_line(error)
    return failure(access, key, (f"boto3 cannot use what it was given: {text}", "look at AWS_PROFILE and ~/.aws"))


def _without_tls(access: Access, error: Exception) -> tuple[str, str]:
    """Return what is said where TLS does not come about; OpenSSL's names of its errors are in the cause's words."""
    words = one_line(getattr(error, "kwargs", {}).get("error"))
    if "WRONG_VERSION_NUMBER" in words and access.endpoint is not None:
        return ("it speaks no TLS", f"write http://{access.endpoint.partition('://')[2]}")
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return (
            "the server's TLS certificate is not trusted",
            "for a certificate of your own, name its CA's file in AWS_CA_BUNDLE",
        )
    return (
        f"TLS does not come about: {words}",
        "look at the server's address and port, at proxies on the way, and at AWS_CA_BUNDLE and REQUESTS_CA_BUNDLE",
    )


def _has_begun(error: Exception) -> bool:
    """Say whether a connection was closed within an answer: urllib3 calls that broken, and before one aborted."""
    return "Connection broken" in str(getattr(error, "kwargs", {}).get("error"))


def _proxies(access: Access) -> str:
    """Return where one looks for a proxy that is not what it should be."""
    scheme = (access.endpoint or "https").partition("://")[0]
    return f"look at {scheme}_proxy, {scheme.upper()}_PROXY and NO_PROXY"


def _unsent(access: Access, error: Exception) -> tuple[str, str] | None:
    """Return what is said of a request that never left; None where it did. The causes' words may hold secrets."""
    from botocore.utils import get_environ_proxies

    if (cause := unsent(error)) is None:
        return None
    if str(cause).startswith("Invalid header"):
        return (
            "a credential has a line break in it",
            "look at where the credentials come from: each of them is one line",
        )
    if not get_environ_proxies(access.endpoint or "https://s3.amazonaws.com"):
        return None
    # The server's own address has been looked at before.
    return ("the proxy's address is not one", f"{_proxies(access)}: it is written as http://proxy.example.com:3128")


def _how(error: Exception) -> str:
    """Return why credentials cannot be had; what follows the status of an endpoint's answer may be credentials."""
    words = " ".join(str(getattr(error, "kwargs", {}).get("error_msg", "")).split())
    return words.partition(" from container metadata: ")[0][:300]
