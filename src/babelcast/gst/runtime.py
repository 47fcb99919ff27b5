"""GStreamer itself: loaded once, checked once, and the clock that the whole worker tells the time by.

Everything that needs ``gi`` takes :data:`Gst` from here, so that ``Gst.init`` has run and a missing plugin is
said in one sentence with the command that installs it.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

from babelcast.errors import MissingDependencyError

NONE_NS = (1 << 64) - 1
"""``GST_CLOCK_TIME_NONE``."""

_INSTALL_BINDINGS = "apt-get install python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0"
_PACKAGES = {
    "gstreamer1.0-plugins-base": ("appsink", "appsrc", "audioconvert", "audioresample", "opusdec", "parsebin"),
    "gstreamer1.0-plugins-good": (
        "flvdemux",
        "flvmux",
        "capssetter",
        "aacparse",
        "mpegaudioparse",
        "mpg123audiodec",
        "rtspsrc",
        "rtph264depay",
        "rtpmp4gdepay",
        "mp4mux",
        "qtdemux",
        "matroskamux",
        "matroskademux",
        "souphttpsrc",
        "rglimiter",
    ),
    "gstreamer1.0-plugins-bad": (
        "rtmp2src",
        "rtmp2sink",
        "h264parse",
        "h264timestamper",
        "audiobuffersplit",
        "errorignore",
        "opusparse",
        "srtsrc",
        "tsdemux",
        "mpegtsmux",
    ),
    "gstreamer1.0-libav": ("avdec_aac", "avenc_aac"),
}


def _load() -> Any:
    # libgstreamer brings libunwind into the process, whose _Unwind_Resume would take the place of the C++ runtime's
    # own: then the first exception inside a C++ library (libsrt throws one whenever a connection is lost) is a
    # segmentation fault. The right one wins if it comes first.
    with contextlib.suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1", mode=ctypes.RTLD_GLOBAL)
    try:
        import gi

        gi.require_version("Gst", "1.0")
        gi.require_version("GstApp", "1.0")
        from gi.repository import Gst, GstApp
    except (ImportError, ValueError) as error:
        raise MissingDependencyError(
            f"GStreamer's Python bindings can't be loaded: {error}", hint=_INSTALL_BINDINGS
        ) from error
    Gst.init(None)
    assert GstApp is not None  # its import is what gives appsink and appsrc their methods
    return Gst


Gst: Any = _load()


def version() -> str:
    """GStreamer's version, such as ``1.22.0``."""
    return ".".join(str(part) for part in Gst.version()[:3])


def missing_elements() -> dict[str, str]:
    """Elements that the worker needs and that are not installed, each with the Debian package that has it."""
    return {
        element: package
        for package, elements in _PACKAGES.items()
        for element in elements
        if Gst.ElementFactory.find(element) is None
    }


def check_elements() -> None:
    """Raise MissingDependencyError, naming the packages, unless every element that the worker needs is there."""
    missing = missing_elements()
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise MissingDependencyError(
            f"GStreamer has no {', '.join(sorted(missing))}", hint=f"apt-get install {packages}"
        )


def system_clock() -> Any:
    """The clock of every pipeline. Its time is ``time.monotonic_ns()``."""
    return Gst.SystemClock.obtain()
