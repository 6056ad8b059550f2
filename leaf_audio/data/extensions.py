"""File name extensions of audio and video.

A reader of a folder takes a file for a recording by its extension. It ignores
files of other kinds, such as texts and pictures. It does not ignore a recording
in a format that it cannot decode, because the user would then train on less
than the folder holds.
"""

# Formats that every build of libsndfile decodes.
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")

# Further formats that libsndfile decodes, if it knows the encoding in the file.
MORE_EXTENSIONS = (
    *(".8svx", ".aif", ".aifc", ".aiff", ".au", ".avr", ".bwf", ".caf"),
    *(".ircam", ".nist", ".oga", ".opus", ".paf", ".pvf", ".rf64", ".sds"),
    *(".sf", ".snd", ".sph", ".svx", ".voc", ".w64", ".wave"),
)

# Formats that must be converted. A reader reports such a file.
OTHER_EXTENSIONS = (
    # Uncompressed audio, most of it without a header.
    *(".al", ".lpcm", ".pcm", ".raw", ".sd2", ".ul", ".ulaw", ".wv1", ".wv2"),
    # Audio with lossless compression.
    *(".alac", ".ape", ".dff", ".dsf", ".dts", ".fla", ".la", ".mlp", ".ofr"),
    *(".shn", ".tak", ".thd", ".tta", ".wv"),
    # Audio with lossy compression.
    *(".aac", ".ac3", ".adts", ".at3", ".eac3", ".m1a", ".m2a", ".m4a"),
    *(".m4b", ".m4p", ".m4r", ".mka", ".mogg", ".mp1", ".mp2", ".mpa"),
    *(".mpc", ".mpga", ".oma", ".ra", ".spx", ".weba", ".wma"),
    # Audio of telephones and dictation machines.
    *(".3ga", ".aa", ".aax", ".act", ".amr", ".awb", ".ds2", ".dss", ".dvf"),
    *(".evrc", ".g722", ".g726", ".g729", ".gsm", ".msv", ".qcp", ".vox"),
    # Video.
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".f4v", ".flv", ".m1v"),
    *(".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg"),
    *(".mts", ".mxf", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb", ".vob"),
    *(".webm", ".wmv"),
)


def is_recording(name: str) -> bool:
    """Returns whether a file name has the extension of audio or video."""
    return name.lower().endswith(
        EXTENSIONS + MORE_EXTENSIONS + OTHER_EXTENSIONS
    )
