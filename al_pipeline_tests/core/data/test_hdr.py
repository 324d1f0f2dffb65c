"""Pictures of high dynamic range look as their usual versions do, and what is brighter than white stays apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import CubicHermiteSpline

from al_pipeline.core.data.hdr import HLG, PQ, tone_mapped
from al_pipeline.core.data.images import open_rgb
from al_pipeline_tests.core.data import writers
from al_pipeline_tests.core.data.colours import iccp, profile_of, srgb_levels
from al_pipeline_tests.core.data.hdr_kinds import BRIGHT, CASES, WHITE, hlg, light_levels, png, pq
from al_pipeline_tests.core.data.other_kinds import Pixels


def mapped(signals: Any, transfer: int) -> Pixels:
    """The levels of gray signals, or of colours."""
    values = np.asarray(signals, dtype=np.float64)
    colours = values if values.ndim == 2 else values[:, None]
    return tone_mapped(colours[None], 1.0, transfer)[0].astype(float).squeeze()


def bent(light: Pixels) -> Pixels:
    """Light of a screen of `WHITE`, which is 1, for light up to `BRIGHT` in cd/m²: BT.2390, 5.4.1, by a library."""
    most, white = pq(np.array([BRIGHT, WHITE], dtype=float))
    knee = 1.5 * white / most - 0.5
    curve = CubicHermiteSpline([knee, 1], [knee, white / most], [1, 0])
    signal = (pq(light) / most).clip(0, 1)
    # The EOTF is looked up in its inverse.
    grid = np.geomspace(1e-4, BRIGHT, 200_000)
    return np.interp(np.where(signal > knee, curve(signal), signal) * most, pq(grid), grid) / WHITE


@pytest.mark.parametrize("name", CASES)
def test_a_usual_picture_comes_back_from_hdr(tmp_path: Path, name: str) -> None:
    make, levels, within = CASES[name]
    (tmp_path / "x").write_bytes(make())
    off = np.abs(np.asarray(open_rgb(tmp_path / "x")) - levels)
    assert off.max() <= within
    assert off.mean() <= max(0.5, within / 15)


def test_signals_whose_light_the_standards_print_have_its_level() -> None:
    # BT.2408, table 1 and 5.4: 100 cd/m² are 0.508 of PQ, paper 0.58 of PQ and 0.75 of HLG; the rest by hand.
    assert mapped([0.0, 0.5081, 0.5807, 0.7518, 1.0], PQ) == pytest.approx([0, 185, 229, 255, 255], abs=1)
    assert mapped([0.0, 0.38, 0.5, 0.75, 1.0], HLG) == pytest.approx([0, 101, 137, 229, 255], abs=1)
    # Gray that reflects 18 % of what paper does.
    middle = srgb_levels(np.array([0.18]))[0]
    assert mapped([pq(np.array(0.18 * WHITE))], PQ) == pytest.approx(middle, abs=0.5)


def test_what_is_bright_is_bent_as_the_recommendation_says() -> None:
    light = np.geomspace(0.01, 10_000, 500)
    expected = srgb_levels(bent(light))
    assert np.abs(mapped(pq(light), PQ) - expected).max() <= 0.52
    gray = light[light <= BRIGHT, None].repeat(3, axis=1)
    assert np.abs(mapped(hlg(gray), HLG)[:, 0] - expected[light <= BRIGHT]).max() <= 0.52


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_more_light_is_never_darker(transfer: int) -> None:
    ramp = np.arange(65536, dtype=np.uint16)[None, :, None]
    levels = tone_mapped(ramp, 65535, transfer)[0, :, 0].astype(int)
    assert (np.diff(levels) >= 0).all()
    assert levels[[0, -1]].tolist() == [0, 255]
    assert len(np.unique(levels)) == 256


@pytest.mark.parametrize("curve", [(pq, PQ), (hlg, HLG)], ids=["PQ", "HLG"])
def test_bright_colours_keep_their_hue_and_what_no_screen_shows_is_cut_off(tmp_path: Path, curve: Any) -> None:
    encode, transfer = curve
    light = np.array([(600, 200, 70), (300, 900, 100), (500, 500, 300), (203, 0, 0), (0, 0, 1000)], dtype=float)
    brightest = light.max(axis=1, keepdims=True)
    expected = light_levels(light * bent(brightest) / brightest)
    values = (encode(light) * 65535).round().clip(0, 65535).astype(np.uint16)[None]
    assert np.abs(opened(values, transfer, tmp_path)[0] - expected).max() <= 2


def opened(values: Pixels, transfer: int, folder: Path) -> Pixels:
    (folder / "x.png").write_bytes(writers.png(values, (b"cICP", bytes((9, transfer, 0, 1))), bits=16))
    return np.asarray(open_rgb(folder / "x.png")).astype(int)


def test_transparency_and_what_is_no_number_are_left(tmp_path: Path) -> None:
    values = np.array([[(0.5, 0.5, 0.5, 0.25), (np.nan, 2.0, -1.0, 1.0)]], dtype=np.float32)
    found = tone_mapped(values, 1.0, HLG, alpha=True)
    assert found[0, 0].tolist() == [137, 137, 137, 64]
    assert found[0, 1, [0, 2, 3]].tolist() == [0, 0, 255]


def test_a_large_picture_is_converted_when_it_has_become_small(tmp_path: Path) -> None:
    levels = np.full((400, 300, 3), 120.0)
    (tmp_path / "x.png").write_bytes(png(levels, HLG, 8))
    small = open_rgb(tmp_path / "x.png", at_least=100)
    assert small.size == (100, 134)
    assert np.abs(np.asarray(small) - 120.0).max() <= 2


def test_numbers_of_hdr_come_before_a_profile(tmp_path: Path) -> None:
    make, levels, within = CASES["PNG, PQ"]
    data = make()
    profile = writers.chunk(b"iCCP", iccp(profile_of("Adobe RGB")))
    (tmp_path / "x.png").write_bytes(data[:33] + profile + data[33:])
    assert np.abs(np.asarray(open_rgb(tmp_path / "x.png")) - levels).max() <= within
