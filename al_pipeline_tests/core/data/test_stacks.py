"""Of files with several planes the one that is asked for is taken, or the brightest; channels in pages are joined."""

import io
import itertools
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEGLSLossless

from al_pipeline.core.data.dicom import read_dicom
from al_pipeline.core.data.how_read import HowRead, Plane
from al_pipeline.core.data.images import MAX_PIXELS, open_rgb
from al_pipeline.core.data.pool import scan
from al_pipeline.core.data.raster import Raster, to_image
from al_pipeline.core.data.report import describe
from al_pipeline.core.data.scan_cache import ScanCache
from al_pipeline.core.data.stacks import MOST_PLANES, of_planes, position
from al_pipeline.core.data.tiff import read_tiff
from al_pipeline.core.errors import ImageError
from al_pipeline_tests.core.data.dicom_kinds import HEIGHT, WIDTH, dicom
from al_pipeline_tests.core.data.other_kinds import jp2, jxl
from al_pipeline_tests.core.data.tiff_writer import U8, Directory, Layout, file_of, page

Array = npt.NDArray[Any]

SIZES = {"T": 3, "Z": 2, "C": 4, "Y": 5, "X": 6}
# Each value once, and none of them alike in both bytes.
VALUES = np.arange(720, dtype=np.uint16).reshape(tuple(SIZES.values())) * 89 + 1
ORDERS = ["".join(order) for order in itertools.permutations("TZC")]
DEPTHS = [pytest.param(np.uint8, "<", id="8 bits"), pytest.param(np.uint16, ">", id="16 bits, big-endian")]


def tiff(values: Array, **given: Any) -> bytes:
    options: dict[str, Any] = {"photometric": "minisblack"} | given
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def ordered(order: str, dtype: type = np.uint16) -> Array:
    """Return the values with the axes of planes in another order."""
    return np.moveaxis(VALUES, range(3), [order.index(axis) for axis in "TZC"]).astype(dtype)


def ome(order: str = "TZC", dtype: type = np.uint16, **options: Any) -> bytes:
    return tiff(ordered(order, dtype), ome=True, metadata={"axes": f"{order}YX"}, **options)


def read(data: bytes, plane: Plane = "first", channels: tuple[int, ...] = ()) -> Raster:
    return read_tiff(data, max_pixels=MAX_PIXELS, how=HowRead(channels=channels, plane=plane))


def shown(data: bytes, plane: Plane = "first", channels: tuple[int, ...] = ()) -> Array:
    return read(data, plane, channels).colours(channels)


def by_tifffile(data: bytes) -> Array:
    """Return what the library finds, with the axes T, Z, C, Y, X."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series = file.series[0]
        axes = series.get_axes(squeeze=False)
        values = series.asarray(squeeze=False)
    kept = [axis for axis in axes if axis in SIZES]
    values = values.reshape([values.shape[axes.index(axis)] for axis in kept])
    return np.moveaxis(values, [kept.index(axis) for axis in SIZES], range(5))


def assert_planes(data: bytes) -> None:
    expected = by_tifffile(data)
    assert expected.shape == tuple(SIZES.values())
    planes = expected.reshape(6, 4, 5, 6)
    for number in range(6):
        raster = read(data, number)
        assert raster.planes == 6
        assert raster.values.dtype == expected.dtype
        assert (raster.colours() == np.moveaxis(planes[number, :3], 0, -1)).all()
    assert (shown(data) == np.moveaxis(planes[0, :3], 0, -1)).all()
    # The second slice of the second moment.
    assert (shown(data, "middle", (3, 0, 2)) == np.moveaxis(planes[3, [3, 0, 2]], 0, -1)).all()
    assert (shown(data, 5, (1,)) == planes[5, 1, ..., None]).all()
    assert (shown(data, "max", (2, 3))[..., :2] == np.moveaxis(planes[:, 2:].max(axis=0), 0, -1)).all()
    with pytest.raises(ImageError, match=r"no channel 9, which AL_CHANNELS asks for \(4 channels, counted from 0"):
        shown(data, 1, (0, 9))


@pytest.mark.parametrize(("dtype", "byteorder"), DEPTHS)
@pytest.mark.parametrize("order", ORDERS)
def test_channels_of_ome_are_gathered_in_any_order(order: str, dtype: type, byteorder: str) -> None:
    data = ome(order, dtype, byteorder=byteorder, compression="zlib" if dtype is np.uint8 else None)
    assert (by_tifffile(data) == VALUES.astype(dtype)).all()
    assert_planes(data)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("dtype", "byteorder"), DEPTHS)
def test_hyperstacks_of_imagej_are_too(dtype: type, byteorder: str, compression: str | None) -> None:
    options = {"metadata": {"axes": "TZCYX"}, "byteorder": byteorder, "compression": compression}
    assert_planes(tiff(VALUES.astype(dtype), imagej=True, **options))


@pytest.mark.parametrize(("dtype", "byteorder"), DEPTHS)
def test_one_directory_of_imagej_may_stand_for_all_that_follow(dtype: type, byteorder: Literal["<", ">"]) -> None:
    planes, told = VALUES.astype(dtype), "ImageJ=1.53t\nimages=24\nchannels=4\nslices=2\nframes=3\n"
    data = tiff(planes[0, 0, 0], description=told, metadata=None, byteorder=byteorder)
    data += planes.astype(planes.dtype.newbyteorder(byteorder)).tobytes()[planes[0, 0, 0].nbytes :]
    assert_planes(data)
    with pytest.raises(ImageError, match="truncated"):
        read(data[:-1], 5, (3,))


@pytest.mark.parametrize("order", ORDERS)
def test_imagej_may_name_another_order(order: str) -> None:
    told = f"ImageJ=1.53t\nimages=24\nchannels=4\nslices=2\nframes=3\nhyperstack=true\norder={order[::-1].lower()}\n"
    assert_planes(tiff(ordered(order), description=told, metadata=None))


def test_only_what_is_shown_is_read() -> None:
    data = bytearray(ome("TZC", compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        strips = [(page.dataoffsets[0], page.databytecounts[0]) for page in file.pages]
    # All but the fourth and the third channel of the second plane.
    for number, (offset, count) in enumerate(strips):
        if number not in (6, 7):
            data[offset : offset + count] = bytes(count)
    assert (shown(bytes(data), 1, (3, 2))[..., :2] == np.moveaxis(VALUES[0, 1, [3, 2]], 0, -1)).all()
    for plane, channels in [(1, ()), (0, (3, 2)), ("max", (3, 2))]:
        with pytest.raises(ImageError, match=r"^damaged"):
            read(bytes(data), plane, channels)


def test_two_channels_are_one_gray_and_pages_of_colours_stay_pictures() -> None:
    two = tiff(VALUES[0, :, :2], ome=True, metadata={"axes": "ZCYX"})
    assert (shown(two, 1) == VALUES[0, 1, 0, ..., None]).all()
    assert (shown(two, 1, (1, 0))[..., :2] == np.moveaxis(VALUES[0, 1, [1, 0]], 0, -1)).all()
    colours = np.moveaxis(VALUES[:, 0, :3], 1, -1).astype(np.uint8)
    for options in ({"ome": True}, {"imagej": True}):
        data = tiff(colours, photometric="rgb", metadata={"axes": "TYXS"}, **options)
        assert read(data).planes == 3
        assert (shown(data, 2) == colours[2]).all()


def test_thumbnails_and_levels_of_a_pyramid_never_count() -> None:
    for order in ("ZC", "CZ"):
        values = VALUES[0] if order == "ZC" else np.moveaxis(VALUES[0], 1, 0)
        buffer = io.BytesIO()
        with tifffile.TiffWriter(buffer, ome=True) as writer:
            writer.write(values, subifds=1, photometric="minisblack", metadata={"axes": f"{order}YX"})
            writer.write(values[..., ::2, ::2], subfiletype=1, photometric="minisblack")
        raster = read(buffer.getvalue(), 1)
        assert raster.planes == 2
        assert (raster.values == np.moveaxis(VALUES[0, 1, :3], 0, -1)).all()

    def one(value: int, kind: int = 0, size: int = 8) -> Directory:
        return page(np.full((size, size, 1), value), U8, Layout(), 1, {254: ("I", [kind])})

    pages = file_of([one(1, 1, 4), one(2), one(9), one(4, 4), one(5, 1, 4), one(6), one(3, 0, 16)])
    found = {plane: int(read(pages, plane).values[0, 0, 0]) for plane in ("first", "middle", "max", 0, 1, 2)}
    assert found == {"first": 2, "middle": 9, "max": 9, 0: 2, 1: 9, 2: 6}
    with pytest.raises(ImageError, match=r"no plane 3, .*AL_PLANE.* \(3 planes, counted from 0\)"):
        read(pages, 3)


PROMISES = {
    "other files": ('UUID="urn:uuid:1" ', '<UUID FileName="b.ome.tif">urn:uuid:2</UUID>', 1, 1),
    "more planes than pages": ("", "", 10**12, 1),
    "a page that is not there": ("", "", 1, 99),
    "pages before the first": ("", "", 1, -1),
    "no numbers": ("", "", "many", 1),
}


@pytest.mark.parametrize("name", PROMISES)
def test_where_the_text_does_not_fit_the_pages_each_is_a_plane(name: str) -> None:
    head, uuid, times, ifd = PROMISES[name]
    text = (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" {head}><Image><Pixels '
        f'DimensionOrder="XYCZT" SizeX="6" SizeY="5" SizeC="3" SizeZ="1" SizeT="{times}"><TiffData IFD="0" '
        f'PlaneCount="2"/><TiffData IFD="{ifd}" FirstC="2">{uuid}</TiffData></Pixels></Image></OME>'
    )
    data = tiff(VALUES[0, 0, :3], description=text, metadata=None)
    assert read(data, 2).planes == 3
    assert (shown(data, 2) == VALUES[0, 0, 2, ..., None]).all()
    fits = text.replace(head, "").replace(uuid, "").replace(f'"{times}"', '"1"').replace(f'"{ifd}"', '"1"')
    expected = np.moveaxis(VALUES[0, 0, [0, 1, 1]], 0, -1)
    assert (shown(tiff(VALUES[0, 0, :3], description=fits, metadata=None)) == expected).all()


def test_the_text_of_a_stack_on_a_single_plane_promises_nothing() -> None:
    data = tiff(VALUES[0, 0, 0], description="ImageJ=1.53t\nimages=30\nslices=30\n", metadata=None)
    assert read(data, 7).planes == 1


def test_slices_within_a_page_are_planes() -> None:
    data = tiff(VALUES[0, 0], volumetric=True, tile=(1, 16, 16), metadata=None)
    found = {plane: read(data, plane) for plane in ("first", "middle", "max", 3)}
    expected = {"first": VALUES[0, 0, 0], "middle": VALUES[0, 0, 2], "max": VALUES[0, 0, 3], 3: VALUES[0, 0, 3]}
    assert all((found[plane].values[..., 0] == expected[plane]).all() for plane in expected)
    assert {each.planes for each in found.values()} == {4}
    with pytest.raises(ImageError, match="4 planes"):
        read(data, 4)


def test_the_middle_is_that_of_the_middle_moment() -> None:
    assert [position("middle", planes) for planes in (1, 2, 3, 4, 5)] == [0, 1, 1, 2, 2]
    assert position("middle", 10, 5) == 7
    assert position("middle", 15, 5) == 7


def projected(planes: list[Any], **options: Any) -> list[Any]:
    arrays = [np.asarray(each)[None, :, None] for each in planes]
    return of_planes(lambda number: Raster(arrays[number], **options), len(planes), "max").values.ravel().tolist()


def test_the_brightest_is_what_is_shown_so_and_was_measured() -> None:
    assert projected([[1, 5, 2], [4, 3, 2], [0, 0, 9]]) == [4, 5, 9]
    assert projected([[1, 5, 2], [4, 3, 2], [0, 0, 9]], inverted=True) == [0, 0, 2]
    assert projected([[255, 5, 255], [4, 255, 255]], nodata=255) == [4, 5, 255]
    assert projected([[np.nan, 1.0, -5.0], [2.0, np.nan, -6.0]]) == [2, 1, -5]
    with pytest.raises(ImageError, match="different sizes or types"):
        projected([[1, 2], [1, 2, 3]])


def test_so_many_planes_take_the_memory_of_a_few() -> None:
    plane = np.arange(1 << 20, dtype=np.uint16).reshape(1024, 1024, 1)
    tracemalloc.start()
    try:
        found = of_planes(lambda number: Raster(np.roll(plane, number, axis=0)), 12, "max")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.planes == 12
    assert peak < 6 * plane.nbytes
    with pytest.raises(ImageError, match=r"too large \(1,001 planes .*AL_PLANE=max looks at 1,000 planes"):
        of_planes(lambda _: Raster(plane[:1, :1]), MOST_PLANES + 1, "max")
    with pytest.raises(ImageError, match=r"1,000 megapixels"):
        of_planes(lambda _: Raster(plane), 999, "max")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("packed", [False, True])
def test_frames_of_dicom_are_planes_each_with_its_own_rescale(packed: bool) -> None:
    frames = np.random.default_rng(0).integers(0, 4096, (4, HEIGHT, WIDTH), dtype=np.uint16)
    groups, slopes = [], [1.0, 2.0, 0.5, 1.0]
    for slope in slopes:
        rescale, group = Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, 0
        group.PixelValueTransformationSequence = Sequence([rescale])
        groups.append(group)
    encoded = [bytes(imagecodecs.jpegls_encode(frame)) for frame in frames]
    data = dicom(
        frames,
        **({"syntax": JPEGLSLossless, "frames": encoded} if packed else {}),
        NumberOfFrames=4,
        PerFrameFunctionalGroupsSequence=Sequence(groups),
    )
    expected = frames * np.array(slopes)[:, None, None]
    chosen: dict[Plane, Array] = {
        "first": expected[0],
        "middle": expected[2],
        1: expected[1],
        "max": expected.max(axis=0),
    }
    for plane, values in chosen.items():
        raster = read_dicom(data, 1000, HowRead(plane=plane))
        assert raster.planes == 4
        assert (raster.values[..., 0] == values).all()
    with pytest.raises(ImageError, match="4 planes"):
        read_dicom(data, 1000, HowRead(plane=4))


@pytest.mark.parametrize("kind", ["JPEG 2000", "JPEG XL"])
def test_channels_are_chosen_of_all_that_jpeg_2000_and_jpeg_xl_have(tmp_path: Path, kind: str) -> None:
    values = np.stack([np.full((16, 12), value, np.uint8) for value in (10, 20, 30, 40)], axis=-1)
    path = tmp_path / "picture"
    # JPEG XL has them as gray with channels of any meaning.
    path.write_bytes(
        jp2(values, codecformat="J2K") if kind == "JPEG 2000" else jxl(np.moveaxis(values, -1, 0), planar=True)
    )
    expected = {(): (10, 20, 30), (3, 0, 2): (40, 10, 30), (3,): (40, 40, 40), (1, 3): (20, 40, 0)}
    assert {each: open_rgb(path, how=HowRead(channels=each)).getpixel((3, 3)) for each in expected} == expected
    assert open_rgb(path).size == (12, 16)


def test_a_scan_counts_stacks_reads_them_anew_by_another_plane_and_sets_aside_what_has_fewer(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.tif").write_bytes(tiff(VALUES[0, :, 0]))
    (folder / "b.tif").write_bytes(tiff(VALUES[1, 0]))
    (folder / "c.tif").write_bytes(tiff(VALUES[2, 0, 0]))

    def scanned(plane: Plane, kept: Plane) -> tuple[dict[str, Any], str | None]:
        cache = ScanCache(tmp_path / "cache", HowRead(plane=kept))
        found = scan(folder, cache=cache, how=HowRead(plane=plane), max_excluded_share=1)
        names = found["uri"].map(lambda uri: Path(uri).name)
        assert dict(zip(names, found["planes"], strict=True))["c.tif"] == 1
        facts = dict(describe(found, folder, how=HowRead(plane=plane)).facts())
        told = found["reason"].where(found["reason"].notna(), found["pixels"])
        return dict(zip(names, told, strict=True)), facts.get("stacks")

    pixels, told = scanned("first", "first")
    assert told == "2 images of 2 to 4 planes: the first is taken (AL_PLANE)"
    middle, told = scanned("middle", "middle")
    assert told == "2 images of 2 to 4 planes: the middle one is taken (AL_PLANE)"
    assert [name for name in pixels if pixels[name] != middle[name]] == ["a.tif", "b.tif"]
    third, told = scanned(2, 2)
    assert told == "1 image of 4 planes: that of number 2, from 0, is taken (AL_PLANE)"
    assert third["a.tif"] == "no plane 2, which AL_PLANE asks for (2 planes, counted from 0)"
    assert third["c.tif"] == pixels["c.tif"]


def test_a_projection_is_shown_as_any_other_picture() -> None:
    picture = to_image(read(tiff(VALUES.astype(np.uint8)[:, 0, 0]), "max"))
    assert (np.asarray(picture) == VALUES.astype(np.uint8)[:, 0, 0].max(axis=0)).all()
