"""What `al ledger verify` has to find: each way to break the promises of the ledger that `test_verify` builds."""

from al_pipeline_tests.ledger.breaches.edits import Breach
from al_pipeline_tests.ledger.breaches.of_classes import CLASSES
from al_pipeline_tests.ledger.breaches.of_events import EVENTS
from al_pipeline_tests.ledger.breaches.of_labels import LABELS
from al_pipeline_tests.ledger.breaches.of_plans import PLANS

BREACHES: dict[str, Breach] = PLANS | EVENTS | LABELS | CLASSES
