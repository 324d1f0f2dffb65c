"""What a file is by its first bytes, and why one that is no image that we read is not read."""

import string
from importlib.util import find_spec

# Kind → suffixes under which people have it. Whatever lists formats or looks for files follows from this.
READ = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jls"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"),
    "JPEG XL": (".jxl",),
    "DICOM": (".dcm", ".dicom"),
}
KINDS = ", ".join(READ)
# What cameras write beside or in place of JPEG, which the extra `raw` reads; most of it begins as TIFF does.
RAW_SUFFIXES = frozenset(
    {".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw", ".3fr", ".iiq"}
)
READS_RAW = find_spec("rawpy") is not None
SUFFIXES = frozenset(suffix for suffixes in READ.values() for suffix in suffixes) | (
    RAW_SUFFIXES if READS_RAW else frozenset[str]()
)
# How they are named to whoever has none of them: what most people have, and how many more there are.
_USUAL = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".tif", ".dcm")
NAMED = f"files named {' '.join(f'*{suffix}' for suffix in _USUAL)} or in {len(SUFFIXES) - len(_USUAL)} other ways"

# So many bytes are looked at: the header of NIfTI, with its mark at the end, is the longest.
HEAD = 512

# The brands of ISO media files [1]_: what the boxes hold.
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AVIF = {b"avif", b"avis"}
# Says no more than that there is a still image or a sequence; which one is among the other brands.
_ANY_STILL = {b"mif1", b"msf1", b"mif2", b"mif3", b"miaf"}

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    # Canon's and Panasonic's begin as TIFF does, and what is in them as TIFF is a thumbnail.
    (b"II*\0\x10\0\0\0CR", "camera RAW (CR2)"),
    (b"IIU\0", "camera RAW (RW2)"),
    (b"IIRO", "camera RAW (ORF)"),
    (b"IIRS", "camera RAW (ORF)"),
    (b"MMOR", "camera RAW (ORF)"),
    (b"FUJIFILMCCD-RAW", "camera RAW (RAF)"),
    (b"FOVb", "camera RAW (X3F)"),
    (b"\0MRM", "camera RAW (MRW)"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"gimp xcf", "GIMP"),
    (b"%PDF-", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"\0\0\1\0", "icon"),
    (b"v/1\1", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"II\xbc\1", "JPEG XR"),
    (b"qoif", "QOI"),
    (b"DDS ", "DirectDraw"),
    (b"AT&TFORM", "DjVu"),
    (b"SIMPLE  =", "FITS"),
    (b"\x93NUMPY", "NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x1aE\xdf\xa3", "video (WebM or Matroska)"),
    (b"FLV\1", "video (FLV)"),
    (b"\0\0\1\xba", "video (MPEG)"),
    (b"\0\0\1\xb3", "video (MPEG)"),
    (b"PK\3\4", "archive (zip)"),
    (b"\x1f\x8b", "archive (gzip)"),
    (b"7z\xbc\xaf\x27\x1c", "archive (7z)"),
    (b"Rar!\x1a\7", "archive (rar)"),
    (b"\xfd7zXZ\0", "archive (xz)"),
    (b"BZh", "archive (bzip2)"),
    (b"version https://git-lfs.github.com/spec/", "Git LFS pointer"),
    (b"\0\5\x16\7", "AppleDouble"),
    (b"bplist00", "property list"),
)

EXPORT_RAW = "export it as JPEG or TIFF with the camera's program, darktable or RawTherapee"
INSTALL_RAW = "`pip install 'al_pipeline[raw]'`"
NO_RAW = f"install what reads it ({INSTALL_RAW}), or {EXPORT_RAW}"
_TO_PNG = "export it as PNG or TIFF"
_REASONS = {
    "camera RAW": NO_RAW,
    "Photoshop": _TO_PNG,
    "GIMP": _TO_PNG,
    "PDF": "export its pages as PNG (`pdftoppm -png`)",
    "PostScript": "export it as PNG (`gs -sDEVICE=png16m`)",
    "SVG": "it has lines, no pixels; export it as PNG in the size that you need",
    "icon": _TO_PNG,
    "OpenEXR": "it has no agreed white; export it as PNG or TIFF, tone-mapped as people shall see it",
    "Radiance HDR": "it has no agreed white; export it as PNG or TIFF, tone-mapped as people shall see it",
    "JPEG XR": _TO_PNG,
    "QOI": _TO_PNG,
    "Netpbm": _TO_PNG,
    "DirectDraw": _TO_PNG,
    "DjVu": _TO_PNG,
    "FITS": "it has no agreed white; export it as PNG or TIFF, stretched as people shall see it",
    "NIfTI": "a volume, not an image; export its slices as PNG or TIFF",
    "NumPy array": "save it as PNG or TIFF",
    "HDF5": "save the images in it as PNG or TIFF",
    "video": "take its frames out as PNG (`ffmpeg -i FILE frame%05d.png`)",
    "archive": "unpack it, if it holds images",
    "Git LFS pointer": "the picture itself was not downloaded; run `git lfs pull`",
    "AppleDouble": "it is what macOS keeps beside a file; the picture is the file without ._ before its name",
    "property list": "perhaps a placeholder of iCloud; download the picture itself",
    "web page": "it was saved in place of the picture, perhaps with an error in it; download the picture again",
    "JSON": "it was saved in place of the picture, perhaps with an error in it; download the picture again",
    "text": "it was saved in place of the picture, or has a wrong name; download the picture again",
    "zeros": "a download or copy that was not finished; copy it again",
}
# How a person calls what is not called by its kind alone.
_CALLED = {
    "camera RAW": "a {}",
    "Photoshop": "a Photoshop file",
    "GIMP": "a GIMP file",
    "PostScript": "a PostScript file (EPS)",
    "SVG": "an SVG drawing",
    "icon": "an icon file (ICO)",
    "OpenEXR": "an OpenEXR file",
    "PDF": "a PDF file",
    "Netpbm": "a Netpbm file (PPM, PGM, PBM)",
    "NumPy array": "a NumPy array",
    "HDF5": "an HDF5 file",
    "video": "a {}",
    "archive": "an {}",
    "Git LFS pointer": "a Git LFS pointer",
    "AppleDouble": "an AppleDouble file",
    "property list": "a property list of Apple",
    "web page": "a web page, not an image",
    "JSON": "JSON, not an image",
    "text": "text, not an image",
    "zeros": "nothing but zeros",
}
_PRINTABLE = frozenset(string.printable.encode()) | set(range(0x80, 0x100))


def kind_of(head: bytes) -> str | None:
    """Return what a file is by its first `HEAD` bytes, whatever its name says.

    Parameters
    ----------
    head : bytes
        All of the file if it is shorter.

    Returns
    -------
    str or None
        A key of `READ`, or the name of a kind that is not read, with the format in brackets if there are several:
        ``camera RAW (CR3)``; None if nobody knows.

    References
    ----------
    .. [1] ISO/IEC 14496-12 (ftyp) and 23008-12 (HEIF), the registry of brands at mp4ra.org.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[4:8] == b"ftyp":
        return _of_brands(head)
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video (AVI)"}.get(head[8:12])
    # What begins as another file does on purpose, TIFF for example, is meant to be read as DICOM too.
    if head[128:132] == b"DICM":
        return "DICOM"
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in b" \t\r\n" and head[3:4] in b"#W0123456789":
        return "Netpbm"
    if head[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI"
    if head[257:262] == b"ustar":
        return "archive (tar)"
    if head[4:8] in (b"moov", b"mdat", b"wide"):
        return "video (QuickTime)"
    return _of_text(head)


def reason_not_read(head: bytes) -> str:
    """Return what a file is that is no image of a kind that is read, and what to do about it.

    Parameters
    ----------
    head : bytes
        As for `kind_of`.
    """
    if not head:
        return "empty file"
    kind = kind_of(head)
    if kind is None:
        return f"not an image of a known kind ({KINDS})"
    if kind in READ:
        return f"damaged: the header of this {kind} cannot be read"
    family = kind.partition(" (")[0]
    return f"{_CALLED.get(family, f'a {family} file').format(kind)}: {_REASONS[family]}"


def _of_brands(head: bytes) -> str | None:
    major = head[8:12]
    if major in _HEIF:
        return "HEIC"
    if major in _AVIF:
        return "AVIF"
    if major == b"jxl ":
        return "JPEG XL"
    if major == b"crx ":
        return "camera RAW (CR3)"
    length = int.from_bytes(head[:4], "big")
    brands = {head[i : i + 4] for i in range(16, min(length, len(head)) - 3, 4)}
    if major in _ANY_STILL or brands & _ANY_STILL:
        return "AVIF" if brands & _AVIF and not brands & _HEIF else "HEIC"
    return "video (QuickTime)" if major == b"qt  " else "video (MP4)"


def _of_text(head: bytes) -> str | None:
    if not head.strip(b"\0"):
        return "zeros" if head else None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not text or not _PRINTABLE.issuperset(text):
        return None
    if b"<svg" in text:
        return "SVG"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<!--", b"<?xml", b"<error")):
        return "web page"
    if text[:1] in (b"{", b"["):
        return "JSON"
    return "text" if _is_written(text) else None


def _is_written(text: bytes) -> bool:
    """Say whether bytes that all may be letters are words: mostly ASCII, or UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        # The last letter may be cut by the end of what is looked at.
        return error.start > 16 and error.start >= len(text) - 3
    return True
