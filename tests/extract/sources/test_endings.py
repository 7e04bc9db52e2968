"""The endings of media files hold those of FFmpeg's own formats of moving pictures."""

import pytest
from av.format import ContainerFormat

from avcil.extract.sources.endings import SOUND_ENDINGS, VIDEO_ENDINGS

OF_PICTURES_OR_SUBTITLES = {".avif", ".heic", ".heif", ".ism", ".isma", ".mpo", ".mks"}


@pytest.mark.parametrize(
    "name",
    [
        *("3gp", "asf", "avi", "dv", "dvd", "f4v", "flv", "gif", "gxf", "h264", "hevc", "ismv", "ivf", "m4v"),
        *("matroska", "mjpeg", "mov", "mp4", "mpeg", "mpeg1video", "mpeg2video", "mpegts", "mxf", "nut"),
        *("ogg", "ogv", "rm", "roq", "swf", "vc1", "vob", "vvc", "webm", "wtv", "yuv4mpegpipe"),
    ],
)
def test_what_ffmpeg_names_is_known(name: str) -> None:
    endings: set[str] = set()
    for mode in ("r", "w"):
        try:
            endings |= {f".{ending}" for ending in ContainerFormat(name, mode).extensions}
        except ValueError:  # only read, or only written
            continue
    assert endings
    assert endings - OF_PICTURES_OR_SUBTITLES <= VIDEO_ENDINGS | SOUND_ENDINGS
