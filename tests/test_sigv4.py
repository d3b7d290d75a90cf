"""Our signatures are botocore's."""

from __future__ import annotations

import datetime
import time
from unittest.mock import patch

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from pakman.bucket import sigv4

TEXT = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=40)
HEADERS = st.dictionaries(st.sampled_from(["Content-Type", "Cache-Control", "If-None-Match", "x-amz-meta-a"]), TEXT)


@given(
    path=st.text(alphabet="abc019-._~/", max_size=40).map(lambda text: f"/{text}"),
    part=st.integers(1, 10_000),
    upload=st.text(alphabet="abcXYZ019-._~", min_size=1, max_size=60),
    headers=HEADERS,
    token=st.none() | st.text(alphabet="abc+/=", min_size=1, max_size=80),
    region=st.sampled_from(["us-east-1", "auto", "eu-north-1"]),
    seconds=st.integers(0, 4_000_000_000),
    is_body_signed=st.booleans(),
    host=st.sampled_from(["127.0.0.1:9000", "s3.example.com", "[::1]:8000"]),
)
def test_a_signature_is_botocore_s(
    path: str,
    part: int,
    upload: str,
    headers: dict[str, str],
    token: str | None,
    region: str,
    seconds: int,
    host: str,
    *,
    is_body_signed: bool,
) -> None:
    credentials = Credentials("AKIDEXAMPLE", "s3cr3t+of/the-tests", token)
    query = f"partNumber={part}&uploadId={upload}"
    request = AWSRequest("PUT", f"http://{host}{path}?{query}", headers=dict(headers), data=b"body")
    request.context["client_config"] = Config(s3={"payload_signing_enabled": is_body_signed})
    now = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)
    with patch("botocore.auth.get_current_datetime", return_value=now):
        S3SigV4Auth(credentials.get_frozen_credentials(), "s3", region).add_auth(request)
    ours = sigv4.signed(
        "PUT",
        path,
        query,
        {**headers, "Host": host},
        "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5" if is_body_signed else sigv4.UNSIGNED,
        credentials=credentials.get_frozen_credentials(),
        region=region,
        moment=time.gmtime(seconds),
    )
    assert ours["Authorization"] == request.headers["Authorization"]
    assert set(ours) - {"Host"} == set(request.headers)
