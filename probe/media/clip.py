"""The programme as a file: for peers that are fed by a file or a pipe, such as ffmpeg before an RTMP server.

`clip` is made as fast as the machine can, for stamps of any time. LivePipe writes a running Programme into a file object as
fragmented MP4, one fragment a unit, so that nothing waits for a segment to fill:
`ffmpeg -probesize 20000 -f mp4 -i pipe:0 -c:v copy …` (not with `-fflags nobuffer`: it throws away what was probed).
"""

from __future__ import annotations

import threading
from itertools import count
from types import TracebackType
from typing import BinaryIO

from probe.media.encode import AUDIO_CLOCK, AacEncoder
from probe.media.mux import SegmentMuxer, make_init
from probe.media.picture import Synthesizer
from probe.media.programme import EncodedUnit, Programme
from probe.media.source import FPS, TICKS, AudioSource, ProgrammeIds, VideoSource
from probe.model.clock import MS, NS
from probe.wire.fmp4 import AudioTrack, Run, Sample, media_segment, split_annexb, to_lengths


def clip(
    name: str, seconds: float, ids: ProgrammeIds, *, unix_ms: int, bitrate: int = 800_000, audio: bool = True, black: bool = False
) -> bytes:
    """A fragmented MP4 of a programme whose first picture is stamped `unix_ms`."""
    video = VideoSource(name, ids, bitrate)
    sound = AudioSource(unix_ms * MS, 1, 32_000)
    muxer = SegmentMuxer(audio=AudioTrack("opus", AUDIO_CLOCK, 1) if audio else None)
    out = []
    number = 1
    for slot in range(round(seconds * FPS)):
        data, keyframe = video.make(slot, unix_ms * MS + round(slot * 1000 / FPS) * MS, keyframe=False, black=black)
        segment = muxer.push_video(data, slot * TICKS, keyframe)
        while audio and number <= sound.number_at((slot + 1) * NS // FPS):
            muxer.push_audio(*sound.make(number))
            number += 1
        if segment:
            out.append(segment.data)
    last = muxer.flush()
    return (muxer.init or b"") + b"".join(out) + (last.data if last else b"")


class LivePipe:
    """Plays `programme` into `sink` while entered. `error` is what ended it early: a closed pipe, a broken encoder."""

    def __init__(self, programme: Programme, sink: BinaryIO) -> None:
        self.error: BaseException | None = None
        self._programme, self._sink = programme, sink
        self._lock = threading.Lock()  # video and audio come on threads of their own
        self._numbers = count(1)
        self._open = False

    def __enter__(self) -> LivePipe:
        self._programme.start(self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._programme.close()

    def _take(self, item: EncodedUnit | BaseException | None) -> None:
        with self._lock:
            if isinstance(item, EncodedUnit) and self.error is None:
                try:
                    self._write(item)
                except (OSError, ValueError) as error:  # ValueError: the file object was closed
                    self.error = error
            elif isinstance(item, BaseException):
                self.error = item

    def _write(self, unit: EncodedUnit) -> None:
        if not self._open:
            if not unit.keyframe or unit.kind != "video":
                return
            playing = self._programme
            track = AudioTrack(playing.audio_codec, AUDIO_CLOCK, playing.channels, playing.audio_config)
            self._sink.write(make_init(unit.data, track if playing.audio else None) or b"")
            self._open = True
        if unit.kind == "video":
            run = Run(1, unit.pts, [Sample(to_lengths(split_annexb(unit.data)), TICKS, unit.keyframe)])
        else:
            samples = AacEncoder.BLOCK if self._programme.audio_codec == "aac" else Synthesizer.BLOCK
            run = Run(2, unit.pts, [Sample(unit.data, samples, True)])
        self._sink.write(media_segment(next(self._numbers), [run]))
        self._sink.flush()
