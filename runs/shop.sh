#!/bin/sh
# Teach nano to operate the demo shop as it is told in words, as an adapter in OUT/adapter: copying a line of an invented
# screen first, then single moves on the shop's pages, then whole tasks. Needs Chromium. Killed, the same command goes on.
. "$(dirname "$0")/adapter.sh"
OUT="${OUT:-runs/out/shop}"
[ -f "$OUT/tasks.jsonl" ] || .venv/bin/python recipes/shop.py "$OUT"

LORA="--lora 64 --warmup 10 --skip-bad"
learn "$OUT/lines" 1536 $LORA --data "$OUT/lines.jsonl" --lr 2e-3
learn "$OUT/moves" 2048 $LORA --data "$OUT/moves.jsonl" --lr 1.5e-3 --adapter "$OUT/lines/adapter"
learn "$OUT/ways" 3584 $LORA --data "$OUT/ways.jsonl" --data "$OUT/moves.jsonl" --lr 1.3e-3 --adapter "$OUT/moves/adapter"
learn "$OUT" 4096 $LORA --data "$OUT/tasks.jsonl" --data "$OUT/moves.jsonl" --lr 1e-3 --adapter "$OUT/ways/adapter"
