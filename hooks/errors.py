"""The error family: Feathers' names and codes, and their wire form.

A class's docstring is its default public message. The private cause travels as `raise ... from cause` and stays in the log.
"""

from __future__ import annotations

from typing import Any, ClassVar

Json = dict[str, Any]


class FeathersError(Exception):
    """Something went wrong on the server."""

    code: ClassVar[int] = 500

    def __init__(self, message: str | None = None, data: Any = None, errors: Any = None) -> None:
        """`data` is a JSON value for the client; an `errors` list names single faults as `{path, message}`."""
        self.message = message or (type(self).__doc__ or "").strip()
        self.data = data
        self.errors = errors
        super().__init__(self.message)

    @property
    def name(self) -> str:
        """The name by which a client rebuilds the error class."""
        return type(self).__name__

    @property
    def class_name(self) -> str:
        """The name in kebab case, such as `not-found`."""
        return "".join(f"-{c.lower()}" if c.isupper() else c for c in self.name).lstrip("-")

    def to_json(self) -> Json:
        """The wire form: `{name, message, code, className, data?, errors?}`."""
        wire: Json = {"name": self.name, "message": self.message, "code": self.code, "className": self.class_name}
        if self.data is not None:
            wire["data"] = self.data
        if self.errors is not None:
            wire["errors"] = self.errors
        return wire


class BadRequest(FeathersError):
    """The request is not understood."""

    code = 400


class NotAuthenticated(FeathersError):
    """Not authenticated"""

    code = 401


class PaymentError(FeathersError):
    """Payment is required."""

    code = 402


class Forbidden(FeathersError):
    """You are not allowed to do this."""

    code = 403


class NotFound(FeathersError):
    """Not found."""

    code = 404


class MethodNotAllowed(FeathersError):
    """This method is not allowed here."""

    code = 405


class NotAcceptable(FeathersError):
    """The answer is not available in an acceptable form."""

    code = 406


class Timeout(FeathersError):
    """The call took too long and was ended."""

    code = 408


class Conflict(FeathersError):
    """A record with the same unique value exists."""

    code = 409


class Gone(FeathersError):
    """This is no longer here."""

    code = 410


class LengthRequired(FeathersError):
    """The request needs a length."""

    code = 411


class PayloadTooLarge(FeathersError):
    """The request is too large."""

    code = 413


class Unprocessable(FeathersError):
    """The request is well formed but cannot be processed."""

    code = 422


class TooManyRequests(FeathersError):
    """Too many requests: wait a moment and try again."""

    code = 429


class GeneralError(FeathersError):
    """Something went wrong on the server."""

    code = 500


class NotImplemented(FeathersError):
    """This is not implemented."""

    code = 501


class BadGateway(FeathersError):
    """A server behind this one gave a bad answer."""

    code = 502


class Unavailable(FeathersError):
    """The service is not available at the moment: try again."""

    code = 503


def to_feathers_error(error: BaseException) -> FeathersError:
    """Any exception as one that a client may see: ours as it is, all others as a GeneralError that tells nothing."""
    return error if isinstance(error, FeathersError) else GeneralError()
