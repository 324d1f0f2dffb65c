"""Settings that name a folder, or a place in a bucket by its address."""

import re
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from al_pipeline.core.data.places import Place, Root, is_address, place_of


def _is_place(value: Any) -> Place:
    if not isinstance(value, Place):
        # What has an @ in it may hold a key.
        told = "" if "@" in str(value) else f"{str(value)!r} is "
        raise ValueError(f"{told}no address of a bucket: write s3://BUCKET/PREFIX")
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
            "`images`, `published`, `artifacts` and `embeddings` can be in a bucket"
        )
    return value


def check_published(published: Place, images: Root | None) -> Place:
    """Return the bucket that people are shown images from.

    Raises
    ------
    ValueError
        It is none that Label Studio can show them from, or should.
    """
    if not published.url.startswith("s3://"):
        raise ValueError(
            f"{published} is no bucket of S3, the one kind that Label Studio is told of: name s3://BUCKET/PREFIX, or "
            "leave it out, and what people are shown lies in AL_HOME"
        )
    if not re.fullmatch(r"s3://[\w./-]+", published.url, re.ASCII):
        # It finds addresses in tasks by their letters.
        raise ValueError(
            f"{published} has letters that Label Studio does not find in a task: name a bucket and a prefix of a-z, "
            "0-9, -, _, . and /"
        )
    if isinstance(images, Place) and bucket_of(images) == bucket_of(published):
        raise ValueError(
            f"{published} is in the bucket of the images, {images}: whoever labels can open any key of a bucket that "
            "tasks show, and keys of originals may have the class in them; name another bucket"
        )
    return published


def bucket_of(place: Place) -> str:
    """Return the address of the bucket that a place is in."""
    return "/".join(place.url.split("/")[:3])
