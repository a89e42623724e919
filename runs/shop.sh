#!/bin/sh
# Teach nano to operate the demo shop as it is told in words, as an adapter in OUT/adapter: single moves first, then whole
# tasks as well. Needs Chromium. Killed, the same command goes on.
set -e
cd "$(dirname "$0")/.."
make --quiet .venv/.train .venv/.agent
OUT="${OUT:-runs/out/shop}"
[ -f "$OUT/tasks.jsonl" ] || .venv/bin/python recipes/shop.py "$OUT"
export OMP_NUM_THREADS=1

learn() {
  .venv/bin/torchrun --nproc-per-node "${PROCESSES:-2}" --no-python .venv/bin/clearsight train --model "${MODEL:-nano}" \
    --lora 32 --max-tokens 8192 --pack-tokens 6144 --warmup 10 "$@"
}

[ -d "$OUT/moves/adapter" ] || learn --data "$OUT/moves.jsonl" --out "$OUT/moves" --lr 2e-3
learn --data "$OUT/tasks.jsonl" --data "$OUT/moves.jsonl" --adapter "$OUT/moves/adapter" --out "$OUT" --lr 8e-4
