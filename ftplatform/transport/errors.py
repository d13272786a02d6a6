"""What may go wrong between us and a server we ask."""

from __future__ import annotations

from ftplatform.errors import FtplatformError


class TransportError(FtplatformError):
    """An address that may not be asked, or an answer that is of no use however often it is asked for."""


class EndpointUnavailable(TransportError):
    """The server did not answer within its limits; another time it may."""
