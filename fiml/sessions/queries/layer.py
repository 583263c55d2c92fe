"""Questions to the serving layer, and to PostgreSQL where Python leaves names to it."""

from __future__ import annotations

from typing import Final

__all__ = ["MEMBERS", "NAMES", "PERIODS", "WINDOW"]

WINDOW: Final = """
select * from analytics.read_window(
    %(user_id)s::text, %(session_type)s::text, %(days)s::integer, %(as_of)s::timestamptz,
    %(etag)s::bigint, %(include_meta)s::boolean
)
"""
PERIODS: Final = """
select * from analytics.read_periods(
    %(user_id)s::text, %(session_type)s::text, %(boundaries)s::timestamptz[],
    %(as_of)s::timestamptz, %(include_meta)s::boolean, %(has_names)s::boolean
)
"""

# Names, and counts, in documents in which something else stands as well.
NAMES: Final = """
select name.name, count(*) as occurrences
from jsonb_array_elements(%(documents)s::jsonb) as document
cross join lateral analytics.names(document) as name (name)
group by name.name
"""
MEMBERS: Final = """
select member.name, sum(member.occurrences)::bigint as occurrences
from jsonb_array_elements(%(documents)s::jsonb) as document
cross join lateral analytics.counts(document) as member
group by member.name
"""
