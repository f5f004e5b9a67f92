#!/bin/sh
# npm start: prepares what is missing, then becomes `sockerless serve`, so that signals and exit code are its own.
# package.json runs it by `exec`: npm passes signals to its child, and a shell in between would keep them.
set -eu
cd "$(dirname "$0")/.."
# As root too a signal must not open Node's debugger. The one that is installed here can be told so; before it is, the
# machine's own prepares, which may be too old.
node=node_modules/node/bin/node
[ -x "$node" ] || node=node
if "$node" --disable-sigusr1 --version >/dev/null 2>&1; then
  "$node" --disable-sigusr1 scripts/prepare-serve.mjs "$@"
else
  "$node" scripts/prepare-serve.mjs "$@"
fi
exec bin/sockerless serve "$@"
