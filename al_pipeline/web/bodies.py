"""Read a request's body, but no more of it than agreed."""

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

# The rest of a body that is refused is not waited for.
CLOSE = {"Connection": "close"}


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of at most `limit` bytes.

    Raises
    ------
    HTTPException
        413 if it is larger, or says that it will be; 400 if the client leaves before its end.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        raise HTTPException(400, "the request ended before its body did") from None
    return bytes(body)


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the body is larger than {limit:,} bytes", headers=CLOSE)
