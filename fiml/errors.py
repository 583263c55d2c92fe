"""Every exception that this package raises on purpose.

::

    SessionAnalyticsError
    ├── InvalidArgumentError (ValueError)      an argument is not of the documented kind
    │   ├── InvalidDaysError
    │   ├── InvalidUserIdError
    │   ├── UnknownSessionTypeError
    │   └── UnsupportedExportFormatError
    ├── SettingsError (ValueError)             an environment variable does not parse
    ├── AlertFileError (ValueError)            a file of alert rules and reports is wrong
    ├── SessionNotFoundError (LookupError)     no session has this id
    ├── SessionArchivedError                   the session has ended and cannot be changed
    ├── ErasedUserError                        the user was erased and cannot be written again
    ├── AuthenticationError                    no valid token says who is asking
    ├── AuthorizationError                     whoever is asking may not ask for this
    ├── LimitExceededError                     whoever is asking asks too often, or too much at once
    ├── DatabaseError                          the database did not answer the question
    │   ├── DatabaseUnavailableError           it cannot be reached, or it broke the connection
    │   ├── DeadlineExceededError (TimeoutError)
    │   ├── PoolExhaustedError                 no connection became free in time
    │   ├── RoleError                          a database role cannot be one of this package's
    │   └── SchemaVersionError                 not migrated, or by another version of this package
    ├── DeliveryError                          a message could not be delivered
    ├── BuildError                             a dbt build did not succeed
    ├── ReconciliationError                    a mart does not hold what the source says
    └── LocalServerError                       no PostgreSQL server could be started here

Messages say what was given, what is allowed and what to do. None carries a user id, a password
or a token.
"""

__all__ = [
    "AlertFileError",
    "AuthenticationError",
    "AuthorizationError",
    "BuildError",
    "DatabaseError",
    "DatabaseUnavailableError",
    "DeadlineExceededError",
    "DeliveryError",
    "ErasedUserError",
    "InvalidArgumentError",
    "InvalidDaysError",
    "InvalidUserIdError",
    "LimitExceededError",
    "LocalServerError",
    "PoolExhaustedError",
    "ReconciliationError",
    "RoleError",
    "SchemaVersionError",
    "SessionAnalyticsError",
    "SessionArchivedError",
    "SessionNotFoundError",
    "SettingsError",
    "UnknownSessionTypeError",
    "UnsupportedExportFormatError",
]


class SessionAnalyticsError(Exception):
    """Base of all errors of this package."""


class InvalidArgumentError(SessionAnalyticsError, ValueError):
    """An argument is not of the documented kind; nothing was sent to the database."""


class InvalidDaysError(InvalidArgumentError):
    """`days` is not an integer from 1 to 3650."""


class InvalidUserIdError(InvalidArgumentError):
    """A user id is empty, over-long, holds a NUL character or is no string."""


class UnknownSessionTypeError(InvalidArgumentError):
    """A session type is none of the known ones."""


class UnsupportedExportFormatError(InvalidArgumentError):
    """An export format is none of the supported ones."""


class SettingsError(SessionAnalyticsError, ValueError):
    """An environment variable does not parse."""


class AlertFileError(SessionAnalyticsError, ValueError):
    """Something in a file of alert rules and reports is wrong; the message says where."""


class SessionNotFoundError(SessionAnalyticsError, LookupError):
    """No session has this id."""


class SessionArchivedError(SessionAnalyticsError):
    """The session has ended; nothing of it changes any more."""


class ErasedUserError(SessionAnalyticsError):
    """The user was erased; rows of theirs cannot be written again."""


class AuthenticationError(SessionAnalyticsError):
    """No valid token says who is asking."""


class AuthorizationError(SessionAnalyticsError):
    """Whoever is asking may not ask for this; whether it exists was not looked up."""


class LimitExceededError(SessionAnalyticsError):
    """Whoever is asking asks too often, or too much at once.

    Attributes:
        retry_after_seconds: when asking again can succeed; None where that depends on the end of
            other calls.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        """Keep the message, and when to ask again."""
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DatabaseError(SessionAnalyticsError):
    """The database did not answer the question."""


class DatabaseUnavailableError(DatabaseError):
    """The database cannot be reached, or it broke the connection."""


class DeadlineExceededError(DatabaseError, TimeoutError):
    """The answer did not come within the deadline."""


class PoolExhaustedError(DatabaseError):
    """No connection of the pool became free within the deadline."""


class RoleError(DatabaseError):
    """A database role cannot be what this package would use it for."""


class SchemaVersionError(DatabaseError):
    """The database is not migrated, or was migrated by another version of this package."""


class DeliveryError(SessionAnalyticsError):
    """A message could not be delivered; it is kept, and tried again."""


class BuildError(SessionAnalyticsError):
    """A dbt build did not succeed."""


class ReconciliationError(SessionAnalyticsError):
    """A mart does not hold what the source says."""


class LocalServerError(SessionAnalyticsError):
    """No PostgreSQL server could be started on this machine."""
