"""Mistakes in what reads the periods of a time series."""

from exactness.mutants.seeding import Mutant

__all__ = ["SERIES"]

READ_PERIODS = "analytics.read_periods(text,text,timestamptz[],timestamptz,boolean,boolean)"
SERIES = [
    Mutant(READ_PERIODS, "then sides.side else -sides.side end", "then 1 else -1 end"),
    Mutant(READ_PERIODS, "sides.side * range.sign", "range.sign"),
    Mutant(READ_PERIODS, "not is_open or boundary.period <= last_period", "true"),
    Mutant(READ_PERIODS, "boundaries[last_period + 1] >= now_at", "boundaries[1] >= now_at"),
    Mutant(READ_PERIODS, "and unseen.period between 1 and last_period", "and unseen.period > 0"),
    Mutant(READ_PERIODS, "array_agg(cuts.bucket order", "array_agg(cuts.since order"),
    Mutant(READ_PERIODS, "then date_trunc('day', boundary.since, 'UTC')", "then boundary.since"),
    Mutant(READ_PERIODS, "unseen.sign * unseen.open_sessions", "0"),
    Mutant(
        READ_PERIODS,
        "when wanted_key is null then layer.bucket_width",
        "when true then layer.bucket_width",
    ),
    Mutant(
        "reader", "least(greatest(days.first_midnight, days.horizon), days.until)", "days.until"
    ),
    Mutant("reader", "days.first_midnight < days.last_midnight", "true"),
    Mutant("reader", "partition by parts.period", "partition by 1"),
    Mutant("users", "facts.occurred_at >= clock.boundaries[1]", "true"),
    Mutant("fiml.sessions.windows", "before + changes[name.name]", "before"),
    Mutant("fiml.sessions.windows", "before + changes[name.name]", "changes[name.name]"),
    Mutant("fiml.sessions.marts", "found.get(period, 0)", "found.get(period + 1, 0)"),
]
