"""The file of a home with what `al up` was told, from which all commands know the same loop."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from al_pipeline.core.errors import InputError
from al_pipeline.core.files import private_folder, write_private
from al_pipeline.settings.origins import Name, flat, read_toml, shown

# Of the query of a database's URL; others may be secrets.
PUBLIC_IN_QUERY = ("host", "port", "sslmode", "sslrootcert")
HEADER = (
    "# What `al up` was told. al.toml, .env and AL_* count more than this, and are written here by the next `al up`."
)


def keep(file: Path, given: Mapping[Name, Any]) -> str:
    """Write settings whole, but for secrets and the home itself, and return a line that tells them and what changed.

    Raises
    ------
    InputError
        The file cannot be read or written, or the database's URL is none.
    """
    before = dict(flat(read_toml(file)))
    # Of the settings that stand alone, None is the default of all that take it: whoever says so takes a value back.
    said = {name: value for name, value in given.items() if name != ("home",) and (len(name) > 1 or value is not None)}
    plain = {name: _plain(name, value) for name, value in said.items()}
    kept = {name: value for name, value in plain.items() if value is not None}
    if kept != before:
        try:
            private_folder(file.parent)
        except OSError as error:
            raise InputError(f"The home {file.parent} cannot be made: {error.strerror}") from error
        write_private(file, HEADER + toml(kept))
    told = [f"{'.'.join(name)} no more (was {shown(before[name])})" for name in before.keys() - kept.keys()]
    for name, value in kept.items():
        was = f" (was {shown(before[name])})" if before.get(name, value) != value else ""
        told.append(f"{'.'.join(name)} {shown(value)}{was}")
    return f"Settings kept in {file}: {', '.join(told) or 'all are the defaults'}"


def rewrite(file: Path, change: Callable[[Name, Any], Any]) -> None:
    """Write what a home keeps anew: of each value what `change` makes of its name and it, unless that is None.

    Raises
    ------
    InputError, FileError
        The file cannot be read or written.
    """
    values = {name: change(name, value) for name, value in flat(read_toml(file))}
    write_private(file, HEADER + toml({name: value for name, value in values.items() if value is not None}))


def _plain(name: Name, value: Any) -> Any:
    """Return a value as TOML has it, whatever the working directory; None for a secret."""
    if name == ("database_url",):
        return _without_password(value.get_secret_value())
    if isinstance(value, SecretStr):
        return None
    if value is None:
        return "none"
    may_be_path = name in {("embeddings",), ("training", "weights")} and Path(value).exists()
    return str(Path(value).resolve()) if may_be_path or isinstance(value, Path) else value


def _without_password(text: str) -> str:
    """Return a database's URL as it may be stored; PGPASSWORD, ~/.pgpass or AL_DATABASE_URL bring the password."""
    from sqlalchemy.util import immutabledict

    from al_pipeline.ledger.database import parse_url

    url = parse_url(text)
    query = {key: value for key, value in url.query.items() if key in PUBLIC_IN_QUERY}
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).resolve()))
    return url._replace(password=None, query=immutabledict(query)).render_as_string()


def toml(values: Mapping[Name, Any]) -> str:
    """Return TOML of plain values, those of groups last, from the end of the line before it on."""
    lines, group = [""], ""
    for name in sorted(values, key=lambda each: (len(each), each)):
        if len(name) > 1 and name[0] != group:
            group = name[0]
            lines += ["", f"[{group}]"]
        value = "none" if values[name] is None else values[name]
        # What JSON escapes in a string, TOML escapes alike.
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | str | list) else repr(value)
        lines.append(f"{'.'.join(name[1:] or name)} = {text}")
    return "\n".join(lines) + "\n"
