"""Alert rules and weekly reports: evaluated, remembered, delivered. See docs/alerts.md.

Reading what happened needs nothing but the database; what evaluates and sends needs the extra
`alerts`.
"""

from fiml.alerts.episodes import Episode, recent_episodes

__all__ = ["Episode", "recent_episodes"]
