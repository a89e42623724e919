"""`clearsight serve`: the server and its page."""

from __future__ import annotations

import argparse
import os

from clearsight.cli.commands import load
from clearsight.cli.options import KEY_VARIABLE, UsageError, add_weights


def add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--api-key", action="append", default=[], metavar="KEY",
                        help=f"ask clients for this key; may be repeated (also: {KEY_VARIABLE})")  # fmt: skip
    parser.add_argument("--served-name", action="append", default=[], metavar="NAME",
                        help="what clients may call the model; may be repeated")  # fmt: skip
    parser.add_argument("--allow-origin", action="append", default=[], metavar="ORIGIN",
                        help="let browser pages of https://HOST use the API; may be repeated")  # fmt: skip
    parser.add_argument("--allow-remote", action="store_true", help="fetch pictures and videos from public addresses")
    parser.add_argument("--allow-host", action="append", default=[], metavar="HOST",
                        help="fetch pictures and videos from this host alone; may be repeated")  # fmt: skip
    parser.add_argument("--media-root", metavar="DIR", help="let clients name pictures and videos under this folder")
    parser.add_argument("--grace-seconds", type=float, default=10.0, metavar="N",
                        help="for answers under way when the server stops (default: 10)")  # fmt: skip
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR",
                        help="a LoRA adapter that clients choose as MODEL:NAME; may be repeated")  # fmt: skip
    parser.add_argument("--kv-gigabytes", type=float, metavar="N", help="memory for keys and values")
    parser.add_argument("--max-running", type=int, default=16, metavar="N", help="answers made at once (default: 16)")
    add_weights(parser)


def serve(args: argparse.Namespace) -> int:
    from clearsight.engine import EngineSettings
    from clearsight.media import MediaLimits
    from clearsight.server import ServerSettings
    from clearsight.server.run import serve as run
    from clearsight.server.settings import check_exposure, hosts_for

    keys = tuple(args.api_key) or tuple(filter(None, [os.environ.get(KEY_VARIABLE)]))
    try:
        names = tuple(dict.fromkeys([*args.served_name, args.model]))
        check_exposure(args.host, keys)
        settings = ServerSettings(
            names=names,
            keys=keys,
            hosts=hosts_for(args.host, keys),
            origins=tuple(args.allow_origin),
            grace_seconds=args.grace_seconds,
        )
        kv_bytes = None if args.kv_gigabytes is None else int(args.kv_gigabytes * 1e9)
        engine = EngineSettings(kv_bytes=kv_bytes, max_running=args.max_running)
        limits = MediaLimits(
            allow_files=False,
            allow_remote=args.allow_remote or bool(args.allow_host),
            public_only=not args.allow_host,
            allowed_hosts=tuple(args.allow_host) or None,
            media_root=args.media_root,
            decode_seconds=120,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    vlm = load(args, settings=engine, media_limits=limits, adapters=_adapters(args.adapter))
    print(f"clearsight: {args.model} is served at http://{args.host}:{args.port} (stop with Ctrl-C)", flush=True)
    run(vlm, settings, args.host, args.port)
    return 0


def _adapters(items: list[str]) -> dict[str, str]:
    """Folders by name. Raises UsageError."""
    found: dict[str, str] = {}
    for item in items:
        name, _, folder = item.partition("=")
        if not name or not folder:
            raise UsageError(f"--adapter is {item!r}; it must be NAME=DIR")
        if name in found:
            raise UsageError(f"--adapter names {name!r} twice")
        found[name] = folder
    return found
