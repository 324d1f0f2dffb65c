"""Small pictures of samples by their id alone: made once, as the rounds read their files, and kept in the home."""

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageOps

from al_pipeline.core.data.how_read import AS_EVER
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.errors import ImageError
from al_pipeline.core.files import whole_file
from al_pipeline.labelstudio.images import published
from al_pipeline.loop.how_read import how_of_home

if TYPE_CHECKING:
    from al_pipeline.loop.deployment import Deployment

# Pixels of the longer side: a tile on a screen of twice the density, and a picture that is looked at by itself.
SIZES = {"small": 360, "large": 1280}
QUALITY = 85
# A picture of 64 megapixels takes 192 MB while it is decoded.
AT_ONCE = 2


class Thumbnails:
    """The pictures of one home.

    Parameters
    ----------
    deployment : Deployment
    """

    def __init__(self, deployment: "Deployment") -> None:
        self._deployment = deployment
        self._free = threading.Semaphore(AT_ONCE)

    def picture(self, sample: str, size: str) -> Path | None:
        """Return a JPEG of a sample; None if its image is nowhere, or cannot be decoded.

        Parameters
        ----------
        sample : str
            A checked sample id.
        size : str
            A name of `SIZES`.
        """
        how = how_of_home(self._deployment.artifacts)
        folder = self._deployment.settings.home / "cache" / "thumbnails" / (how.key or "as ever") / sample[:2]
        path = folder / f"{sample}-{SIZES[size]}.jpg"
        if path.exists():
            return path
        served = self._deployment.settings.published_images
        name = published(sample, served)
        # What people see is made already; what nobody was asked about lies where the last scan has found it.
        source = served / name if name else self._deployment.ledger.places([sample]).get(sample)
        if source is None:
            return None
        side = SIZES[size]
        with self._free:
            try:
                image = open_rgb(source, at_least=side, how=AS_EVER if name else how)
                with whole_file(path, "The thumbnail", error=ImageError, sync=False) as file:
                    small = image if max(image.size) <= side else ImageOps.contain(image, (side, side))
                    small.save(file, "JPEG", quality=QUALITY)
            except ImageError:
                return None
        return path
