"""A database with sessions of every kind, and a scraper."""

import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fiml.monitoring.endpoint import serving_metrics
from fiml.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]
# By the name of the sample and its labels, in order.
Samples = dict[tuple[str, ...], float]


def scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - of this test
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(response.read(), "utf-8")


def samples(text: str) -> Samples:
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def settings(migrated_database: str) -> Settings:
    return Settings(conninfo=migrated_database, timeout_seconds=60)


@pytest.fixture
def database(settings: Settings) -> Iterator[Connection]:
    with psycopg.connect(settings.conninfo, autocommit=True) as connection:
        yield connection


@pytest.fixture
def metrics(settings: Settings) -> Iterator[str]:
    """The URL of this process's metrics."""
    urls: list[str] = []
    with serving_metrics(settings, "127.0.0.1", 0, on_ready=urls.append):
        (url,) = urls
        yield url
