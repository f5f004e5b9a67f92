#!/bin/sh
# npm start: prepares what is missing, then becomes `sockerless serve`, so that signals and exit code are its own.
set -eu
cd "$(dirname "$0")/.."
node scripts/prepare-serve.mjs "$@"
exec bin/sockerless serve "$@"
