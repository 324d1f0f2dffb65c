"""Files and folders of labels, as other tools write and read them; a module per format.

No library reads these: `labelformat` knows boxes and masks alone, and the importers of `datasets` and `fiftyone` come
with hundreds of megabytes.
"""

from typing import Literal

Table = Literal["csv", "parquet", "json"]
DataSet = Literal["folders", "huggingface", "coco", "fiftyone"]
Written = Literal[Table, DataSet]
Read = Literal[Table, "folders", "yolo", "huggingface", "coco", "voc"]
