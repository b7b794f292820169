#!/bin/bash
# Lets the bundled model tell a story. usage: scripts/demo.sh PATH-TO-STARLANE
set -euo pipefail
starlane=$1

"$starlane" run starling "Once upon a time there was a little girl who" \
    --max-tokens 120 --temp 0.7 --top-p 0.9 --seed 3 --echo
echo
echo "Any GGUF file you have downloaded: $starlane run path/to/model.gguf \"prompt\""
