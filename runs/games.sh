#!/bin/sh
# Teach nano to play games, as an adapter in OUT/adapter: an expert's games become data, first what hands are worth, in
# words, then games in words and in pictures. Killed, the same command goes on.
. "$(dirname "$0")/adapter.sh"
OUT="${OUT:-runs/out/games}"
[ -f "$OUT/games.jsonl" ] || .venv/bin/python recipes/games.py "$OUT"

LORA="--lora 64 --lora-vision --warmup 5"
learn "$OUT/hands" 2048 $LORA --data "$OUT/hands.jsonl" --lr 2e-3
learn "$OUT" 6144 $LORA --data "$OUT/games.jsonl" --data "$OUT/rules.jsonl" --lr 1e-3 --adapter "$OUT/hands/adapter"
