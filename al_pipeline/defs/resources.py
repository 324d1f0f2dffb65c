"""What assets and sensors are handed as config: the option groups, as the Launchpad shows them."""

from typing import Any

import dagster as dg
from pydantic import Field, create_model

from al_pipeline.core.options import Options


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

    Names, descriptions, defaults and checks are written once, where the group is declared.

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
        name: (field.annotation, Field(default=defaults.get(name, getattr(group, name)), description=field.description))
        for name, field in kind.model_fields.items()
    }
    return create_model(kind.__name__, __base__=base, __doc__=kind.__doc__, **fields)
