"""The page of all settings, made from their declarations: `python -m al_pipeline_tests.settings_page` writes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from al_pipeline.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
# Settings that the training of the whole network alone looks at.
FINETUNE = (
    "epochs",
    "learning_rate",
    "optimizer",
    "schedule",
    "batch_size",
    "warm_start",
    "validation",
    "patience",
    "clip_norm",
    "precision",
    "augmentation",
)

HEAD = """\
# Settings

Made by `make docs` from the declarations in the code; a test compares.

Settings come from environment variables, from `.env`, from `al.toml` in the working directory, and from what `al up`
was told the last time; what comes first wins. `al up` writes all but secrets into `settings.toml` in its home and says
what changed, so that the other commands need no more than the home. A name that does not exist is an error that
proposes the nearest one; a value that cannot work is an error that says where it came from and what is valid.

```toml
images = "/data/photos"

[round]
batch_size = 20
```

is the same as `AL_IMAGES=/data/photos` and `AL_ROUND__BATCH_SIZE=20`. In the groups, where a setting may be `none`,
that word stands for null, which neither TOML nor variables have; so does `all`, as in `sample_size = "all"`. The groups
`round`, `training` and `policy` also appear in Dagster's Launchpad, where one run can change them.

Defaults follow the paper that the method comes from: ResNet-18, cross-entropy, Adam with 1e-4, B = 8, S = 10 B. The
exceptions are the weights, the paper's network being untrained ([weights](production.md#weights)), and the strategy:
the paper's is `low_certainty`, ours `auto`, the best over the whole budget on each of the three image sets we measured
([tables](results/comparison.md)). `al up --preset paper` sets the paper's, and `al presets` shows what that means. What
the environment, `.env` or `al.toml` says counts more than a preset; a preset counts more than what the home has kept.
"""
NOTES = {
    "round": "Which strategies there are, and which to take: [query strategies](strategies.md).",
    "training": "Looked at only where the whole network is trained (`mode`): "
    + ", ".join(f"`{n}`" for n in FINETUNE)
    + ". `fixmatch` is for the whole network alone.",
    "policy": "`min_votes` asks for an `overlap` of at least as many. `stop_agreement`, `stop_gain`, `target_auc`, "
    "`price_per_label` and `value_per_point` only advise: [when to stop](stopping.md#when-to-stop).",
}
WORDS = {"integer": "whole number", "number": "number", "boolean": "true or false", "array": "list", "null": "`none`"}
FORMATS = {"path": "path", "password": "secret", "uri": "address"}
LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings_page() -> str:
    """Return the page as Markdown: a table for the deployment, and one for each group."""
    schema = Settings.model_json_schema()
    groups = dict(_groups(schema["properties"], schema.get("$defs", {})))
    own = {name: field for name, field in schema["properties"].items() if name not in groups}
    parts = [
        HEAD,
        _section("Deployment", "Outside of all groups: one value for everything that runs.", "", own, schema),
    ]
    for name, group in groups.items():
        if any(each.startswith(f"{name}.") for each in groups):
            continue
        told = " ".join([*group["description"].split("\n\n")[0].split(), NOTES.get(name, "")]).strip()
        parts.append(_section(f"`[{name}]`", told, name, group["properties"], schema))
    return "\n".join(parts)


def variable(name: str, group: str = "") -> str:
    """Return the environment variable of a setting."""
    config = Settings.model_config
    path = [*group.split("."), name] if group else [name]
    return f"{config.get('env_prefix', '')}{config.get('env_nested_delimiter', '').join(path)}".upper()  # type: ignore[union-attr]


def _groups(fields: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each group by its name, also those in groups, with what is told of it where it stands."""
    for name, field in fields.items():
        group = definitions.get(_reference(field).rsplit("/", 1)[-1], {})
        if "properties" in group:
            yield name, group | ({"description": field["description"]} if "description" in field else {})
            yield from ((f"{name}.{part}", each) for part, each in _groups(group["properties"], definitions))


def _section(title: str, told: str, group: str, fields: dict[str, Any], schema: dict[str, Any]) -> str:
    rows = ["| setting | values | default | what it is |", "|---|---|---|---|"]
    for name, field in fields.items():
        values = _values(field, schema, grouped=bool(group))
        rows.append(f"| `{name}`<br>`{variable(name, group)}` | {values} | {_default(field)} | {_cell(field)} |")
    return "\n".join([f"## {title}\n\n{told}\n", *rows, ""])


def _reference(field: dict[str, Any]) -> str:
    return field.get("$ref") or next((part["$ref"] for part in field.get("allOf", []) if "$ref" in part), "")


def _values(field: dict[str, Any], schema: dict[str, Any], *, grouped: bool = True) -> str:
    """Say in words what a field may be."""
    if reference := _reference(field):
        return _values(schema["$defs"][reference.rsplit("/", 1)[-1]], schema)
    if "anyOf" in field:
        # Of the deployment nothing has to be set to null: it is left out.
        parts = [part for part in field["anyOf"] if grouped or part.get("type") != "null"]
        return ", or ".join(dict.fromkeys(_values(part, schema) for part in parts))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    kind = FORMATS.get(field.get("format", ""), WORDS.get(field.get("type", ""), "text"))
    if "minimum" in field and "maximum" in field:
        return f"{kind} from {field['minimum']:g} to {field['maximum']:g}"
    limits = [f"{sign} {field[limit]:g}" for limit, sign in LIMITS.items() if limit in field]
    return f"{kind} {', '.join(limits)}" if limits else kind


def _default(field: dict[str, Any]) -> str:
    value = field.get("default")
    if value is None:
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(field: dict[str, Any]) -> str:
    return " ".join(field["description"].split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
