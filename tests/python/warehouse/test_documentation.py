"""The pages that are made of the models: up to date, and complete without a network."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fiml.errors import BuildError
from fiml.settings import Settings
from fiml.warehouse import documentation
from fiml.warehouse.documentation import BEGIN, END, dictionary, load_manifest, write_pages

ROOT = Path(__file__).resolve().parents[3]
NOWHERE = Settings(conninfo="host=127.0.0.1 port=1 dbname=nowhere", project_dir=ROOT)
ADDRESS = re.compile(r"""(?:src|href|action)\s*=\s*["']?((?:https?:)?//[^"'\s>]+)""")
# It is in the script that loads it, which is run where statistics may be sent.
TRACKER = "//d1fc8wv8zag5ca.cloudfront.net/2.9.0/sp.js"


def test_the_dictionary_is_that_of_the_models() -> None:
    page = (ROOT / "docs" / "marts.md").read_text(encoding="utf-8")
    written = page.partition(BEGIN)[2].partition(END)[0]
    assert written.strip() == dictionary(load_manifest(NOWHERE)), "run `make docs`"


def test_the_pages_are_written_without_a_database_and_need_no_network(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "marts.md", docs)
    page, site = write_pages(NOWHERE, docs, tmp_path / "site")
    assert page.read_bytes() == (ROOT / "docs" / "marts.md").read_bytes()
    assert [path.name for path in site.parent.iterdir()] == ["index.html"]
    text = site.read_text(encoding="utf-8")
    assert set(ADDRESS.findall(text)) <= {TRACKER, "http://[::1]"}
    for name in (str(ROOT), str(tmp_path), "any_database"):
        assert name not in text
    manifest, catalog = embedded(text)
    assert manifest["metadata"]["send_anonymous_usage_stats"] is False
    assert manifest["metadata"]["user_id"] is None
    assert catalog["nodes"]["model.session_analytics.daily_user_stats"]["columns"]["user_key"] == {
        "type": "uuid",
        "index": 2,
        "name": "user_key",
        "comment": manifest["nodes"]["model.session_analytics.daily_user_stats"]["columns"][
            "user_key"
        ]["description"],
    }
    assert "compiled_code" in manifest["nodes"]["model.session_analytics.daily_user_stats"]


def embedded(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the catalog that the page's script holds."""
    decoder = json.JSONDecoder()
    before, label = "{manifest:", ",catalog:"
    manifest, end = decoder.raw_decode(text, text.index(before) + len(before))
    assert text.startswith(label, end)
    return manifest, decoder.raw_decode(text, end + len(label))[0]


def test_a_page_of_dbts_that_is_made_otherwise_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(ROOT / "docs" / "marts.md", tmp_path)
    monkeypatch.setattr(documentation, "run_dbt", lambda *_: 2)
    with pytest.raises(BuildError, match="dbt cannot write its pages: exit code 2"):
        write_pages(NOWHERE, tmp_path, tmp_path / "site")
