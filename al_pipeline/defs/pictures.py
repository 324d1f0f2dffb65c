"""Pictures of a batch that is out: people wait for the batch, nobody for them."""

import dagster as dg
import pandas as pd

from al_pipeline.core.evaluation.figures import score_histogram
from al_pipeline.defs.metadata import picture
from al_pipeline.loop.deployment import Deployment
from al_pipeline.loop.how_read import how_of_home
from al_pipeline.loop.presence import Files


def show_batch(context: dg.AssetExecutionContext, deployment: Deployment, manifest: pd.DataFrame) -> None:
    """Show what a round has asked about and how sure its checkpoint was, as observations of these assets.

    Dagster lists them below what the assets said themselves. Nothing is shown of a round that has chosen no batch.
    """
    key = context.partition_key
    scores = deployment.artifacts.uncertainty_scores / f"{key}.parquet"
    plan = deployment.ledger.planned(key)
    query = plan[plan["purpose"] == "query"].sort_values("rank")
    if scores.exists() and len(certainty := pd.read_parquet(scores, columns=["certainty"])["certainty"]):
        shown = picture(score_histogram(certainty.to_numpy()), "certainty of the candidates")
        context.log_event(dg.AssetObservation("uncertainty_scores", partition=key, metadata={"certainty": shown}))
    if len(query):
        shown = picture(_sheet(deployment, query, manifest), "the chosen images: certainty, predicted class")
        context.log_event(dg.AssetObservation("query_batch", partition=key, metadata={"batch": shown}))


def _sheet(deployment: Deployment, query: pd.DataFrame, manifest: pd.DataFrame) -> bytes:
    from al_pipeline.core.data.contact_sheet import contact_sheet

    uris = Files(manifest).uris
    captions = [" · ".join(filter(None, [row.predicted, f"{row.certainty:.2f}"])) for row in query.itertuples()]
    paths = [uris.get(sample, "") for sample in query["sample_id"]]
    return contact_sheet(paths, captions, how=how_of_home(deployment.artifacts))
