#!/bin/sh
# Teach nano to play games, as an adapter: experts' games become data, the data an adapter in OUT/adapter. Killed, the
# same command goes on.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
OUT="${OUT:-runs/out/games}"
[ -f "$OUT/games.jsonl" ] || .venv/bin/python recipes/games.py "$OUT/games.jsonl"
export OMP_NUM_THREADS=1
exec .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" --no-python .venv/bin/clearsight train \
  --data "$OUT/games.jsonl" --model "${MODEL:-nano}" --out "$OUT" --lora 16 --lora-vision --lr 2e-3 \
  --max-tokens 2560 --pack-tokens 2560 --warmup 10 --epochs 3 "$@"
