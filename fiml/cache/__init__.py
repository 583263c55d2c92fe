"""A cache for answers.

::

    from fiml.cache import cache_manager

    @cache_manager.cached(ttl=300)
    async def answer(user_id: str, days: int) -> dict[str, object]: ...
"""

from fiml.cache import cache_manager

__all__ = ["cache_manager"]
