"""Shards of vectors as earlier versions wrote them: Parquet, read once more to be rewritten."""

from typing import IO

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.row_file import DamagedError, Ids, as_keys


def read_parquet_shard(file: IO[bytes]) -> tuple[Ids, npt.NDArray[np.float32]]:
    """Return the sample ids of a shard and their vectors, float32, shape (n, d).

    Raises
    ------
    DamagedError
        It is not what was written; every page has a checksum.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, columns=["sample_id", "vector"], page_checksum_verification=True)
    # pyarrow reports damage as an OSError or as one of its own, which are ValueErrors.
    except (OSError, ValueError) as error:
        raise DamagedError(str(error)) from error
    vectors = table["vector"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    return as_keys(table["sample_id"].to_pylist()), vectors
