"""The errors of boto3, as one line each."""

import contextlib
from collections.abc import Iterator

import boto3
from botocore import exceptions

from tasks.errors import StoreError

#: The meaning of the store's error codes.
_MEANINGS = {
    "NoSuchBucket": "there is no such bucket. Correct the address, or create the bucket",
    "AccessDenied": "these credentials have no permission for this. Grant them list, read and write on the address",
    "InvalidAccessKeyId": "the store does not know these credentials. Correct them",
    "SignatureDoesNotMatch": "the store does not accept these credentials. Correct the secret key",
    "ExpiredToken": "the credentials have expired. Renew them",
    "RequestTimeTooSkewed": "the clock of this machine is wrong. Set it",
    "BadDigest": "an object did not arrive as sent. The network may be faulty",
}
_BY_STATUS = {403: "AccessDenied"}  # a request without an answer's body has no code


@contextlib.contextmanager
def telling(where: str, endpoint: str) -> Iterator[None]:
    """Turn an error of boto3 into one line. Its own texts are not passed on, because they can quote what was sent.

    where: the beginning of the line, what it is about; endpoint: the address of the store.
    """
    try:
        yield
    except exceptions.ClientError as error:
        answer = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = answer.get("Error", {}).get("Code", "")
        code = code if code in _MEANINGS else _BY_STATUS.get(status, code)
        meaning = _MEANINGS.get(code, f"the store answered {status} {code}. Start again later")
    except boto3.exceptions.S3UploadFailedError as error:
        said = [text for code, text in _MEANINGS.items() if f"({code})" in str(error)]
        meaning = said[0] if said else "the upload failed. Start again"
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError):
        meaning = "no credentials, or not all of them. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws"
    except exceptions.SSLError:
        meaning = (
            f"{endpoint} does not answer with TLS, or its certificate is not trusted. Correct"
            " AWS_ENDPOINT_URL (http:// for an endpoint without TLS), or AWS_CA_BUNDLE"
        )
    except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        meaning = f"no connection to {endpoint} ({type(error).__name__}). Check the network and start again"
    except (exceptions.BotoCoreError, ValueError) as error:
        meaning = f"the settings of the store cannot be used ({type(error).__name__}). Check AWS_* and ~/.aws"
    else:
        return
    raise StoreError(f"{where}{meaning}.") from None
