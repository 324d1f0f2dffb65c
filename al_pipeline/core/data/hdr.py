"""Bring pictures of high dynamic range to the brightness and the colours of usual ones: PQ and HLG [1]_ to sRGB.

Both mean light of a screen, PQ in cd/m², HLG on one whose white has 1,000 of them. A sheet of paper has 203 [2]_, and
that is what sRGB calls white. What is darker than 88 stays as it is; what is brighter, up to 1,000, is bent into the
rest by the curve of [3]_, on the largest of red, green and blue, so that their relation stays. It is the same for all
pictures, because how bright one is may be the class.

References
----------
.. [1] Recommendation ITU-R BT.2100-2, tables 4 and 5.
.. [2] Report ITU-R BT.2408, table 1.
.. [3] Report ITU-R BT.2390, 5.4.1, and BT.2408, annex 5: the EETF, without its part for the black of a screen.
"""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from al_pipeline.core.data.profiles import BT709, D65, Primaries, colorants
from al_pipeline.core.data.raster import by_rows

Light = npt.NDArray[np.floating[Any]]

# By the numbers of ITU-T H.273, table 3.
HDR = PQ, HLG = 16, 18
BT2020: Primaries = (D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
# In cd/m².
WHITE, PEAK, PQ_MOST = 203.0, 1000.0, 10_000.0
M1, M2 = 2610 / 16384, 2523 / 32
C1, C2, C3 = 3424 / 4096, 2413 / 128, 2392 / 128
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
HLG_GAMMA = 1.2
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_mapped(
    values: npt.NDArray[Any], white: float, transfer: int, primaries: Primaries = BT2020, *, alpha: bool = False
) -> npt.NDArray[np.uint8]:
    """Return levels of sRGB; what is beyond its colours is cut off, channel by channel.

    Parameters
    ----------
    values : array, shape (height, width, channels)
        Gray, or red, green and blue, as stored: integers or floats.
    white : float
        The value of a full signal.
    transfer : int
        `PQ` or `HLG`.
    primaries : tuple
        Of the values; the luminance of HLG is taken by those of BT.2020 for all.
    alpha : bool
        The last channel is straight alpha: it becomes 8 bits, as it is.
    """
    if alpha:

        def opacity(some: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
            return np.rint(some * np.float32(255 / white)).clip(0, 255).astype(np.uint8)

        colours = tone_mapped(values[..., :-1], white, transfer, primaries)
        return np.dstack([colours, by_rows(opacity, values[..., -1:], np.uint8, 1)])
    channels = values.shape[2]
    to_srgb = np.linalg.solve(colorants(BT709), colorants(primaries)).T.astype(np.float32) if channels == 3 else None
    table = None
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        table = _light(np.arange(1 << 8 * values.dtype.itemsize, dtype=np.float32) / np.float32(white), transfer)

    def levels(some: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        light = _light(some.astype(np.float32) / np.float32(white), transfer) if table is None else table[some]
        light = _shown(light, transfer)
        light = light if to_srgb is None else light @ to_srgb
        return _levels()[_place(light, 1.0)]

    return by_rows(levels, values, np.uint8, channels)


def _shown(light: Light, transfer: int) -> Light:
    """Return light of a screen whose white is 1, for light of a brighter one (PQ) or of a scene (HLG)."""
    if transfer == HLG:
        luminance = light @ LUMINANCE[:, None] if light.shape[-1] == 3 else light
        light = light * np.float32(PEAK) * luminance ** np.float32(HLG_GAMMA - 1)
    brightest = light.max(axis=-1, keepdims=True)
    return light * (_bends()[_place(brightest, PQ_MOST)] / np.maximum(brightest, np.float32(1e-6)))


def _place(light: Light, most: float) -> npt.NDArray[np.uint16]:
    """Return where light is in a table over the roots of light, which are about evenly far apart to the eye."""
    return (np.sqrt((light * np.float32(1 / most)).clip(0, 1)) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)


@functools.cache
def _levels() -> npt.NDArray[np.uint8]:
    """Return the level of sRGB for each place from 0 to 1."""
    light = np.linspace(0, 1, 65536) ** 2
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
    return (255 * shown).round().astype(np.uint8)


@functools.cache
def _bends() -> npt.NDArray[np.float32]:
    """Return light of a screen whose white is 1 for each place from 0 to `PQ_MOST`."""
    return _bent(PQ_MOST * np.linspace(0, 1, 65536) ** 2).astype(np.float32)


def _light(signal: Light, transfer: int) -> Light:
    """Return light for signals from 0 to 1: in cd/m² of PQ, of the scene from 0 to 1 of HLG; what is no number is 0."""
    signal = np.nan_to_num(signal, nan=0.0).clip(0, 1)
    return _pq_light(signal) if transfer == PQ else _hlg_light(signal)


def _pq_light(signal: Light) -> Light:
    root = signal ** np.float32(1 / M2)
    return PQ_MOST * (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** np.float32(1 / M1)


def _pq_signal(light: Light) -> Light:
    root = (light / PQ_MOST) ** np.float32(M1)
    return ((C1 + C2 * root) / (1 + C3 * root)) ** np.float32(M2)


def _hlg_light(signal: Light) -> Light:
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - HLG_C) / HLG_A) + HLG_B) / 12)


def _bent(light: Light) -> Light:
    """Return light of a screen of `WHITE`, which is 1, for light of one of `PEAK`, in cd/m²."""
    most, white = _ends()
    signal = (_pq_signal(light) / most).clip(0, 1)
    knee = 1.5 * white - 0.5
    at = np.maximum(signal - knee, 0) / (1 - knee)
    bent = (2 * at**3 - 3 * at**2 + 1) * knee + (at**3 - 2 * at**2 + at) * (1 - knee) + (3 * at**2 - 2 * at**3) * white
    return np.where(signal > knee, _pq_light(bent * most), light) / np.float32(WHITE)


@functools.cache
def _ends() -> tuple[float, float]:
    """Return the signal of the brightest light that is told apart, and the share of it that white has."""
    most, white = map(float, _pq_signal(np.array([PEAK, WHITE], np.float32)))
    return most, white / most
