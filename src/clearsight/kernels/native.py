"""The native kernels: C sources beside this file, compiled at first use and loaded through ctypes.

One shared library holds all of `native/*.c`. It is built for this machine's own processor with the system's compiler
and kept in the user's cache folder under a hash of all that went into it, so a change of source, flags or processor
builds anew. Environment: CLEARSIGHT_NATIVE=0 leaves the kernels out; CC and CFLAGS are heeded as usual. Where the
library is missing every kernel runs as its torch twin.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_SOURCES = Path(__file__).with_name("native")
# Every rounding is the one written down, so that the reference twins can be matched exactly.
_FLAGS = (
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-tree-pre",  # with it gcc would carry the sums of linear.c through moves and the stack
    "-ffp-contract=off",
    "-fPIC",
    "-shared",
    "-pthread",
    "-fvisibility=hidden",
)
_VARIANTS = (("-march=native",), ())  # some compilers know no -march=native
_COMPILE_SECONDS = 120
_DIGEST_BYTES = hashlib.sha256().digest_size

_KINDS = {torch.float32: 0, torch.bfloat16: 1}


class NativeBuildError(RuntimeError):
    """The C sources could not be compiled; the text is one sentence."""


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernels, or None where they are switched off or cannot be built (which is logged once)."""
    if os.environ.get("CLEARSIGHT_NATIVE", "1") == "0":
        return None
    try:
        return _load()
    except NativeBuildError as error:
        logger.warning("the native kernels are not available, so everything runs on torch: %s", error)
        return None


def features() -> str:
    """What the loaded kernels were compiled for, such as "avx512-vnni"; "none" without them."""
    lib = library()
    if lib is None:
        return "none"
    lib.cs_features.restype = ctypes.c_char_p
    return str(lib.cs_features().decode())


def number_format(dtype: torch.dtype) -> int | None:
    """The interface's code of a number format (`CS_F32`, `CS_BF16` in common.h); None if the kernels lack it."""
    return _KINDS.get(dtype)


def serves(*tensors: Tensor) -> bool:
    """Whether the kernels may be given these: on the CPU, in a known format, with no gradient wanted."""
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return not wants_gradient and all(x.is_cpu for x in tensors) and number_format(tensors[0].dtype) is not None


class _Held(threading.local):
    threads: int | None = None


_held = _Held()


def threads() -> int:
    """How many threads a kernel may use: as many as torch, unless `alone` holds torch back."""
    return _held.threads or torch.get_num_threads()


@contextmanager
def alone() -> Generator[None]:
    """Inside, on this thread, only the kernels' own pool uses several cores and torch uses one.

    The threads of torch's pool wait for their next work by spinning, in the kernels' way, for a while after each use.
    """
    count = threads()
    outer, _held.threads = _held.threads, count
    torch.set_num_threads(1)
    try:
        yield
    finally:
        _held.threads = outer
        torch.set_num_threads(1 if outer else count)


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clearsight"


def _load() -> ctypes.CDLL:
    path = cache_folder() / f"kernels-{_key()}.so"
    if _is_whole(path):
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            pass  # built on a system whose libraries have since changed
    built = _build()
    try:
        _write(path, built)
    except OSError:  # no place for a cache: use it from a passing file
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / path.name
            _write(path, built)
            return _open(path)
    return _open(path)


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeBuildError(f"the compiled library cannot be loaded: {error}") from error


def _key() -> str:
    """A hash of all that decides what the library holds."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.glob("*.[ch]")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    settings = (*_FLAGS, os.environ.get("CFLAGS", ""), os.environ.get("CC", ""), platform.machine(), _processor())
    digest.update("\0".join(settings).encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """The processor's model and abilities, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU part")
    found = {line.split(":")[0].strip(): line for line in lines if line.startswith(wanted)}
    return "\n".join(found[name] for name in sorted(found))


def _is_whole(path: Path) -> bool:
    """Whether the file ends in the digest of what stands before it. Loading a damaged library can end the process."""
    try:
        data = path.read_bytes()
    except OSError:
        return False
    return hashlib.sha256(data[:-_DIGEST_BYTES]).digest() == data[-_DIGEST_BYTES:]


def _write(path: Path, library_bytes: bytes) -> None:
    """Put a library in place in one step, so that several processes may build at once."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(library_bytes + hashlib.sha256(library_bytes).digest())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _build() -> bytes:
    compiler = _compiler()
    sources = [str(path) for path in sorted(_SOURCES.glob("*.c"))]
    extra = shlex.split(os.environ.get("CFLAGS", ""))
    message = ""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "kernels.so"
        for variant in _VARIANTS:
            message = _run([*compiler, *_FLAGS, *variant, *extra, "-o", str(target), *sources, "-lm"])
            if not message:
                return target.read_bytes()
    raise NativeBuildError(f"{compiler[0]} failed with: {message}")


def _compiler() -> list[str]:
    """The command of the first compiler found. Raises NativeBuildError if there is none."""
    named = os.environ.get("CC")
    for command in [shlex.split(named)] if named else [["cc"], ["gcc"], ["clang"]]:
        if command and shutil.which(command[0]):
            return command
    raise NativeBuildError(f"no C compiler was found (looked for {named or 'cc, gcc and clang'})")


def _run(command: Sequence[str]) -> str:
    """The first line of the compiler's complaint, or nothing if it succeeded."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return ""
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
    return lines[0] if lines else f"exit status {done.returncode}"
