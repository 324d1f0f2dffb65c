"""A file is whole or not there, whatever interrupts its writing, and who may read it is what was asked for."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from al_pipeline.core.errors import FileError, InputError
from al_pipeline.core.files import TEMPORARY, kept_secret, whole_file, write_private


def test_a_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    with whole_file(tmp_path / "whole", "The file") as temporary:
        temporary.write_text("content")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_secret_can_be_read_by_its_owner_alone_from_its_first_byte_on(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with whole_file(tmp_path / "secret", "The secret", mode=0o600) as temporary:
            assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
            temporary.write_text("s3cr3t")
        write_private(tmp_path / "folder" / "private", "text")
        kept_secret(tmp_path / "kept")
    finally:
        os.umask(before)
    for name in ("secret", "folder/private", "kept"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_an_interrupted_file_is_none(tmp_path: Path) -> None:
    def interrupted() -> None:
        with whole_file(tmp_path / "whole", "The file") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_leaves_the_older_file_and_a_hidden_one(tmp_path: Path) -> None:
    path = tmp_path / "whole"
    path.write_text("older")
    program = f"""
import os, signal
from pathlib import Path
from al_pipeline.core.files import whole_file
with whole_file(Path({str(path)!r}), "The file") as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert path.read_text() == "older"
    [left] = [each.name for each in tmp_path.iterdir() if each != path]
    assert left.startswith(".whole.")
    assert left.endswith(TEMPORARY)


def test_what_cannot_be_written_is_known_before_any_work_is_done(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for name, reason in (("file/below", "Not a directory|File exists"), (".", "it is a folder")):
        with (
            pytest.raises(FileError, match=rf"The table .* could not be written: ({reason})\. Make room"),
            whole_file(tmp_path / name, "The table"),
        ):
            pytest.fail("work was done")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_caller_names_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="The features"),
        whole_file(tmp_path / "file/x", "The features", error=InputError),
    ):
        pass
