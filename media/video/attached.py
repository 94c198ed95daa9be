"""Files that are attached to a video: fonts, covers. FFmpeg shows pictures among them as tracks of one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..notes import Note

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

__all__ = ["AttachedFile", "covers_of", "files_of", "is_cover"]

MAX_COVER = 1 << 25  # bytes
_IMAGES = {
    "mjpeg": (".jpg", "image/jpeg"),
    "png": (".png", "image/png"),
    "bmp": (".bmp", "image/bmp"),
    "gif": (".gif", "image/gif"),
    "webp": (".webp", "image/webp"),
}


class AttachedFile(NamedTuple):
    """A file that is attached. kind: its MIME type."""

    name: str
    kind: str
    data: bytes


def is_cover(stream: Stream) -> bool:
    """Whether a stream of pictures is a cover or thumbnails."""
    from av.stream import Disposition

    return bool(int(stream.disposition or 0) & int(Disposition.attached_pic | Disposition.timed_thumbnails))


def covers_of(container: InputContainer) -> tuple[list[AttachedFile], list[Note]]:
    """The covers of an open file, nothing of which was read; and notes."""
    covers: list[AttachedFile] = []
    notes: list[Note] = []
    streams = [stream for stream in container.streams.video if is_cover(stream)]
    pictures: dict[int, bytes] = {}
    for packet in container.demux(*streams) if streams else ():
        if packet.size and packet.stream_index not in pictures and packet.size <= MAX_COVER:
            pictures[packet.stream_index] = bytes(packet)
        if len(pictures) == len(streams):
            break
    for stream in streams:
        name = stream.codec_context.name if stream.codec_context else ""
        if name not in _IMAGES or stream.index not in pictures:
            notes.append(Note("attachment", "a cover picture of an unusual kind: left out"))
            continue
        suffix, kind = _IMAGES[name]
        number = f"-{len(covers) + 1}" if covers else ""
        named = stream.metadata.get("filename") or f"cover{number}{suffix}"
        covers.append(AttachedFile(named, stream.metadata.get("mimetype") or kind, pictures[stream.index]))
    return covers, notes


def files_of(container: InputContainer) -> list[AttachedFile]:
    """The files that are attached to an open one, but for covers."""
    return [
        AttachedFile(stream.name or "file", stream.mimetype or "application/octet-stream", bytes(stream.data))
        for stream in container.streams.attachments
    ]
