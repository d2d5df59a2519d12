"""The errors of Google's libraries, as one line each."""

import contextlib
from collections.abc import Iterator

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from requests import exceptions as http_exceptions

from tasks.errors import StoreError

#: The meaning of HTTP's status codes.
_MEANINGS = {
    401: "the store does not accept these credentials. Renew or correct them",
    403: (
        "these credentials have no permission for this. Grant them to list, read, create and delete objects in the"
        " bucket (the role Storage Object User)"
    ),
    404: "there is no such bucket. Correct the address, or create the bucket",
}
_DIGEST_DIFFERS = "doesn't match calculated"  # part of the store's answer 400 to an object with another digest


@contextlib.contextmanager
def telling(where: str, endpoint: str) -> Iterator[None]:
    """Turn an error of Google's libraries into one line. Their own texts are not passed on: they can quote what was
    sent.

    where: the beginning of the line, what it is about; endpoint: the address of the store.
    """
    try:
        yield
        return
    except (
        exceptions.GoogleAPIError,
        auth_exceptions.GoogleAuthError,
        http_exceptions.RequestException,
        InvalidResponse,
        DataCorruption,
        ConnectionError,
        ValueError,
    ) as error:
        meaning = _meaning(error, endpoint)
    raise StoreError(f"{where}{meaning}.") from None


def _meaning(error: BaseException, endpoint: str) -> str:
    """Return what an error means, and what to do."""
    if isinstance(error, exceptions.RetryError):
        error = error.cause or error  # what the last try met
    if isinstance(error, auth_exceptions.TransportError) and isinstance(error.args[0], BaseException):
        error = error.args[0]
    if isinstance(error, DataCorruption) or _DIGEST_DIFFERS in str(error):
        return "an object did not arrive as sent. The network may be faulty. Start again"
    if isinstance(error, (exceptions.GoogleAPICallError, InvalidResponse)):
        code = error.code if isinstance(error, exceptions.GoogleAPICallError) else error.response.status_code
        return _MEANINGS.get(int(code or 0), f"the store answered {int(code or 0)}. Start again later")
    if isinstance(error, auth_exceptions.DefaultCredentialsError):
        return (
            "no credentials. Run gcloud auth application-default login, or name a service account's key file in"
            " GOOGLE_APPLICATION_CREDENTIALS"
        )
    if isinstance(error, auth_exceptions.RefreshError):
        return "the credentials have expired, or were revoked. Renew them"
    if isinstance(error, http_exceptions.SSLError):
        return (
            f"{endpoint} does not answer with TLS, or its certificate is not trusted. Correct STORAGE_EMULATOR_HOST"
            " (http:// for a server without TLS), or REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, (auth_exceptions.TransportError, http_exceptions.RequestException, ConnectionError)):
        if not isinstance(error, ValueError):  # as requests' errors of an address are
            return f"no connection to {endpoint} ({type(error).__name__}). Check the network and start again"
    return (
        f"the settings of the store cannot be used ({type(error).__name__}). Check the bucket's name, GOOGLE_* and"
        " STORAGE_EMULATOR_HOST (http://host:port)"
    )
