"""Formats of files, told by their first bytes: what each is called, and one command that makes it readable.

    describe_unknown(start, "IMG_1.heic")    "HEIC, which needs an extra: pip install 'codec-suite[heif]', or ..."

One table for all media. Readers use it for the words of their errors, the command for files of folders that it leaves
out and for outputs that are called as another format's files are. May import container and files; no NumPy.
"""

from __future__ import annotations

import os
import re
import shlex
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..files import STDIO

__all__ = [
    "KINDS",
    "START",
    "Kind",
    "describe_store",
    "describe_unknown",
    "format_of_suffix",
    "identify",
    "start_of",
    "suffixes",
]

START = 1 << 12  # bytes of a file in which a signature is looked for


class Kind(NamedTuple):
    """A format. name: in a sentence, "an MP4 video". medium: what it holds, a medium of ours or another word.

    advice: what to do, with {IN} for the file's name and {STEM} for the name without its suffix, as a shell takes them;
    "" where the format is read. suffixes: of its files.
    """

    name: str
    medium: str
    advice: str = ""
    suffixes: tuple[str, ...] = ()


def _convert(command: str) -> str:
    return f"which isn't read; convert it: {command}"


_MAGICK = _convert("magick {IN} {STEM}.png")
_LAYERS = _convert("magick {IN}[0] {STEM}.png")
_RAW = _convert("darktable-cli {IN} {STEM}.png")
_FLOATS = "whose values have no upper end, which pictures here have; with the loss of that: magick {IN} {STEM}.png"
_REMUX = (
    "which isn't read as it is; without loss: ffmpeg -fflags +genpts -i {IN} -map 0:v -map '0:a?' -c copy {STEM}.mkv"
)
_SOUND = _convert("ffmpeg -i {IN} {STEM}.flac")
_UNPACK = "an archive: unpack it, "
_TABLE = "name a codec for arrays: codec encode {IN} -c mix"
_HEIF = "which needs an extra: pip install 'codec-suite[heif]', or heif-convert {IN} {STEM}.png"
_NC4 = "which isn't HDF5; without loss: nccopy -k nc4 {IN} {STEM}-nc4.nc"

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # pictures
        "png": Kind("a PNG picture", "image", "", (".png",)),
        "jpeg": Kind("a JPEG picture", "image", "", (".jpg", ".jpeg", ".jpe", ".jfif")),
        "webp": Kind("a WebP picture", "image", "", (".webp",)),
        "gif": Kind("a GIF picture", "image", "", (".gif",)),
        "bmp": Kind("a BMP picture", "image", "", (".bmp",)),
        "tiff": Kind("a TIFF picture", "image", "", (".tif", ".tiff")),
        "pnm": Kind("a PNM picture", "image", "", (".ppm", ".pgm", ".pbm", ".pnm")),
        "avif": Kind("an AVIF picture", "image", "", (".avif",)),
        "heic": Kind("HEIC", "image", _HEIF, (".heic", ".heif", ".hif", ".heics")),
        "jxl": Kind("JPEG XL", "image", _convert("djxl {IN} {STEM}.png"), (".jxl",)),
        "jp2": Kind("JPEG 2000", "image", _convert("opj_decompress -i {IN} -o {STEM}.png"), (".jp2", ".j2k", ".jpx")),
        "j2c": Kind(
            "a JPEG 2000 codestream", "image", _convert("opj_decompress -i {IN} -o {STEM}.png"), (".j2c", ".jpc")
        ),
        "jxr": Kind("JPEG XR", "image", _convert("JxrDecApp -i {IN} -o {STEM}.tif"), (".jxr", ".wdp", ".hdp")),
        "jls": Kind("JPEG-LS", "image", _convert("ffmpeg -i {IN} {STEM}.png"), (".jls",)),
        "cr2": Kind("camera RAW (Canon CR2)", "image", _RAW, (".cr2",)),
        "cr3": Kind("camera RAW (Canon CR3)", "image", _RAW, (".cr3",)),
        "crw": Kind("camera RAW (Canon CRW)", "image", _RAW, (".crw",)),
        "nef": Kind("camera RAW (Nikon NEF)", "image", _RAW, (".nef", ".nrw")),
        "arw": Kind("camera RAW (Sony ARW)", "image", _RAW, (".arw", ".sr2", ".srf")),
        "dng": Kind("camera RAW (DNG)", "image", _RAW, (".dng",)),
        "raf": Kind("camera RAW (Fujifilm RAF)", "image", _RAW, (".raf",)),
        "orf": Kind("camera RAW (Olympus ORF)", "image", _RAW, (".orf",)),
        "rw2": Kind("camera RAW (Panasonic RW2)", "image", _RAW, (".rw2",)),
        "pef": Kind("camera RAW (Pentax PEF)", "image", _RAW, (".pef",)),
        "raw": Kind("camera RAW", "image", _RAW, (".3fr", ".erf", ".iiq", ".kdc", ".mos", ".mrw", ".srw", ".x3f")),
        "psd": Kind("a Photoshop file", "image", _LAYERS, (".psd", ".psb")),
        "xcf": Kind("a GIMP file", "image", _convert("xcf2png {IN} -o {STEM}.png"), (".xcf",)),
        "ico": Kind("an icon file", "image", _LAYERS, (".ico", ".cur")),
        "icns": Kind("an icon file of macOS", "image", _LAYERS, (".icns",)),
        "qoi": Kind("QOI", "image", _MAGICK, (".qoi",)),
        "pam": Kind("PAM", "image", _MAGICK, (".pam",)),
        "pcx": Kind("PCX", "image", _MAGICK, (".pcx",)),
        "sgi": Kind("an SGI picture", "image", _MAGICK, (".sgi", ".rgb")),
        "sun": Kind("a Sun raster", "image", _MAGICK, (".ras",)),
        "xpm": Kind("XPM", "image", _MAGICK, (".xpm",)),
        "flif": Kind("FLIF", "image", _convert("flif -d {IN} {STEM}.png"), (".flif",)),
        "bpg": Kind("BPG", "image", _convert("bpgdec -o {STEM}.png {IN}"), (".bpg",)),
        "dpx": Kind("DPX", "image", _MAGICK, (".dpx",)),
        "exr": Kind("OpenEXR", "image", _FLOATS, (".exr",)),
        "hdr": Kind("a Radiance HDR picture", "image", _FLOATS, (".hdr", ".pic")),
        "pfm": Kind("PFM", "image", _FLOATS, (".pfm",)),
        "dds": Kind("a DDS texture", "image", _LAYERS, (".dds",)),
        "ktx": Kind("a KTX texture", "image", _convert("ktx extract {IN} {STEM}.png"), (".ktx", ".ktx2")),
        "dicom": Kind("a DICOM picture", "image", _convert("dcm2pnm +on {IN} {STEM}.png"), (".dcm", ".dicom")),
        "djvu": Kind("DjVu", "document", _convert("ddjvu -format=tiff {IN} {STEM}.tif"), (".djvu",)),
        "pdf": Kind("a PDF document", "document", "draw its pages: pdftoppm -png -r 300 {IN} {STEM}", (".pdf", ".ai")),
        "svg": Kind("an SVG drawing", "document", "draw it: rsvg-convert {IN} -o {STEM}.png", (".svg", ".svgz")),
        "eps": Kind(
            "a PostScript document", "document", "draw it: magick -density 300 {IN} {STEM}.png", (".eps", ".ps")
        ),
        # videos
        "mp4": Kind("an MP4 video", "video", "", (".mp4", ".m4v")),
        "mov": Kind("a QuickTime video", "video", "", (".mov",)),
        "mkv": Kind("a Matroska video", "video", "", (".mkv", ".webm")),
        "avi": Kind("an AVI video", "video", "", (".avi",)),
        "y4m": Kind("a Y4M video", "video", "", (".y4m",)),
        "3gp": Kind("a 3GP video", "video", _REMUX, (".3gp", ".3g2")),
        "flv": Kind("an FLV video", "video", _REMUX, (".flv",)),
        "asf": Kind("a Windows Media file", "video", _REMUX, (".wmv", ".asf", ".wma")),
        "ts": Kind("an MPEG transport stream", "video", _REMUX, (".ts", ".mts", ".m2ts")),
        "mpg": Kind("an MPEG video", "video", _REMUX, (".mpg", ".mpeg", ".vob", ".m2v")),
        "ogv": Kind("an Ogg file", "video", _REMUX, (".ogv", ".ogm")),
        "mxf": Kind("an MXF video", "video", _REMUX, (".mxf",)),
        "ivf": Kind("an IVF video", "video", _REMUX, (".ivf",)),
        "rm": Kind("a RealMedia file", "video", _convert("ffmpeg -i {IN} {STEM}.mkv"), (".rm", ".rmvb")),
        "h264": Kind("a bare video stream", "video", _REMUX, (".h264", ".264", ".h265", ".265", ".hevc", ".obu")),
        # sound
        "wav": Kind("a WAV file", "audio", "", (".wav", ".w64", ".rf64")),
        "flac": Kind("a FLAC file", "audio", "", (".flac",)),
        "mp3": Kind("an MP3 file", "audio", "", (".mp3",)),
        "m4a": Kind("an M4A file", "audio", "", (".m4a", ".m4b", ".aac")),
        "ogg": Kind("an Ogg file", "audio", "", (".ogg", ".oga", ".opus", ".spx")),
        "aiff": Kind("an AIFF file", "audio", "", (".aif", ".aiff", ".aifc")),
        "wv": Kind("a WavPack file", "audio", "", (".wv",)),
        "mka": Kind("a Matroska file of sound", "audio", "", (".mka",)),
        "caf": Kind("a CAF file", "audio", _SOUND, (".caf",)),
        "au": Kind("an AU file", "audio", _SOUND, (".au", ".snd")),
        "ape": Kind("a Monkey's Audio file", "audio", _SOUND, (".ape",)),
        "mpc": Kind("a Musepack file", "audio", _SOUND, (".mpc",)),
        "tta": Kind("a TTA file", "audio", _SOUND, (".tta",)),
        "dsf": Kind("a DSD file", "audio", _SOUND, (".dsf", ".dff")),
        "amr": Kind("an AMR file", "audio", _SOUND, (".amr", ".awb")),
        "ac3": Kind("an AC-3 file", "audio", _SOUND, (".ac3", ".eac3")),
        "midi": Kind(
            "a MIDI file, which has notes and no samples", "audio", "play it into a WAV file first", (".mid",)
        ),
        # fields, arrays and tables
        "hdf5": Kind("an HDF5 file", "field", "", (".h5", ".hdf5", ".he5", ".nc4", ".nxs", ".h5ad")),
        "netcdf3": Kind("a NetCDF classic file", "field", _NC4, (".nc", ".cdf", ".nc3")),
        "hdf4": Kind("an HDF4 file", "field", "which isn't HDF5: h4toh5 {IN} {STEM}.h5", (".hdf", ".hdf4")),
        "grib": Kind("a GRIB file", "field", _convert("cdo -f nc4 copy {IN} {STEM}.nc"), (".grib", ".grb", ".grib2")),
        "fits": Kind("a FITS file", "field", _convert("fitstopnm {IN} > {STEM}.pgm"), (".fits", ".fit", ".fts")),
        "zarr": Kind(
            "a zarr store", "field", _convert('nccopy "file://$(realpath {IN})#mode=zarr,file" {STEM}.nc'), (".zarr",)
        ),
        "matlab": Kind("a MATLAB file from before 7.3", "field", "save it again with -v7.3, which is HDF5", (".mat",)),
        "npy": Kind("an array (NPY)", "array", _TABLE, (".npy",)),
        "npz": Kind("arrays (NPZ)", "array", "unpack it, and code each: unzip {IN} -d {STEM}", (".npz",)),
        "idx": Kind("an array (IDX)", "array", _TABLE, (".idx",)),
        "csv": Kind("a table (CSV)", "array", _TABLE, (".csv", ".tsv")),
        "parquet": Kind(
            "a Parquet table",
            "array",
            "write it as CSV: duckdb -c \"COPY (FROM '{RAW}') TO '{RAWSTEM}.csv'\"",
            (".parquet",),
        ),
        "arrow": Kind("an Arrow table", "array", "write it as CSV or NPY first", (".arrow", ".feather")),
        "pickle": Kind("a pickle, which can run code and is never opened", "array", "save the array as NPY", (".pkl",)),
        "safetensors": Kind("a file of weights", "weights", "name it with --weights", (".safetensors",)),
        "pt": Kind("a file of PyTorch", "weights", "save its tensors as NPY or safetensors", (".pt", ".pth")),
        # Gaussians, and what is called like them
        "ply": Kind("a PLY file of Gaussians", "gaussians", "", (".ply",)),
        "spz": Kind("an SPZ file of Gaussians", "gaussians", "", (".spz",)),
        "splat": Kind("a .splat file of Gaussians", "gaussians", "", (".splat",)),
        "sog": Kind("a SOG file of Gaussians", "gaussians", "", (".sog",)),
        "mesh": Kind("a PLY file of a mesh or of points, without Gaussians", "mesh", "which isn't coded here"),
        # packed, programs, texts
        "zip": Kind("a ZIP file", "archive", _UNPACK + "unzip {IN} -d {STEM}", (".zip",)),
        "7z": Kind("a 7z file", "archive", _UNPACK + "7z x {IN}", (".7z",)),
        "rar": Kind("a RAR file", "archive", _UNPACK + "unrar x {IN}", (".rar",)),
        "tar": Kind("a TAR file", "archive", _UNPACK + "tar xf {IN}", (".tar", ".tgz", ".txz")),
        "gz": Kind("a file that gzip packed", "archive", "unpack it: gunzip -k {IN}", (".gz",)),
        "xz": Kind("a file that xz packed", "archive", "unpack it: unxz -k {IN}", (".xz",)),
        "bz2": Kind("a file that bzip2 packed", "archive", "unpack it: bunzip2 -k {IN}", (".bz2",)),
        "zst": Kind("a file that zstd packed", "archive", "unpack it: unzstd {IN}", (".zst",)),
        "sqlite": Kind("an SQLite database", "database", "which isn't coded here", (".sqlite", ".db")),
        "elf": Kind("a program", "program", "which isn't coded here", (".so", ".o")),
        "exe": Kind("a program", "program", "which isn't coded here", (".exe", ".dll")),
        "html": Kind("an HTML page", "text", "perhaps what a server said: download it again", (".html",)),
        "xml": Kind("an XML text", "text", "which isn't coded here", (".xml", ".xmp")),
        "json": Kind("a JSON text", "text", "which isn't coded here", (".json",)),
        "lfs": Kind("a pointer of Git LFS, not the file itself", "text", "fetch it: git lfs pull", ()),
        "text": Kind("a text", "text", "which isn't coded here", (".txt",)),
        "empty": Kind("empty: 0 bytes", "nothing", "", ()),
        "ours": Kind("a file of codec already", "coded", "codec decode {IN}", ()),
    }
)

_AT_0 = (  # bytes that a file begins with; longer ones before those that they begin with
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff\xf7", "jls"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "j2c"),
    (b"II\xbc\x01", "jxr"),
    (b"II\x1a\0\0\0HEAPCCDR", "crw"),
    (b"FUJIFILMCCD-RAW", "raf"),
    (b"IIRO", "orf"),
    (b"IIRS", "orf"),
    (b"MMOR", "orf"),
    (b"IIU\0", "rw2"),
    (b"FOVb", "raw"),
    (b"\0MRM", "raw"),
    (b"8BPS", "psd"),
    (b"gimp xcf ", "xcf"),
    (b"icns", "icns"),
    (b"qoif", "qoi"),
    (b"P7\n", "pam"),
    (b"PF\n", "pfm"),
    (b"Pf\n", "pfm"),
    (b"\x01\xda\0\x01", "sgi"),
    (b"\x01\xda\x01\x01", "sgi"),
    (b"\x59\xa6\x6a\x95", "sun"),
    (b"/* XPM */", "xpm"),
    (b"FLIF", "flif"),
    (b"BPG\xfb", "bpg"),
    (b"SDPX", "dpx"),
    (b"XPDS", "dpx"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"DDS ", "dds"),
    (b"\xabKTX ", "ktx"),
    (b"AT&TFORM", "djvu"),
    (b"%PDF-", "pdf"),
    (b"%!PS", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
    (b"\x1a\x45\xdf\xa3", "mkv"),
    (b"YUV4MPEG2", "y4m"),
    (b"FLV\x01", "flv"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (b"\0\0\x01\xba", "mpg"),
    (b"\0\0\x01\xb3", "mpg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "mxf"),
    (b"DKIF", "ivf"),
    (b".RMF", "rm"),
    (b"\0\0\0\x01\x67", "h264"),
    (b"\0\0\0\x01\x40\x01", "h264"),
    (b"\0\0\0\x01\x09", "h264"),
    (b"RF64", "wav"),
    (b"BW64", "wav"),
    (b"riff\x2e\x91\xcf\x11", "wav"),
    (b"fLaC", "flac"),
    (b"ID3", "mp3"),
    (b"wvpk", "wv"),
    (b"caff\0", "caf"),
    (b".snd\0", "au"),
    (b"MAC ", "ape"),
    (b"MPCK", "mpc"),
    (b"MP+", "mpc"),
    (b"TTA1", "tta"),
    (b"DSD ", "dsf"),
    (b"FRM8", "dsf"),
    (b"#!AMR", "amr"),
    (b"\x0b\x77", "ac3"),
    (b"MThd", "midi"),
    (b"CDF\x01", "netcdf3"),
    (b"CDF\x02", "netcdf3"),
    (b"CDF\x05", "netcdf3"),
    (b"\x0e\x03\x13\x01", "hdf4"),
    (b"GRIB", "grib"),
    (b"SIMPLE  =", "fits"),
    (b"XTENSION=", "fits"),
    (b"MATLAB 5.0 MAT-file", "matlab"),
    (b"\x93NUMPY", "npy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"FEA1", "arrow"),
    (b"\x80\x02", "pickle"),
    (b"\x80\x03", "pickle"),
    (b"\x80\x04\x95", "pickle"),
    (b"\x80\x05\x95", "pickle"),
    (b"ply\n", "ply"),
    (b"ply\r\n", "ply"),
    (b"NGSP", "spz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bz2"),
    (b"\x28\xb5\x2f\xfd", "zst"),
    (b"SQLite format 3\0", "sqlite"),
    (b"\x7fELF", "elf"),
    (b"MZ", "exe"),
    (b"version https://git-lfs.github.com/spec/", "lfs"),
)
_GAUSSIAN = (b" f_dc_0", b" packed_position", b" rot_0")  # properties in the header of a PLY file of Gaussians
_SOG = (b"means_l.webp", b"means_u.webp", b"quats.webp", b"scales.webp", b"sh0.webp", b"shN_centroids.webp")
_HDF5 = b"\x89HDF\r\n\x1a\n"  # at 0, or behind a user block of 512 bytes times a power of two
_RIFF = {b"WEBP": "webp", b"AVI ": "avi", b"WAVE": "wav"}
_BRANDS = {  # of files that begin with ftyp
    "heic": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
    "avif": (b"avif", b"avis"),
    "cr3": (b"crx ",),
    "m4a": (b"M4A ", b"M4B "),
    "mov": (b"qt  ",),
    "3gp": (b"3gp4", b"3gp5", b"3gp6", b"3gp7", b"3g2a", b"3g2b", b"3ge6"),
}
_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # QuickTime from before there was ftyp
_OGG_VIDEO = (b"\x80theora", b"BBCD\0", b"\x01video")
_STORES = (".zgroup", ".zarray", "zarr.json")  # in a folder
_BY_SUFFIX: Mapping[str, str] = MappingProxyType({s: key for key, kind in KINDS.items() for s in kind.suffixes})
_TIFF_RAW = ("nef", "arw", "dng", "pef", "raw")  # which begin as any TIFF does: their suffix tells them


def identify(start: bytes, path: str = "") -> str | None:
    """The key, in KINDS, of what a file is by its first bytes; None where they don't say it.

    start: some bytes; 4096 are enough for all. path: the file's name, whose suffix tells the RAW formats that begin
    as any TIFF does.
    """
    from ..container import is_container  # where a file is looked at: `codec list` starts without

    if is_container(start):
        return "ours"
    if not start:
        return "empty"
    if _is_safetensors(start):  # before all: the length that it begins with may look like anything
        return "safetensors"
    is_splat = path.lower().endswith(".splat")  # which begins with any number: a few bytes of it say nothing
    for signature, key in _AT_0:
        if start.startswith(signature) and not (is_splat and len(signature) < 4):
            return _of_splats(key, start)
    if is_splat:
        return _of_container(start, path) or _of_text(start) or "splat"
    return next(
        filter(None, (_of_container(start, path), _of_tiff(start, path), _of_rest(start), _of_text(start))), None
    )


def _of_splats(key: str, start: bytes) -> str:
    """The key, more exactly: a PLY file without Gaussians, or an SPZ file that gzip packed."""
    if key == "ply" and b"end_header" in start and not any(name in start for name in _GAUSSIAN):
        return "mesh"
    if key == "gz":
        try:
            return "spz" if zlib.decompressobj(31).decompress(start, 4) == b"NGSP" else "gz"
        except zlib.error:
            pass
    return key


def _of_container(start: bytes, path: str = "") -> str | None:
    """Formats that share a beginning: RIFF, FORM, ftyp, Ogg, ZIP, HDF5 behind a user block, TAR."""
    if start[:4] == b"RIFF":
        return _RIFF.get(start[8:12])
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if start[4:8] == b"ftyp":
        brands = (start[8:12], *(start[i : i + 4] for i in range(16, min(64, start[3], len(start)), 4)))
        for brand in brands if start[8:12] in (b"mif1", b"msf1") else brands[:1]:
            for key, names in _BRANDS.items():
                if brand in names and brand not in (b"mif1", b"msf1"):
                    return key
        return "heic" if start[8:12] in (b"mif1", b"msf1") else "mp4"
    if start[4:8] in _ATOMS and start[0] < 9:  # a length of less than 150 MB: no text begins like that
        return "mov"
    if start[:4] == b"OggS":
        return "ogv" if any(mark in start[:256] for mark in _OGG_VIDEO) else "ogg"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        name = start[30 : 30 + int.from_bytes(start[26:28], "little")]
        if name in _SOG or path.lower().endswith(".sog"):
            return "sog"
        return "npz" if name.endswith(b".npy") else "pt" if name.endswith(b"/data.pkl") else "zip"
    if any(start.startswith(_HDF5, offset) for offset in (0, 512, 1024, 2048)):
        return "hdf5"
    return "tar" if start[257:262] == b"ustar" else "dicom" if start[128:132] == b"DICM" else None


def _of_tiff(start: bytes, path: str) -> str | None:
    if start[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    if start[8:10] == b"CR":
        return "cr2"
    by_name = _BY_SUFFIX.get(os.path.splitext(path)[1].lower())
    return by_name if by_name in _TIFF_RAW else "tiff"


def _of_rest(start: bytes) -> str | None:
    """Formats whose beginning is a few bits: MPEG sound and streams, BMP, PNM, PCX, IDX."""
    if start[:1] == b"\x47" and start[188:189] == b"\x47":
        return "ts"
    if start[4:5] == b"\x47" and start[196:197] == b"\x47":
        return "ts"
    if len(start) > 3 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0 and start[1] & 6 == 2 and start[2] >> 4 != 15:
        return "mp3"
    if start[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return "m4a"
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        return "bmp"
    if start[:4] in (b"\0\0\1\0", b"\0\0\2\0") and start[4:6] > b"\0\0":  # how many; TGA has a 0 there
        return "ico"
    if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace() and start[3:4] in b"#0123456789":
        return "pnm"
    if start[:1] == b"\x0a" and start[1:2] in b"\0\x02\x03\x04\x05" and start[2:3] == b"\x01":
        return "pcx"
    if len(start) >= 4 and start[:2] == b"\0\0" and start[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e" and 1 <= start[3] <= 8:
        return "idx"
    return None


def _is_safetensors(start: bytes) -> bool:
    """Whether this begins as a file of weights: the length of its header in 8 bytes, and the header, JSON."""
    return start[8:10] == b'{"' and int.from_bytes(start[:8], "little") < 1 << 27


def _of_text(start: bytes) -> str | None:
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    head = text[:256].lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "html"
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!doctype svg", b"<!--")) and b"<svg" in text):
        return "svg"
    if head.startswith(b"<?xml"):
        return "html" if b"<html" in text.lower() else "xml"
    if any(c < 32 and c not in (9, 10, 12, 13, 27) for c in start) or b"\x7f" in start:
        return None
    try:
        start.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not a letter that was cut
            return None
    return "json" if text[:1] in (b"{", b"[") else "text"


# ---- in words


def describe_unknown(start: bytes, source: str | os.PathLike[str] = "", expected: str = "") -> str:
    """A clause for an error about a file that can't be read: its format and one command, or what was expected.

    start: its first bytes, 4096 if there are as many. source: its name, "-" for stdin, "" if it has none. expected: the
    formats that would have been read.
    """
    path = os.fspath(source)
    key = "zarr" if path and _is_store(path) else identify(start, path)
    if key is None:
        return f"of an unknown format{expected and f'; expected {expected}'}"
    kind = KINDS[key]
    if key == "text" and expected:
        return f"{kind.name}; expected {expected}"
    if kind.advice:
        return f"{kind.name}{':' if key == 'ours' or kind.advice == _TABLE else ','} {_filled(kind.advice, path)}"
    if key != "empty" and expected:
        return f"{kind.name}; expected {expected}: name another codec with -c"
    return kind.name + (f"; expected {expected}" if expected else "")


def describe_store(path: str | os.PathLike[str]) -> str:
    """A clause about a folder that is one input elsewhere, as a zarr store is; "" for any other."""
    return describe_unknown(b"", path) if _is_store(os.fspath(path)) else ""


def _is_store(path: str) -> bool:
    return os.path.isdir(path) and any(os.path.exists(os.path.join(path, name)) for name in _STORES)


def _filled(advice: str, path: str) -> str:
    """The advice with the names of this file, as a shell takes them."""
    if path in ("", STDIO):
        path, stem = "IN", "OUT"
    else:
        path = os.path.join(os.curdir, path) if path.startswith("-") else path
        stem, suffix = os.path.splitext(path)
        if suffix and f"STEM}}{suffix}" in advice:  # a drawing called .png: the command would write over it
            stem += "-converted"
    names = {"IN": shlex.quote(path), "STEM": shlex.quote(stem)}
    if not re.fullmatch(r"[\w./+-]+", path):
        path, stem = "IN", "OUT"  # inside of quotes, where a shell would take parts of it for commands
    for word, name in {**names, "RAW": path, "RAWSTEM": stem}.items():
        advice = advice.replace(f"{{{word}}}", name)
    return advice


def format_of_suffix(suffix: str) -> Kind | None:
    """The format whose files usually have this suffix, in lower case with its dot; None for one that isn't known."""
    key = _BY_SUFFIX.get(suffix)
    return KINDS[key] if key is not None else None


def suffixes() -> Iterator[str]:
    """All suffixes of formats that are known here."""
    return iter(_BY_SUFFIX)


def start_of(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular file; b"" for what can't be read, or isn't one."""
    try:
        with open(path, "rb") as file:
            return file.read(START)
    except (OSError, ValueError):
        return b""
