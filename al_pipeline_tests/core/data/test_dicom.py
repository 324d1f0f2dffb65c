"""DICOM: gray values as a viewer shows them, colours as they are meant, and a true reason for the rest."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from al_pipeline.core.data.dicom import read_dicom
from al_pipeline.core.data.images import open_rgb
from al_pipeline.core.data.pool import scan
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.dicom_kinds import (
    COLOURS,
    COMPRESSED,
    GRAY12,
    HOUNSFIELD,
    OTHERS,
    RGB,
    SAME,
    WIDTH,
    Pixels,
    X,
    Y,
    dicom,
    linear,
    shipped,
)

# What pydicom says of its own test files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom", "ignore::DeprecationWarning")


def seen(data: bytes, tmp_path: Path) -> Pixels:
    (tmp_path / "x.dcm").write_bytes(data)
    return np.asarray(open_rgb(tmp_path / "x.dcm")).astype(float)


def assert_seen(data: bytes, expected: Pixels, tmp_path: Path, within: float = 1) -> None:
    found = seen(data, tmp_path)
    expected = expected[..., None] if expected.ndim == 2 else expected
    assert found.shape == (*expected.shape[:2], 3)
    assert np.abs(found - expected).max() <= within


@pytest.mark.parametrize(("centre", "width"), [(40, 400), (-600, 1500), (0, 1), (100, 2)])
def test_a_window_is_applied_after_rescale(tmp_path: Path, centre: float, width: float) -> None:
    stored = (HOUNSFIELD.astype(np.int32) + 1024).astype(np.uint16)
    data = dicom(stored, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=centre, WindowWidth=width)
    assert_seen(data, linear(HOUNSFIELD, centre, width), tmp_path)


@given(
    centre=st.floats(-1500, 1500).map(lambda x: round(x, 2)),
    width=st.floats(1.5, 3000).map(lambda x: round(x, 2)),
    slope=st.sampled_from([0.5, 1.0, 2.25]),
    inverted=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_any_window_is_that_of_the_standard(
    tmp_path_factory: pytest.TempPathFactory, centre: float, width: float, slope: float, inverted: bool
) -> None:
    data = dicom(
        HOUNSFIELD, f"MONOCHROME{1 if inverted else 2}", RescaleSlope=slope, RescaleIntercept=3, WindowCenter=centre,
        WindowWidth=width,
    )  # fmt: skip
    shown = linear(HOUNSFIELD * slope + 3, centre, width)
    assert_seen(data, 255 - shown if inverted else shown, tmp_path_factory.mktemp("window"))


def test_of_several_windows_the_first_is_taken(tmp_path: Path) -> None:
    data = dicom(HOUNSFIELD, WindowCenter=[40, -600], WindowWidth=[400, 1500])
    assert_seen(data, linear(HOUNSFIELD, 40, 400), tmp_path)


def test_exact_and_sigmoid_windows(tmp_path: Path) -> None:
    exact = ((HOUNSFIELD.astype(float) - 40) / 400 + 0.5).clip(0, 1) * 255
    data = dicom(HOUNSFIELD, WindowCenter=40, WindowWidth=400, VOILUTFunction="LINEAR_EXACT")
    assert_seen(data, exact, tmp_path)
    sigmoid = 255 / (1 + np.exp(-4 * (HOUNSFIELD.astype(float) - 40) / 400))
    data = dicom(HOUNSFIELD, WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")
    assert_seen(data, sigmoid, tmp_path)


def table(entries: Pixels, first: int, depth: int) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, depth])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return Sequence([item])


@pytest.mark.parametrize("depth", [8, 12, 16])
def test_a_table_of_values_of_interest(tmp_path: Path, depth: int) -> None:
    # 1,000 entries for the values from 100 on, 8 bits each too.
    stored = (X * 40 + Y).astype(np.uint16)
    entries = (np.linspace(0, 1, 1000) ** 2 * (2**depth - 1)).astype(np.uint16)
    expected = entries[(stored.astype(int) - 100).clip(0, 999)] * (255 / (2**depth - 1))
    assert_seen(dicom(stored, VOILUTSequence=table(entries, 100, depth)), expected, tmp_path)


def test_a_table_of_the_modality_comes_before_the_window(tmp_path: Path) -> None:
    stored = (X * 6 + Y).astype(np.uint16)
    entries = (np.arange(300)[::-1] * 7).astype(np.uint16)
    data = dicom(stored, ModalityLUTSequence=table(entries, 0, 16), WindowCenter=900, WindowWidth=1000)
    assert_seen(data, linear(entries[stored], 900, 1000), tmp_path)


def test_small_values_are_bright_in_monochrome1(tmp_path: Path) -> None:
    stored = (X * 6).astype(np.uint8)
    assert_seen(dicom(stored, "MONOCHROME1"), 255.0 - stored, tmp_path, within=0)
    assert_seen(dicom(stored), stored.astype(float), tmp_path, within=0)


def test_without_a_window_the_own_range_is_black_to_white_and_padding_is_black(tmp_path: Path) -> None:
    stored = (X * 10 + 500).astype(np.uint16)
    expected = (stored - 500.0) * 255 / (10 * (WIDTH - 1))
    assert_seen(dicom(stored, BitsStored=12, HighBit=11), expected, tmp_path)
    stored[:4] = 4000
    expected[:4] = 0
    assert_seen(dicom(stored, BitsStored=12, HighBit=11, PixelPaddingValue=4000), expected, tmp_path)
    stored[:2] = 3900
    padded = dicom(stored, BitsStored=12, HighBit=11, PixelPaddingValue=3800, PixelPaddingRangeLimit=4000)
    assert_seen(padded, expected, tmp_path)


def test_signed_values_of_12_bits_and_both_orders_of_bytes(tmp_path: Path) -> None:
    stored = (X * 100 - 2000).astype(np.int16)
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        data = dicom(stored, syntax=syntax, BitsStored=12, HighBit=11, WindowCenter=0, WindowWidth=2000)
        assert_seen(data, linear(stored, 0, 2000), tmp_path)


@pytest.mark.parametrize("name", COLOURS)
def test_colours(tmp_path: Path, name: str) -> None:
    make, expected, within = COLOURS[name]
    assert_seen(make(), expected, tmp_path, within)


@pytest.mark.parametrize(("number", "depth", "first"), [(256, 8, 0), (256, 16, 0), (1000, 16, 0), (1000, 8, 50)])
def test_a_palette(tmp_path: Path, number: int, depth: int, first: int) -> None:
    stored = (X * 27 + Y).astype(np.uint16) if number > 256 else (X * 6).astype(np.uint8)
    colours = np.random.default_rng(0).integers(0, 2**depth, (number, 3)).astype(np.uint16)
    elements: dict[str, Any] = {}
    for i, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [number, first, depth]
        kind = "<u2" if depth == 16 else "u1"
        elements[f"{name}PaletteColorLookupTableData"] = colours[:, i].astype(kind).tobytes()
    expected = colours[(stored.astype(int) - first).clip(0, number - 1)] * (255 / (2**depth - 1))
    assert_seen(dicom(stored, "PALETTE COLOR", **elements), expected, tmp_path)


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_gray_of_12_bits(tmp_path: Path, name: str) -> None:
    syntax, encode = COMPRESSED[name]
    data = dicom(
        GRAY12, syntax=syntax, frames=[encode()], BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=3000
    )
    assert_seen(data, linear(GRAY12, 2000, 3000), tmp_path, within=2)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_frame_whose_data_end_early_is_damaged(tmp_path: Path, name: str, share: float) -> None:
    syntax, encode = COMPRESSED[name]
    frame = encode()
    cut = frame[: int(share * len(frame))]
    (tmp_path / "x.dcm").write_bytes(dicom(GRAY12, syntax=syntax, frames=[cut], BitsStored=12, HighBit=11))
    with pytest.raises(ImageError, match=r"^damaged"):
        open_rgb(tmp_path / "x.dcm")


def test_the_first_frame_is_taken_and_they_are_counted() -> None:
    frames = np.stack([GRAY12, GRAY12[::-1], GRAY12 // 2])
    raster = read_dicom(dicom(frames, NumberOfFrames=3), 1000)
    assert raster.planes == 3
    assert np.array_equal(raster.values[..., 0], GRAY12)


def test_the_window_of_an_enhanced_image_is_in_its_groups(tmp_path: Path) -> None:
    rescale, window, group = Dataset(), Dataset(), Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1000
    window.WindowCenter, window.WindowWidth = 500, 1000
    group.PixelValueTransformationSequence = Sequence([rescale])
    group.FrameVOILUTSequence = Sequence([window])
    data = dicom(GRAY12, SharedFunctionalGroupsSequence=Sequence([group]))
    assert_seen(data, linear(GRAY12.astype(float) * 2 - 1000, 500, 1000), tmp_path)


@pytest.mark.parametrize("pair", SAME, ids=lambda pair: pair[1])
def test_files_of_other_writers_look_alike_however_they_are_compressed(tmp_path: Path, pair: tuple[str, str]) -> None:
    plain, packed = (seen(shipped(name), tmp_path) for name in pair)
    assert plain.std() > 10
    assert np.abs(plain - packed).max() <= 1


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_other_writers_are_read(tmp_path: Path, name: str) -> None:
    assert seen(shipped(name), tmp_path).std() > 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (shipped("reportsi.dcm"), r"^DICOM without pixels \(.*SR"),
        (shipped("rtplan.dcm"), r"^DICOM without pixels \(RT Plan"),
        (shipped("MR_truncated.dcm"), r"^damaged"),
        (
            dicom(GRAY12, syntax="1.2.840.10008.1.2.4.102", frames=[b"\0\0\0\1"]),
            r"^DICOM compressed as MPEG-4 .*convert it with `gdcmconv",
        ),
        (dicom(RGB, "YBR_PARTIAL_420"), r"^(damaged|DICOM with the colours)"),
        (dicom(GRAY12, Rows=60000, Columns=60000), r"^too large: 60000 × 60000 pixels"),
        (
            dicom(
                GRAY12, syntax="1.2.840.10008.1.2.4.90",
                frames=[bytes(imagecodecs.jpeg2k_encode(np.zeros((900, 900), np.uint8), 0, codecformat="J2K"))],
            ),
            r"^damaged: the frame has 900 × 900 pixels in place of 40 × 24",
        ),
    ],
    ids=["report", "plan", "cut", "film", "colours", "large", "other size"],
)  # fmt: skip
def test_what_is_not_read_has_a_true_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "x.dcm").write_bytes(data)
    with pytest.raises(ImageError, match=reason):
        open_rgb(tmp_path / "x.dcm")


def test_a_deflated_file_is_read_if_it_does_not_grow_beyond_any_image(tmp_path: Path) -> None:
    stored = np.stack([GRAY12] * 5)
    data = dicom(stored, syntax=DeflatedExplicitVRLittleEndian, NumberOfFrames=5, WindowCenter=2000, WindowWidth=3000)
    assert_seen(data, linear(GRAY12, 2000, 3000), tmp_path)
    with pytest.raises(ImageError, match=r"^too large: "):
        open_rgb(tmp_path / "x.dcm", max_pixels=1000)


def test_a_series_in_a_folder_is_images_each(tmp_path: Path) -> None:
    for i in range(4):
        moved = np.roll(GRAY12, 10 * i, axis=1)
        (tmp_path / f"slice{i}.dcm").write_bytes(dicom(moved, InstanceNumber=i, WindowCenter=2000, WindowWidth=3000))
    manifest = scan(tmp_path)
    assert set(manifest["format"]) == {"DICOM"}
    assert set(manifest["split"]) <= {"pool", "holdout"}
    assert len(manifest) == 4
