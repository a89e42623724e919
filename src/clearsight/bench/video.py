"""Reading a long 720p video: frames a second and memory, against decoding everything."""

from __future__ import annotations

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from clearsight.media import DEFAULT_LIMITS, Sandbox, open_video
from clearsight.processor import Processor

_WIDTH, _HEIGHT, _FPS = 1280, 720, 30
_PART = 10  # seconds that are encoded; the rest repeats their packets


def _make(path: Path, seconds: int, gop: int) -> None:
    """A coarse pattern with a square that moves over it."""
    noise = np.random.default_rng(0).integers(0, 80, (_HEIGHT // 8, _WIDTH // 8, 3), np.uint8)
    ground = noise.repeat(8, 0).repeat(8, 1)
    part = path.with_name("part.mp4")
    with av.open(str(part), "w") as container:
        wishes = {"preset": "veryfast", "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:open-gop=0"}
        stream = container.add_stream("libx264", rate=_FPS, options=wishes)
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for index in range(_PART * _FPS):
            picture = ground.copy()
            x, y = 7 * index % (_WIDTH - 200), 3 * index % (_HEIGHT - 200)
            picture[y : y + 200, x : x + 200] = (5 * index % 256, 200, index % 256)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(str(path), "w") as out:
        for repeat in range(seconds // _PART):
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                if not repeat:
                    copy = out.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is None:
                        continue
                    shift = int(repeat * _PART / packet.time_base)
                    packet.dts, packet.pts, packet.stream = packet.dts + shift, packet.pts + shift, copy
                    out.mux(packet)


def _measured(work: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    """`work` in a process of its own, with its time and the peak memory of it and of its workers."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (work, path))


def _measure(work: Callable[[Path], dict[str, Any]], path: Path) -> dict[str, Any]:
    before, start = _processor_seconds(), time.perf_counter()
    found = work(path)
    found["seconds"] = round(time.perf_counter() - start, 2)
    found["cpu_seconds"] = round(_processor_seconds() - before, 2)
    for name, who in (("own_mb", resource.RUSAGE_SELF), ("worker_mb", resource.RUSAGE_CHILDREN)):
        found[name] = resource.getrusage(who).ru_maxrss // 1024
    return found


def _processor_seconds() -> float:
    """Of this process and of its workers that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _sampled(path: Path) -> dict[str, Any]:
    """The frames of the plan, as the processor reads them."""
    messages = [{"role": "user", "content": [{"type": "video", "video": str(path)}]}]
    (use,) = Processor.packaged("2b").count(messages).media
    sandbox = Sandbox(DEFAULT_LIMITS, workers=1)
    clip = open_video(path, sandbox=sandbox)
    indices = [round(moment * _FPS) for moment in use.times or ()]
    start = time.perf_counter()
    count = sum(1 for _ in clip.frames(indices, use.size[::-1]))
    reading = round(time.perf_counter() - start, 2)
    sandbox.close()
    return {"frames": count, "size": use.size, "tokens": use.tokens, "reading_seconds": reading}


def _prepared(path: Path) -> dict[str, Any]:
    """Everything up to the model's inputs, and once more for a second question."""
    processor = Processor.packaged("2b")
    messages = [{"role": "user", "content": [{"type": "video", "video": str(path)}]}]
    processor.prepare(messages)
    start = time.perf_counter()
    processor.prepare(messages)
    again = round(time.perf_counter() - start, 2)
    processor.sandbox.close()
    return {"again_seconds": again}


def _counted(path: Path) -> dict[str, Any]:
    processor = Processor.packaged("2b")
    tokens = processor.count([{"role": "user", "content": [{"type": "video", "video": str(path)}]}]).tokens
    processor.sandbox.close()
    return {"tokens": tokens}


def _everything(path: Path) -> dict[str, Any]:
    """Every frame decoded and thrown away, none resized: the least that a reader without seeking can do."""
    count = 0
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            count += 1
    return {"frames": count}


def video(seconds: int, gop: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Figures of a film of its own making. seconds: down to a multiple of ten. gop: frames from one that
    can be sought to the next. say: is told each."""
    with tempfile.TemporaryDirectory(prefix="clearsight-bench-") as folder:
        path = Path(folder) / "long.mp4"
        say("making the video")
        seconds -= seconds % _PART
        _make(path, seconds, gop)
        result: dict[str, Any] = {"seconds": seconds, "gop": gop, "megabytes": path.stat().st_size >> 20}
        for name, work in (("counted", _counted), ("sampled", _sampled), ("prepared", _prepared), ("all", _everything)):
            result[name] = _measured(work, path)
            say(f"{name}: {result[name]}")
    spent, frames = result["sampled"]["reading_seconds"], result["all"]["frames"]
    result["sampled"]["frames_per_second"] = round(result["sampled"]["frames"] / spent, 1)
    result["video_seconds_per_second"] = round(seconds / spent, 1)
    result["times_faster"] = round(result["all"]["seconds"] / spent, 2)
    result["all_would_take_gb"] = round(frames * _WIDTH * _HEIGHT * 3 / 2**30, 1)
    return result
