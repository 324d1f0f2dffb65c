"""Settings that name a folder, or a place in a bucket by its address."""

from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from al_pipeline.core.data.places import Place, is_address, place_of


def _is_place(value: Any) -> Place:
    if not isinstance(value, Place):
        raise ValueError("a folder, or the address of a bucket (s3://…)")
    return value


#: Kept and shown as text.
Address = Annotated[
    Place, PlainValidator(_is_place), PlainSerializer(str), WithJsonSchema({"type": "string", "format": "uri"})
]


def as_place(value: Any) -> Any:
    """Return an address as the place that it names, of a file's the folder; all else as it is."""
    return place_of(value) if isinstance(value, str) and is_address(value) else value


def no_address(value: Any) -> Any:
    """Return a value that is no address: as a path it would become a folder of the working directory.

    Raises
    ------
    ValueError
        It is one.
    """
    if isinstance(value, str) and is_address(value):
        raise ValueError(
            "an address, where a folder of this machine is needed: what is written lies in one, and examples do. Only "
            "`images` and `embeddings` can be in a bucket"
        )
    return value
