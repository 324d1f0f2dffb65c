"""What assets and sensors are handed as config: the option groups, as the Launchpad shows them."""

from typing import Any

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from al_pipeline.core.options import Options, may_be_null, valid


def tunables(group: Options) -> dg.ConfigurableResource[Any]:
    """Return a resource whose config has the fields of a group, with the values set there as defaults.

    Assets receive the group itself, validated anew with what the run's config changed.
    """
    kind = type(group)

    class Tunables(dg.ConfigurableResource[Any]):
        def create_resource(self, context: dg.InitResourceContext) -> Options:
            return kind(**{name: getattr(self, name) for name in kind.model_fields})

    return launchpad(group, Tunables)()


def launchpad(group: Options, base: type[Any], **defaults: Any) -> type[Any]:
    """Return a class of Dagster's config with the fields, descriptions and values of a group.

    Names, descriptions, defaults and checks are written once, where the group is declared. The Launchpad leaves out
    defaults of null: what may be null says `none` there, a word that groups take for it, and its type is left to them.

    Parameters
    ----------
    group : Options
    base : type
        `dagster.Config` or a kind of it.
    **defaults
        Other defaults than the group's values.
    """
    kind = type(group)
    fields: dict[str, Any] = {
        name: _shown(field, defaults.get(name, getattr(group, name))) for name, field in kind.model_fields.items()
    }
    return create_model(kind.__name__, __base__=base, __doc__=(kind.__doc__ or "").split("\n\n")[0], **fields)


def _shown(field: FieldInfo, default: Any) -> tuple[Any, Any]:
    """Return type and default of a field in the Launchpad, with its help."""
    if not may_be_null(field):
        return field.annotation, Field(default=default, description=field.description)
    help_text = f"{field.description} ({valid(field)})"
    return Any, Field(default="none" if default is None else default, description=help_text)
