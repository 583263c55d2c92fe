"""Where `make install` works."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make")


@pytest.mark.skipif(MAKE is None, reason="there is no make")
@pytest.mark.parametrize("name", ["o'b", 'say "hi" & $HOME'])
def test_an_environment_is_made_once_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    # With nothing in it, so that nothing is fetched.
    (folder / "requirements.lock").touch()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}

    def make(*options: str) -> int:
        command = [MAKE, *options, f"PYTHON={sys.executable}", ".venv/.locked"]
        return subprocess.run(
            command, cwd=folder, env=environment, timeout=120, check=False
        ).returncode

    assert make() == 0
    assert make("--question") == 0
