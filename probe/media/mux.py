"""Encoded units into live fMP4 segments, cut at keyframes, and into partial segments of them: what the sandbox serves.

Times stay those of the units, so a segment can be read without the ones before it. A keyframe closes the segment once
it is long enough; a stream without keyframes is cut all the same after ten seconds or eight megabytes, and says so.
Parts (RFC 8216bis 4.4.4.9) are CMAF chunks; a segment is nothing but its parts in a row. A part ends where one more picture
as long as the last would make it longer than the part target, so all but a segment's last are of one length.
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
class Part:
    """A partial segment. `start` and `duration` in seconds of its video; `independent`: begins with a keyframe."""

    data: bytes
    start: float
    duration: float
    independent: bool
    pictures: int


@dataclass(frozen=True, slots=True)
class Segment:
    """One media segment: `start`, `duration` and `independent` as a part's; `parts` in order, at least one."""

    number: int
    data: bytes
    start: float
    duration: float
    independent: bool
    parts: tuple[Part, ...] = ()

    @property
    def pictures(self) -> int:
        return sum(part.pictures for part in self.parts)


class SegmentMuxer:
    """One per continuous publish. `init` is there from the first keyframe on. Video times count 1/90000 s, audio times
    1/rate s, from one origin, never below 0; a unit that does not come after the one before it is dropped, counted.
    `target` and `part` (None: no parts) in seconds; `open_parts` are those of the segment not yet closed."""

    def __init__(self, *, audio: AudioTrack | None = None, target: float = 1.0, part: float | None = None) -> None:
        self.init: bytes | None = None
        self.dropped = 0
        self.open_parts: list[Part] = []
        self._audio = audio
        self._target = round(target * VIDEO_TIMESCALE)
        self._part = None if part is None else round(part * VIDEO_TIMESCALE)
        self._number = 0
        self._chunks = 0
        self.began = 0  # pts of the open segment's first picture
        self._last_video = -1
        self._last_sound = -1
        self._sound_length = 0
        self._video: list[tuple[bytes, int, bool]] = []  # sample, time, keyframe
        self._sound: list[tuple[bytes, int]] = []
        self._size = 0

    def push_video(self, data: bytes, pts: int, keyframe: bool) -> Segment | None:
        """One Annex B access unit; returns the segment it closed, if it closed one."""
        nals = split_annexb(data)
        if keyframe and self.init is None:
            self.init = make_init(data, self._audio)
        if self.init is None or pts < 0 or pts <= self._last_video:
            self.dropped += 1
            return None
        done = None
        if self._open:
            length = pts - self.began
            if (keyframe and length * 10 >= self._target * 9) or length > _LONGEST or self._size > _LARGEST:
                done = self._close(pts)
            elif self._part is not None and 2 * pts - self._last_video - self._video[0][1] > self._part:
                self._close_part(pts)
        if not self._open:
            self.began = pts
        # Parameter sets stay in the samples too: they may change in mid-stream, and avcC is written once.
        sample = to_lengths([nal for nal in nals if nal[0] & 31 != _DELIMITER])
        self._video.append((sample, pts, keyframe))
        self._last_video = pts
        self._size += len(sample)
        return done

    def push_audio(self, data: bytes, pts: int) -> None:
        """One audio packet. What comes before the first picture is dropped."""
        if self._audio is None or not self._open or pts < 0 or pts <= self._last_sound:
            self.dropped += 1
            return
        self._sound.append((data, pts))
        self._last_sound = pts
        self._size += len(data)

    def flush(self) -> Segment | None:
        """What is still open, as a last segment."""
        if not self._open:
            return None
        last = self._last_video
        frame = last - self._video[-2][1] if len(self._video) > 1 else VIDEO_TIMESCALE // 30
        return self._close(last + frame)

    @property
    def _open(self) -> bool:
        return bool(self._video or self.open_parts)

    def _close(self, end: int) -> Segment:
        if self._video:
            self._close_part(end)
        self._number += 1
        parts, self.open_parts = tuple(self.open_parts), []
        self._size = 0
        return Segment(
            number=self._number,
            data=b"".join(part.data for part in parts),
            start=self.began / VIDEO_TIMESCALE,
            duration=(end - self.began) / VIDEO_TIMESCALE,
            independent=parts[0].independent,
            parts=parts,
        )

    def _close_part(self, end: int) -> None:
        video = self._video
        ends = [pts for _, pts, _ in video[1:]] + [end]
        pictures = [Sample(data, until - pts, key) for (data, pts, key), until in zip(video, ends, strict=True)]
        runs = [Run(1, video[0][1], pictures)]
        if self._sound:
            times = [pts for _, pts in self._sound]
            lengths = [until - pts for pts, until in pairwise(times)]
            # How long the last one is, the chunk after tells by its tfdt.
            self._sound_length = lengths[-1] if lengths else self._sound_length
            lengths.append(self._sound_length)
            runs.append(Run(2, times[0], [Sample(data, n, True) for (data, _), n in zip(self._sound, lengths, strict=True)]))
        self._chunks += 1
        start = video[0][1]
        self.open_parts.append(
            Part(
                data=media_segment(self._chunks, runs, first=not self.open_parts),
                start=start / VIDEO_TIMESCALE,
                duration=(end - start) / VIDEO_TIMESCALE,
                independent=video[0][2],
                pictures=len(video),
            )
        )
        self._video, self._sound = [], []


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
