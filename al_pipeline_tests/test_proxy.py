"""deploy/proxy/ asks for a login before what docker-compose.yml has behind it; `check.sh` tries it on real servers."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SITES = (ROOT / "deploy" / "proxy" / "sites.caddy").read_text()
VARIABLE = re.compile(r"\{\$(\w+)(?::([^}]*))?\}")


def services(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())["services"]


def site(variable: str) -> str:
    """Return the block of a host."""
    [block] = re.findall(rf"^\{{\${variable}\}} \{{\n(.*?)^\}}", SITES, re.MULTILINE | re.DOTALL)
    return block


@pytest.mark.parametrize("host", ["PROXY_DAGSTER_HOST", "PROXY_PAGE_HOST"])
def test_the_login_comes_before_the_server(host: str) -> None:
    words = site(host).split()
    assert words.index("{$PROXY_LOGIN:basic}") < words.index("reverse_proxy")
    # In a route directives keep their order, and nothing is before it but what every site has.
    assert words[:3] == ["import", "site", "route"]


def test_what_is_behind_the_proxy_are_services_at_their_ports() -> None:
    behind = dict(VARIABLE.findall(SITES))
    there = services("docker-compose.yml")
    for variable in ("PROXY_TO_DAGSTER", "PROXY_TO_PAGE", "PROXY_TO_LABEL_STUDIO"):
        name, port = behind[variable].split(":")
        assert there[name]["ports"][0].endswith(f":{port}"), name


def test_the_proxy_is_told_every_name_that_has_no_default() -> None:
    needed = {name for name, usual in VARIABLE.findall(SITES) if not usual}
    given = services("deploy/proxy/compose.yml")["proxy"]["environment"]
    assert needed <= given.keys()
    # The services read .env too, and take each AL_* there for a setting.
    assert not {name for name in needed if name.startswith("AL_")}
    assert needed == {name for name, value in given.items() if ":?" in value}


def test_no_port_but_the_proxys_is_open_beyond_this_machine() -> None:
    open_to_all = [
        (name, port)
        for file in ("docker-compose.yml", "deploy/proxy/compose.yml")
        for name, service in services(file).items()
        for port in service.get("ports", [])
        if not port.startswith("127.0.0.1:")
    ]
    assert open_to_all == [("proxy", "80:80"), ("proxy", "443:443"), ("proxy", "443:443/udp")]
