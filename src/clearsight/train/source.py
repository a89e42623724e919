"""Where a user's data lies: JSON lines, a JSON list, or a table of the Hugging Face datasets library."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from clearsight.config import ConfigError
from clearsight.train.records import Record, read_record

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LONGEST_LINE = 2**28  # bytes; a sample may hold its pictures
_TABLES = {".parquet": "parquet", ".arrow": "arrow", ".csv": "csv"}


class Rows(Protocol):
    """Raw samples by number. place: where a user finds one, as in "line 3"."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...
    def place(self, index: int) -> str: ...


class Lines:
    """JSON lines; only where each begins is held. Blank lines are passed over. Raises ConfigError for one too long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._starts: list[tuple[int, int]] = []
        offset = 0
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE + 1), b""), 1):
                if len(line) > _LONGEST_LINE:
                    raise ConfigError(f"{path}, line {number} is longer than {_LONGEST_LINE:,} bytes, the limit")
                if line.strip():
                    self._starts.append((number, offset))
                offset += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Any:
        with self._path.open("rb") as file:
            file.seek(self._starts[index][1])
            return json.loads(file.readline().strip())

    def place(self, index: int) -> str:
        return f"line {self._starts[index][0]}"


class Items:
    """A JSON list, held whole."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Any:
        return self._rows[index]

    def place(self, index: int) -> str:
        return f"item {index + 1}"


class Table:
    """A dataset of the Hugging Face library, memory-mapped by it."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> Any:
        return self._table[index]

    def place(self, index: int) -> str:
        return f"row {index + 1}"


class Records:
    """Conversations by number, each read where and when it is asked for."""

    def __init__(self, data: str, *, media_root: Path | None = None, split: str = "train") -> None:
        """data: a .jsonl, .json or table file, a folder that `datasets` saved, or a hub name.

        media_root: where relative names of pictures start; None: the folder of the data. Raises ConfigError.
        """
        self.data = data
        path = Path(data).expanduser()
        self._root = media_root or (path if path.is_dir() else path.parent)
        self._rows = _open(data, path, split)
        if not len(self._rows):
            raise ConfigError(f"{data} holds no sample")

    def __len__(self) -> int:
        return len(self._rows)

    def place(self, index: int) -> str:
        return self._rows.place(index)

    def __getitem__(self, index: int) -> Record:
        """Raises RecordError, MessageError or ValueError for a damaged line."""
        return read_record(self._rows[index], self._locate)

    def _locate(self, name: str) -> str:
        if re.match(r"(https?|data|file):", name):
            return name
        return str(self._root / Path(name).expanduser())


def _open(data: str, path: Path, split: str) -> Rows:
    try:
        if path.is_file() and path.suffix in (".jsonl", ".ndjson"):
            return Lines(path)
        if path.is_file() and path.suffix == ".json":
            return _json_rows(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if path.is_file() and path.suffix in _TABLES:
        return Table(_datasets().load_dataset(_TABLES[path.suffix], data_files=str(path), split="train"))
    if path.is_dir():
        return Table(_saved(path, split))
    if path.exists():
        raise ConfigError(f"{path}: files of kind {path.suffix!r} are not read; use .jsonl, .json or .parquet")
    if _HUB_NAME.fullmatch(data) and not path.suffix:
        return Table(_from_hub(data, split))
    raise ConfigError(f"there is no file or folder {data!r}")


def _json_rows(path: Path) -> Rows:
    text = path.read_text(encoding="utf-8")
    try:
        rows = json.loads(text)
    except ValueError as error:
        # One object a line is often called .json as well.
        if text.lstrip().startswith("{"):
            return Lines(path)
        raise ConfigError(f"{path} is not valid JSON: {error}") from error
    if isinstance(rows, dict):
        return Lines(path)
    if not isinstance(rows, list):
        raise ConfigError(f"{path} must hold a list of samples, not {type(rows).__name__}")
    return Items(rows)


def _datasets() -> Any:
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise ConfigError(
            "tables are read by the datasets library, which is missing: pip install clearsight[train]"
        ) from error
    return datasets


def _saved(path: Path, split: str) -> Any:
    try:
        found = _datasets().load_from_disk(str(path))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is not a folder that the datasets library saved") from error
    return _split(found, split, str(path))


def _from_hub(name: str, split: str) -> Any:
    try:
        return _split(_datasets().load_dataset(name), split, name)
    except ConfigError:
        raise
    except Exception as error:  # the library lets many kinds through
        raise ConfigError(f"the dataset {name} could not be loaded: {str(error).splitlines()[0]}") from error


def _split(found: Any, split: str, name: str) -> Any:
    if not isinstance(found, dict):
        return found
    if split not in found:
        raise ConfigError(f"{name} has no split {split!r}; it has {', '.join(found)}")
    return found[split]
