"""Encoded units into live fMP4 segments, cut at keyframes: what the sandbox's HLS serves.

Times stay those of the units, so a segment can be read without the ones before it. A keyframe closes the segment once
it is long enough; a stream without keyframes is cut all the same after ten seconds or eight megabytes, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import av

from probe.wire.fmp4 import (
    VIDEO_TIMESCALE,
    AudioTrack,
    Run,
    Sample,
    VideoTrack,
    init_section,
    media_segment,
    split_annexb,
    to_lengths,
)

_LONGEST = 10 * VIDEO_TIMESCALE
_LARGEST = 8 << 20
_SPS, _PPS, _DELIMITER = 7, 8, 9


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment. `start` and `duration` in seconds of its video; `independent`: begins with a keyframe."""

    number: int
    data: bytes
    start: float
    duration: float
    independent: bool


class SegmentMuxer:
    """One per continuous publish. `init` is there from the first keyframe on. Video times count 1/90000 s, audio times
    1/rate s, from one origin, never below 0; a unit that does not come after the one before it is dropped, counted."""

    def __init__(self, *, audio: AudioTrack | None = None, target: float = 1.0) -> None:
        self.init: bytes | None = None
        self.dropped = 0
        self._audio = audio
        self._target = round(target * VIDEO_TIMESCALE)
        self._number = 0
        self._video: list[tuple[bytes, int, bool]] = []  # sample, time, keyframe
        self._sound: list[tuple[bytes, int]] = []
        self._size = 0

    def push_video(self, data: bytes, pts: int, keyframe: bool) -> Segment | None:
        """One Annex B access unit; returns the segment it closed, if it closed one."""
        nals = split_annexb(data)
        if keyframe and self.init is None:
            self.init = make_init(data, self._audio)
        if self.init is None or pts < 0 or (self._video and pts <= self._video[-1][1]):
            self.dropped += 1
            return None
        done = None
        if self._video:
            length = pts - self._video[0][1]
            if (keyframe and length * 10 >= self._target * 9) or length > _LONGEST or self._size > _LARGEST:
                done = self._close(pts)
        # Parameter sets stay in the samples too: they may change in mid-stream, and avcC is written once.
        sample = to_lengths([nal for nal in nals if nal[0] & 31 != _DELIMITER])
        self._video.append((sample, pts, keyframe))
        self._size += len(sample)
        return done

    def push_audio(self, data: bytes, pts: int) -> None:
        """One audio packet. What comes before the first picture is dropped."""
        if self._audio is None or not self._video or pts < 0 or (self._sound and pts <= self._sound[-1][1]):
            self.dropped += 1
            return
        self._sound.append((data, pts))
        self._size += len(data)

    def flush(self) -> Segment | None:
        """What is still open, as a last segment."""
        if not self._video:
            return None
        last = self._video[-1][1]
        frame = last - self._video[-2][1] if len(self._video) > 1 else VIDEO_TIMESCALE // 30
        return self._close(last + frame)

    def _close(self, end: int) -> Segment:
        video = self._video
        ends = [pts for _, pts, _ in video[1:]] + [end]
        pictures = [Sample(data, until - pts, key) for (data, pts, key), until in zip(video, ends, strict=True)]
        runs = [Run(1, video[0][1], pictures)]
        if self._sound:
            times = [pts for _, pts in self._sound]
            lengths = [until - pts for pts, until in pairwise(times)]
            lengths.append(lengths[-1] if lengths else 0)  # how long the last one is, the segment after tells by its tfdt
            runs.append(Run(2, times[0], [Sample(data, n, True) for (data, _), n in zip(self._sound, lengths, strict=True)]))
        self._number += 1
        start = video[0][1]
        segment = Segment(
            number=self._number,
            data=media_segment(self._number, runs),
            start=start / VIDEO_TIMESCALE,
            duration=(end - start) / VIDEO_TIMESCALE,
            independent=video[0][2],
        )
        self._video, self._sound, self._size = [], [], 0
        return segment


def make_init(data: bytes, audio: AudioTrack | None) -> bytes | None:
    """The init section for a stream that begins with this H.264 access unit; None where it holds no parameter sets or
    cannot be decoded (its size is asked of the decoder)."""
    nals = split_annexb(data)
    sps = next((nal for nal in nals if nal[0] & 31 == _SPS and len(nal) >= 4), None)
    pps = next((nal for nal in nals if nal[0] & 31 == _PPS), None)
    if sps is None or pps is None:
        return None
    try:
        frames = av.CodecContext.create("h264", "r").decode(av.Packet(data))
    except av.error.FFmpegError:
        return None
    return init_section(VideoTrack(sps, pps, frames[0].width, frames[0].height), audio) if frames else None
