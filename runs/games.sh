#!/bin/sh
# Teach nano to play games, as an adapter in OUT/adapter: an expert's games become data, first in words, then in pictures
# as well. Killed, the same command goes on.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
OUT="${OUT:-runs/out/games}"
[ -f "$OUT/games.jsonl" ] || .venv/bin/python recipes/games.py "$OUT"
export OMP_NUM_THREADS=1

learn() {
  .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" --no-python .venv/bin/clearsight train --model "${MODEL:-nano}" \
    --lora 16 --lora-vision --lr 2e-3 --max-tokens 4096 --pack-tokens 4096 --warmup 5 "$@"
}

[ -d "$OUT/rules/adapter" ] || learn --data "$OUT/rules.jsonl" --out "$OUT/rules" --epochs 2
learn --data "$OUT/games.jsonl" --data "$OUT/rules.jsonl" --adapter "$OUT/rules/adapter" --out "$OUT" --epochs 1
