"""Building the native kernels: cached, rebuilt when damaged, shared by processes, and never needed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from contextlib import suppress

import pytest
import torch

from clearsight.kernels import native

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="no C compiler"
)
PRINT = "from clearsight.kernels import native; print(native.features())"
QUICK = "-O0"
"""Only whether it is built matters here, not how fast it runs."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A cache folder with the library in it."""
    folder = tmp_path_factory.mktemp("cache")
    run(folder)
    return folder


def run(cache, **environment):
    """What a new process prints that uses the kernels."""
    settings = {**os.environ, "CFLAGS": QUICK, "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run([sys.executable, "-c", PRINT], env=settings, capture_output=True, text=True, check=True)
    return done.stdout.strip(), done.stderr


def libraries(cache):
    return list((cache / "clearsight").glob("kernels-*.so"))


@needs_compiler
def test_the_library_is_built_once(built):
    (path,) = libraries(built)
    before = path.stat().st_mtime_ns
    assert run(built)[0] not in ("", "none")
    assert [path] == libraries(built)
    assert path.stat().st_mtime_ns == before
    assert not list(path.parent.glob("*.tmp"))


@needs_compiler
@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: data[:-1] + b"?"]
)
def test_a_damaged_library_is_built_again(built, tmp_path, damage):
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    (path,) = libraries(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert run(tmp_path)[0] not in ("", "none")
    assert len(path.read_bytes()) == len(whole)


@needs_compiler
def test_processes_may_build_at_once(tmp_path):
    settings = {**os.environ, "CFLAGS": QUICK, "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", PRINT]
    running = [subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate(timeout=120)[0].strip() for process in running}
    assert len(printed) == 1
    assert not printed & {"", "none"}
    assert len(libraries(tmp_path)) == 1


@needs_compiler
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file")[0] not in ("", "none")


def test_the_kernels_can_be_switched_off(tmp_path):
    assert run(tmp_path, CLEARSIGHT_NATIVE="0") == ("none", "")
    assert not libraries(tmp_path)


def test_without_a_compiler_one_sentence_is_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    native.library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert native.library() is None
            assert native.features() == "none"
        (record,) = caplog.records
        assert "no C compiler was found (looked for no-such-compiler)" in record.getMessage()
    finally:
        native.library.cache_clear()


@needs_compiler
def test_a_failing_compiler_is_named(tmp_path):
    printed, complaint = run(tmp_path, CFLAGS="-no-such-flag")
    assert printed == "none"
    assert "no-such-flag" in complaint


def test_torch_keeps_one_thread_while_the_kernels_are_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with suppress(KeyError), native.alone():
            with native.alone():
                assert (torch.get_num_threads(), native.threads()) == (1, 3)
            assert (torch.get_num_threads(), native.threads()) == (1, 3)
            raise KeyError
        assert (torch.get_num_threads(), native.threads()) == (3, 3)
    finally:
        torch.set_num_threads(before)
