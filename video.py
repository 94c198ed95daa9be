"""Video as values and as files: what codecs of video take and give back.

    with open_video("in.mp4") as reader, VideoWriter("out.mkv", reader.info, audio=reader.audio()) as writer:
        for frame in reader:
            writer.write(frame)

Values, arrays and colours: video_frames. Reading: video_read, video_y4m. Sound: video_audio. Writing: video_write.
"""

from __future__ import annotations

from .video_audio import cut_audio
from .video_frames import Frame, Pixels, Planes, VideoInfo, frames_of, plane_shapes, stack, to_rgb, to_yuv420
from .video_read import SUFFIXES, VideoReader, VideoSource, cut, open_video
from .video_write import VideoWriter, parse_encoder

__all__ = [
    "SUFFIXES",
    "Frame",
    "Pixels",
    "Planes",
    "VideoInfo",
    "VideoReader",
    "VideoSource",
    "VideoWriter",
    "cut",
    "cut_audio",
    "frames_of",
    "open_video",
    "parse_encoder",
    "plane_shapes",
    "stack",
    "to_rgb",
    "to_yuv420",
]
