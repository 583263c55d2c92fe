"""Who is measured: each answers the same questions with the same dictionary."""

from benchmarks.contenders.base import Contender, Ground, NotInstalledError
from benchmarks.contenders.registry import CONTENDERS, open_contenders

__all__ = ["CONTENDERS", "Contender", "Ground", "NotInstalledError", "open_contenders"]
