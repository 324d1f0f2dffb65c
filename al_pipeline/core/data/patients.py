"""Whether DICOM files name patients whose images belong together: they do so themselves, whatever they are called."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pandas as pd

from al_pipeline.core.data.folder_names import counted
from al_pipeline.core.data.places import is_address, load

# Files that are asked, evenly spread: some milliseconds each.
MOST_ASKED = 200


def about_patients(usable: pd.DataFrame) -> Iterator[str]:
    """Yield that images of one patient lie in several groups, in a sentence with the remedy; nothing if none do.

    Parameters
    ----------
    usable : DataFrame
        Rows of a manifest with ``uri``, ``format`` and ``group``.
    """
    files = usable[usable["format"] == "DICOM"]
    if len(files) < 2 or "group" not in files:
        return
    some = files.iloc[np.unique(np.linspace(0, len(files) - 1, MOST_ASKED).astype(int))]
    groups: dict[str, set[str]] = defaultdict(set)
    for uri, group in zip(some["uri"], some["group"], strict=True):
        if patient := _patient(uri):
            groups[patient].add(group)
    if len(groups) > 1 and (torn := sum(len(theirs) > 1 for theirs in groups.values())):
        yield (
            f"{counted(len(some), 'DICOM file')} that were asked name {len(groups):,} patients, and the images of "
            f"{torn:,} of them lie in several groups: what is measured may flatter. Hold patients out whole: a folder "
            "for each (AL_GROUP=folder), or a table of the columns path and patient (AL_GROUP=patients.csv:patient)"
        )


def _patient(uri: str) -> str:
    """Return the PatientID of a DICOM file, "" where it says none."""
    import pydicom

    from al_pipeline.core.data.dicom import prepare

    prepare()
    try:
        found = pydicom.dcmread(
            load(uri) if is_address(uri) else uri, specific_tags=["PatientID"], stop_before_pixels=True
        )
    except Exception:  # noqa: BLE001 - damaged bytes lead pydicom into errors of any kind, and its pixels were read
        return ""
    return str(found.get("PatientID") or "")
