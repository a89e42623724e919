"""What can be measured. Each runtime runs in a process of its own and is imported there alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module, util
from pathlib import Path
from typing import Protocol

from clearsight.bench.cases import Case


@dataclass(frozen=True, slots=True)
class Answer:
    """When a request was handed in, and when each of its tokens was known (seconds of one clock)."""

    begin: float
    times: tuple[float, ...]

    @property
    def first_token(self) -> float:
        return self.times[0] - self.begin

    @property
    def tokens_per_second(self) -> float:
        """Of the tokens after the first."""
        return (len(self.times) - 1) / (self.times[-1] - self.times[0])


class Runtime(Protocol):
    """A loaded model. Answers are greedy, of exactly the length that the case asks for."""

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that one pass over a single token reads."""

    def vision(self, case: Case) -> float:
        """Seconds from pixels to merged tokens."""

    def answer(self, case: Case) -> Answer:
        """One request, from what is known of earlier ones."""

    def answer_together(self, cases: Sequence[Case]) -> list[Answer]:
        """All at once, in the way that this runtime does it best."""

    def peak_bytes(self) -> int:
        """The most memory so far of the process that holds the weights."""


@dataclass(frozen=True, slots=True)
class Kind:
    """needs, programs: packages, and programs on PATH, without which it is left out; install says how to get them.

    converts: whether its module's `convert` first writes the checkpoint in a form of its own.
    remembers: whether a second question can be the quicker one.
    """

    title: str
    module: str
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    install: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    converts: bool = False
    remembers: bool = True

    def missing(self, python: str = sys.executable) -> list[str]:
        """What is needed and not there, packages as the interpreter `python` sees them; ValueError if it is none."""
        programs = [name for name in self.programs if shutil.which(name) is None]
        return [*_packages_missing(self.needs, python), *programs]

    def convert(self, folder: Path, to: Path) -> None:
        """Write the checkpoint in `folder` to the empty folder `to`, in this runtime's own form."""
        import_module(self.module).convert(folder, to, **self.options)

    def load(self, folder: Path, converted: Path | None = None) -> Runtime:
        """The model in `folder`, a checkpoint in the official layout, or in `converted`, what `convert` made of it."""
        make: Callable[..., Runtime] = import_module(self.module).load
        return make(folder, **({"converted": converted} if self.converts else {}), **self.options)


_LOOK = "import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if find_spec(n) is None))"


def _packages_missing(names: tuple[str, ...], python: str) -> list[str]:
    if python == sys.executable:
        return [name for name in names if util.find_spec(name) is None]
    look = subprocess.run([python, "-c", _LOOK, *names], capture_output=True, text=True)
    if look.returncode:
        raise ValueError(f"{python} is not a Python that works")
    return look.stdout.split()


_HERE = "clearsight.bench.runtimes"


def _ours(mode: str, name: str) -> Kind:
    return Kind(f"clearsight {name}", f"{_HERE}.ours", options={"quantize": mode})


def _openvino(weights: str) -> Kind:
    return Kind(
        f"OpenVINO {weights}",
        f"{_HERE}.openvino",
        needs=("optimum", "openvino", "nncf"),
        install='`pip install optimum-intel "transformers==5.0.0" torch==2.13.0` in an environment of its own'
        " and name its interpreter, --peer-python openvino=PYTHON",
        options={"weights": weights},
        converts=True,
        remembers=False,
    )


KINDS = {
    "bf16": _ours("none", "bf16"),
    "int8": _ours("int8", "int8"),
    "int4": _ours("int4", "int4"),
    "transformers": Kind(
        "transformers bf16",
        f"{_HERE}.transformers",
        needs=("transformers",),
        install='`pip install "transformers>=5,<6"`',
        remembers=False,
    ),
    "openvino-int8": _openvino("int8"),
    "openvino-int4": _openvino("int4"),
    "llama.cpp": Kind(
        "llama.cpp Q4_0",
        f"{_HERE}.llama_cpp",
        needs=("gguf",),
        programs=("llama-server",),
        install="`pip install gguf`, and put the llama-server of a build of llama.cpp on PATH",
        options={"weights": "Q4_0"},
        converts=True,
    ),
}
"""Every runtime by its name."""

PEERS = {
    "transformers": ("transformers",),
    "openvino": ("openvino-int8", "openvino-int4"),
    "llama.cpp": ("llama.cpp",),
}
"""Other runtimes as the command line names them."""
