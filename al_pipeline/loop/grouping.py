"""Groups of images, found at a scan by the rule that is set, and kept from scan to scan."""

from typing import TYPE_CHECKING

import pandas as pd

from al_pipeline.core.data.groups import assign
from al_pipeline.core.files import whole_file

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment


def group_images(deployment: "Deployment", manifest: pd.DataFrame) -> pd.Series:
    """Return the group of each row of a manifest; what earlier scans by the same rule have found stays.

    Raises
    ------
    InputError
        The setting `group` is no rule.
    """
    settings, kept = deployment.settings, deployment.artifacts.group_rule
    assert settings.images is not None
    same = kept.exists() and kept.read_text() == settings.group
    return assign(manifest, settings.images, settings.group, deployment.ledger.groups() if same else None)


def keep_rule(deployment: "Deployment") -> None:
    """Remember by which rule the groups in the ledger were found, once they are there."""
    with whole_file(deployment.artifacts.group_rule, "The rule of the groups") as file:
        file.write_text(deployment.settings.group)
