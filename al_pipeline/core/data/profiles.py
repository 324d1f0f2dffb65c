"""Write ICC profiles of red, green and blue for what files say about their colours in other ways."""

import struct
from collections.abc import Sequence

import numpy as np

# White of the space in which profiles meet (ICC.1:2022, 7.2.16).
D50 = (0.9642, 1.0, 0.8249)
# Cone responses, for the adaptation of one white to another (ICC.1:2022, E.3).
BRADFORD = np.array([(0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)])
# Beyond these, 1.0 in linear light is no light that a screen could show.
GAMMAS = (0.1, 10.0)

XY = tuple[float, float]
# x and y of white, red, green and blue.
Primaries = tuple[XY, XY, XY, XY]
# Gamma alone, or g, a, b, c, d of a curve: (a·v + b)^g from v = d on, c·v below it (ICC.1:2022, 10.18).
Curve = tuple[float] | tuple[float, float, float, float, float]

D65 = (0.3127, 0.3290)
BT709: Primaries = (D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def rgb_profile(primaries: Primaries, curve: Curve) -> bytes:
    """Return an ICC profile, version 4, of three primaries and one curve for all of them.

    Raises
    ------
    ValueError
        No screen has such primaries or such a curve.
    """
    if not GAMMAS[0] <= curve[0] <= GAMMAS[1]:
        raise ValueError(f"a gamma of {curve[0]:g}")
    columns = colorants(primaries)
    tags = {f"{name}XYZ".encode(): _xyz(column) for name, column in zip("rgb", columns.T, strict=True)}
    tags[b"wtpt"] = _xyz(D50)
    shape = b"para" + struct.pack(">4xHxx", 0 if len(curve) == 1 else 3) + _fixed(curve)
    tags |= {f"{name}TRC".encode(): shape for name in "rgb"}
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value
    kind = struct.pack(">I4xI4s4s4s12x4s", 128 + len(table) + len(data), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (kind.ljust(68, b"\0") + _fixed(D50)).ljust(128, b"\0") + table + data


# What comes out of numbers of no sense is no number, and is refused as such.
@np.errstate(all="ignore")
def colorants(primaries: Primaries) -> np.ndarray:
    """Return the matrix from linear red, green and blue to XYZ under D50, shape (3, 3), by the adaptation of Bradford.

    Raises
    ------
    ValueError
        The primaries span no colours, or white is none.
    """
    white, *colours = (np.array([x, y, 1 - x - y]) for x, y in primaries)
    if not white[1]:
        raise ValueError("a white without light")
    white, columns = white / white[1], np.array(colours).T
    try:
        columns = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError:
        raise ValueError("primaries that span no colours") from None
    cones = (BRADFORD @ D50) / (BRADFORD @ white)
    return np.linalg.solve(BRADFORD, cones[:, None] * (BRADFORD @ columns))


def _xyz(values: Sequence[float] | np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _fixed(values: Sequence[float] | np.ndarray) -> bytes:
    """Return signed numbers with 16 bits behind the point."""
    try:
        return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
    except (struct.error, ValueError, OverflowError):
        raise ValueError("primaries that span no colours") from None
