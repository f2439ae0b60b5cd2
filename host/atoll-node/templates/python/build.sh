#!/bin/sh
# Makes the component handler.wasm of src/app.py; the tool for it goes into .venv.
set -eu
if [ ! -x .venv/bin/componentize-py ]; then
    python3 -m venv .venv
    .venv/bin/pip install --quiet --disable-pip-version-check componentize-py==0.25.1
fi
.venv/bin/componentize-py --quiet -d wit -w handler componentize -p src app -o handler.wasm
