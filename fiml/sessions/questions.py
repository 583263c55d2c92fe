"""What is asked, in arguments that were checked; as a mapping, the statements' parameters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Name", "NameKind", "PeriodsQuestion", "Question"]


class NameKind(StrEnum):
    """What a name is one of."""

    ASSET = "asset"
    TAG = "tag"
    QUERY_TYPE = "query_type"


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is counted.

    Attributes:
        kind: what it is one of.
        name: as it is stored: 1 to 255 characters.
    """

    kind: NameKind
    name: str


@dataclass(frozen=True, slots=True)
class Question:
    """A window of days that ends now, which is the transaction's time or `as_of`."""

    user_id: str | None
    session_type: str | None
    days: int
    as_of: datetime | None = None
    include_meta: bool = False

    @property
    def has_names(self) -> bool:
        """Whether names are told beside the sums: always."""
        return True

    def parameters(self, **others: object) -> dict[str, object]:
        """For a statement of fiml.sessions.queries."""
        return {
            "user_id": self.user_id,
            "session_type": self.session_type,
            "days": self.days,
            "as_of": self.as_of,
            "include_meta": self.include_meta,
            **others,
        }


@dataclass(frozen=True, slots=True)
class PeriodsQuestion:
    """Periods that lie side by side.

    Attributes:
        boundaries: where each begins, and the last one ends, ascending and not after `as_of`.
        has_names: whether names are told beside the sums: most of what an answer costs.
    """

    user_id: str | None
    session_type: str | None
    boundaries: tuple[datetime, ...]
    as_of: datetime
    include_meta: bool = False
    has_names: bool = True

    @property
    def length(self) -> int:
        """How many periods."""
        return len(self.boundaries) - 1

    def parameters(self, **others: object) -> dict[str, object]:
        """For a statement of fiml.sessions.queries."""
        return {
            "user_id": self.user_id,
            "session_type": self.session_type,
            "boundaries": list(self.boundaries),
            "as_of": self.as_of,
            "include_meta": self.include_meta,
            "has_names": self.has_names,
            **others,
        }
