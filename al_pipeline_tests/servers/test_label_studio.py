"""The local server keeps its secrets and is closed to other machines."""

import json
import os
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest
import uv

from al_pipeline.labelstudio.client import LabelStudio
from al_pipeline.loop.local import Credentials, make_credentials, read_credentials
from al_pipeline.servers import first_start
from al_pipeline.servers.label_studio import NO_KEYS, LocalLabelStudio
from al_pipeline.servers.processes import HOST, ServiceError
from al_pipeline.web.door import DoorError, door, log_in
from al_pipeline.web.serve import serving


def test_credentials_are_random_kept_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    assert read_credentials(tmp_path / "a") is None
    first, other = make_credentials(tmp_path / "a"), make_credentials(tmp_path / "b")
    assert make_credentials(tmp_path / "a") == first == read_credentials(tmp_path / "a")
    assert first.password != other.password
    assert first.token != other.token
    assert stat.S_IMODE((tmp_path / "a" / "credentials.json").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["credentials.json"]


def test_no_secret_is_shown_or_on_the_command_line(tmp_path: Path) -> None:
    server = LocalLabelStudio(tmp_path / "data", tmp_path / "images", port=8080, log=tmp_path / "log")
    for secret in (server.password, server.token):
        assert secret not in " ".join(server.argv)
        assert secret not in repr(server.credentials) + repr(server)


def test_the_projects_own_secrets_are_not_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AL_DATABASE_URL", "postgresql://al:secret@db/al")
    monkeypatch.setenv("DJANGO_DB", "default")
    server = LocalLabelStudio(tmp_path / "data", tmp_path / "images", port=8080, log=tmp_path / "log")
    assert not [name for name in server.env if name.startswith(("AL_", "DJANGO_"))]


def test_keys_of_a_bucket_are_handed_on_where_it_shows_images_and_its_own_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever labels may connect a bucket of which Label Studio has the key."""
    ours = {"AWS_ACCESS_KEY_ID": "ours", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in (ours | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "eu-1"}).items():
        monkeypatch.setenv(name, value)
    # Nothing is shown from there.
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "ours")
    monkeypatch.setenv("AZURE_BLOB_ACCOUNT_KEY", "ours")

    def given(*, bucket: bool, told: bool = False) -> dict[str, str]:
        server = LocalLabelStudio(
            tmp_path / "data", tmp_path / "images", port=8080, log=tmp_path / "log", bucket=bucket
        )
        assert server.env is not None
        assert bool(server.remark) == told
        assert not server.env.keys() & {"GOOGLE_APPLICATION_CREDENTIALS", "AZURE_BLOB_ACCOUNT_KEY"}
        return {name: value for name, value in server.env.items() if "AWS_" in name or "S3_" in name}

    nowhere = {name: value for name, value in NO_KEYS.items() if "AWS_" in name}
    assert given(bucket=False) == nowhere
    where = {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_region": "eu-1"}
    assert (ours | where).items() <= given(bucket=True, told=True).items()
    own = {"LABEL_STUDIO_AWS_ACCESS_KEY_ID": "own", "LABEL_STUDIO_AWS_SECRET_ACCESS_KEY": "own secret"}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert given(bucket=True) == own | where | nowhere


@pytest.mark.parametrize("bucket", [False, True])
def test_keys_in_a_file_are_found_only_where_it_shows_images_of_a_bucket(
    bucket: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("boto3")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id = mine\naws_secret_access_key = x\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    server = LocalLabelStudio(tmp_path / "data", tmp_path / "images", port=8080, log=tmp_path / "log", bucket=bucket)
    # As Label Studio does.
    code = "import boto3; found = boto3.Session().get_credentials(); print(found and found.access_key)"
    done = subprocess.run([sys.executable, "-c", code], env=server.env, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), bool(server.remark)) == (("mine", True) if bucket else ("None", False))


def test_it_listens_on_loopback_and_serves_only_the_folder_of_the_images(tmp_path: Path) -> None:
    server = LocalLabelStudio(tmp_path / "data", tmp_path / "home" / "images", port=8080, log=tmp_path / "log")
    command = " ".join(server.argv)
    assert "--internal-host 127.0.0.1" in command
    assert server.document_root == tmp_path / "home"
    assert server.env["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] == str(tmp_path / "home")


def test_a_port_in_use_is_told_instead_of_another_one_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = LocalLabelStudio(tmp_path / "data", tmp_path / "images", port=port, log=tmp_path / "log")
        with pytest.raises(ServiceError, match=f"port {port}"):
            server.start()
    assert not (tmp_path / "log").exists()


@pytest.mark.labelstudio
@pytest.mark.parametrize("invited", [True, False])
def test_nobody_joins_a_running_server_without_an_invitation(
    server: LocalLabelStudio, client: LabelStudio, invited: bool
) -> None:
    form = client.invitation() if invited else "/user/signup/"
    with httpx.Client(base_url=server.url, timeout=60) as browser:
        field = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', browser.get(form).text)
        assert field is not None
        person = {"email": f"{uuid4().hex[:8]}@example.com", "password": uuid4().hex}
        headers = {"Referer": server.url + form}
        answer = browser.post(form, data={"csrfmiddlewaretoken": field.group(1)} | person, headers=headers)
        assert answer.status_code == (302 if invited else 403)
        assert browser.get("/api/current-user/whoami").status_code == (200 if invited else 401)


@pytest.mark.labelstudio
def test_a_running_server_has_its_tables_from_the_database_of_this_machine_which_knows_nobody(
    server: LocalLabelStudio,
) -> None:
    kept = first_start.make(uv.find_uv_bin())
    with closing(sqlite3.connect(kept)) as database:
        people = ("htx_user", "organization", "authtoken_token", "project", "django_session")
        counts = [database.execute(f"select count(*) from {name}").fetchone()[0] for name in people]
    assert counts == [0] * len(people)
    content = kept.read_bytes()
    for private in (str(kept.parent), str(Path.home()), server.username, server.token):
        assert private.encode() not in content
    with closing(sqlite3.connect(Path(server.env["LABEL_STUDIO_BASE_DATA_DIR"]) / first_start.DATABASE)) as database:
        wanted = "wal" if first_start.is_local(server.log.parent) else "delete"
        assert database.execute("PRAGMA journal_mode").fetchone() == (wanted,)


@pytest.mark.labelstudio
def test_the_door_lets_one_visitor_in_and_leads_the_others_to_the_login(server: LocalLabelStudio) -> None:
    application, path = door(server.url, server.credentials, f"{server.url}/api/current-user/whoami")
    with serving(application, HOST, 0) as port:
        address = f"http://{HOST}:{port}{path}"
        assert httpx.head(address, timeout=60).status_code == 307
        assert httpx.get(f"http://{HOST}:{port}/", timeout=60).status_code == 404
        visits = [httpx.get(address, timeout=60, follow_redirects=True) for _ in range(2)]
    assert [visit.status_code for visit in visits] == [200, 401]
    assert visits[0].json()["email"] == server.username
    wrong = Credentials(server.username, "wrong", server.token)
    with pytest.raises(DoorError):
        log_in(server.url, wrong)


@pytest.mark.labelstudio
def test_a_running_server_shows_no_secret_in_its_log_or_among_the_processes(server: LocalLabelStudio) -> None:
    assert server.process is not None
    family = psutil.Process(server.process.pid)
    commands = [" ".join(p.cmdline()) for p in (family, *family.children(recursive=True))]
    assert any("label-studio" in command for command in commands)
    said = server.log.read_text(errors="replace") + "\n".join(commands)
    for secret in (server.password, server.token):
        assert secret not in said


@pytest.mark.labelstudio
def test_a_running_server_listens_on_loopback_alone_and_asks_for_a_login(server: LocalLabelStudio) -> None:
    assert server.process is not None
    family = psutil.Process(server.process.pid)
    listening = {
        c.laddr.ip
        for p in (family, *family.children(recursive=True))
        for c in p.net_connections("tcp")
        if c.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}
    assert httpx.get(f"{server.url}/api/projects/", timeout=60).status_code == 401
    assert json.loads(httpx.get(f"{server.url}/health", timeout=60).content)["status"] == "UP"
