"""Pascal VOC's XML, a file per image: the class of its objects, where it is one."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from al_pipeline.core.labels.formats.brought import SEVERAL, Brought, beside, filled

# Relative to the folder of the XML files.
IMAGES = (".", "../JPEGImages", "../images")


def read_voc(files: Sequence[Path], origin: str) -> Brought:
    """Read VOC files; an image without objects says nothing."""
    rows: list[dict[str, object]] = []
    for file in files:
        row: dict[str, object] = {"place": file.name, "path": file.name}
        try:
            # Files of one's own; expat itself limits how far entities grow.
            root = ElementTree.parse(file).getroot()  # noqa: S314
        except ElementTree.ParseError as error:
            rows.append(row | {"problem": f"is no XML ({error})"})
            continue
        labels = {(name.text or "").strip() for name in root.findall("./object/name")}
        if not labels:
            continue
        image = (root.findtext("filename") or "").strip()
        row |= {"path": image, "file": beside(image, *(file.parent / folder for folder in IMAGES))}
        one = next(iter(labels)) if len(labels) == 1 else None
        rows.append(row | {"label": one, "problem": None if one else SEVERAL})
    return Brought(origin, filled(rows), content_first=True)
