"""Endings of media files, as FFmpeg's demuxers and muxers name them and as cameras and programs write them.

Left out are FFmpeg's endings of pictures, subtitles, playlists and raw samples, and those that are mostly of
something else, such as `.dat` and `.txt`. FFmpeg itself tells formats by their content.
"""

from __future__ import annotations

VIDEO_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *(
            "264",
            "265",
            "266",
            "3g2",
            "3gp",
            "3gp2",
            "3gpp",
            "3gpp2",
            "amv",
            "apv",
            "asf",
            "avc",
            "avi",
            "avs2",
        ),
        *(
            "avs3",
            "bik",
            "cdxl",
            "dav",
            "dif",
            "divx",
            "dnxhd",
            "dnxhr",
            "drc",
            "dv",
            "dvd",
            "dvr-ms",
            "evo",
            "f4v",
        ),
        *(
            "flc",
            "fli",
            "flv",
            "gif",
            "gxf",
            "h261",
            "h263",
            "h264",
            "h265",
            "h266",
            "h26l",
            "hevc",
            "insv",
            "ismv",
        ),
        *(
            "ivf",
            "ivr",
            "kux",
            "m1v",
            "m2p",
            "m2t",
            "m2ts",
            "m2v",
            "m4s",
            "m4v",
            "mj2",
            "mjpeg",
            "mjpg",
            "mk3d",
        ),
        *("mkv", "mod", "moflex", "mov", "mp2v", "mp4", "mp4v", "mpe", "mpeg", "mpeg4", "mpg", "mpg4", "mpv"),
        *("mpv2", "mts", "mvi", "mxf", "nsv", "nut", "obu", "ogg", "ogm", "ogv", "ogx", "psp", "qt", "rm"),
        *(
            "rmvb",
            "roq",
            "smk",
            "swf",
            "tod",
            "tp",
            "trp",
            "ts",
            "ty",
            "usm",
            "vc1",
            "viv",
            "vivo",
            "vob",
            "vro",
        ),
        *("vvc", "webm", "wm", "wmv", "wtv", "xmv", "xvid", "y4m", "yop"),
    )
)
SOUND_ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        *(
            "aa3",
            "aac",
            "ac3",
            "adts",
            "aif",
            "aifc",
            "aiff",
            "amr",
            "ape",
            "au",
            "caf",
            "dsf",
            "dts",
            "eac3",
        ),
        *("flac", "m4a", "m4b", "mka", "mp2", "mp3", "mpa", "mpc", "oga", "oma", "opus", "ra", "spx", "tak"),
        *("tta", "voc", "w64", "wav", "wma", "wv"),
    )
)
