"""Data sets that other tools read: the labels that people agree on, with their images."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from al_pipeline.core.labels.formats.coco import write_coco
from al_pipeline.core.labels.formats.fiftyone import write_fiftyone
from al_pipeline.core.labels.formats.folders import write_folders
from al_pipeline.core.labels.formats.huggingface import write_huggingface
from al_pipeline.core.labels.formats.images import check_images, whole_folder


def write_data_set(labels: pd.DataFrame, folder: Path, kind: str, class_names: Sequence[str]) -> None:
    """Write a data set, whole or not at all.

    Parameters
    ----------
    labels : DataFrame
        ``sample_id, uri, label, split`` (``train`` or ``holdout``), a row per image; optionally ``file_id``, as for
        `check_images`.
    folder : Path
        New or empty.
    kind : str
        One of `formats.DataSet`.
    class_names : sequence of str
        In the order that numbers are to follow; with every label that is written.

    Raises
    ------
    InputError
        The folder holds something, an image is gone or changed, or a class cannot be written in this format.
    FileError
        The operating system refuses.
    """
    check_images(labels)
    labels = labels.drop(columns="file_id", errors="ignore")
    with whole_folder(folder) as place:
        if kind == "folders":
            write_folders(labels, place)
        elif kind == "huggingface":
            write_huggingface(labels, place)
        elif kind == "coco":
            write_coco(labels, place, class_names)
        else:
            write_fiftyone(labels, place, class_names)
