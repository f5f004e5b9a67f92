#!/bin/sh
# npm start: prepares what is missing, then becomes `sockerless serve`, so that signals and exit code are its own.
# package.json runs it by `exec`: npm passes signals to its child, and a shell in between would keep them.
set -eu
cd "$(dirname "$0")/.."
node scripts/prepare-serve.mjs "$@"
exec bin/sockerless serve "$@"
