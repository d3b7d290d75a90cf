"""Credentials that nobody gave: boto3's sources of them, whose failures are all of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore import exceptions, session


class Session(session.Session):  # type: ignore[misc]  # it has no types
    """botocore's session; where credentials cannot be had, it raises botocore's exceptions and no others."""

    def get_credentials(self) -> Any:
        """Return the credentials, as botocore does; None where no source has any."""
        with _told():
            found = super().get_credentials()
        return None if found is None else _Credentials(found)


class _Credentials:
    """Credentials whose source is asked anew when their time is up: each request asks for them here."""

    def __init__(self, found: Any) -> None:
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found, name)

    def get_frozen_credentials(self) -> Any:
        with _told():
            frozen = self._found.get_frozen_credentials()
            # An answer may say null.
            if not isinstance(frozen.access_key, str) or not isinstance(frozen.secret_key, str):
                raise TypeError
        return frozen


@contextmanager
def _told() -> Iterator[None]:
    """Raise CredentialRetrievalError for what botocore trips over: an endpoint's answer, a program's output, a file."""
    try:
        yield
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        # Of who hands them out, which need not be the bucket's server.
        raise _failure(str(error)) from error
    except (exceptions.BotoCoreError, exceptions.ClientError):
        raise
    except KeyError as error:
        raise _failure(f"the answer has no {error.args[0]}") from error
    except OSError as error:
        raise _failure(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error
    except (RuntimeError, ValueError) as error:
        raise _failure(str(error)) from error
    except Exception as error:
        raise _failure("the answer is not what it should be") from error


def _failure(what: str) -> exceptions.CredentialRetrievalError:
    return exceptions.CredentialRetrievalError(provider="boto3", error_msg=what)
