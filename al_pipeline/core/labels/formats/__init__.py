"""Files and folders of labels, as other tools write and read them; a module per format.

No library reads these: `labelformat` knows boxes and masks alone, and the importers of `fiftyone` and `datasets` come
with a database or with hundreds of megabytes.
"""
