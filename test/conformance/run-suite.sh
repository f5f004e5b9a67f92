#!/bin/sh
# In a cell: starts a daemon and runs a suite against it; its output is /cell/output.
#
#   run-suite.sh sockerless|dockerd DIRECTORY COMMAND…
#
# PATH leads to the programs of moby's release, CONFORMANCE_CHECKOUT to the sockerless under test.
set -eu
daemon=$1 directory=$2
shift 2
export HOME=/cell/home DEST=/cell/dest TEST_CLIENT_BINARY=docker DOCKER_GRAPHDRIVER=overlay2 REGISTRY=127.0.0.1:5001
export DOCKER_HOST=unix:///run/docker.sock CONFORMANCE_FLAGS=/cell/unknown-flags
export CONFORMANCE_DAEMON=$daemon
mkdir -p "$HOME" "$DEST" /run/docker /cell/registry
case $daemon in
  dockerd)
    dockerd --host "$DOCKER_HOST" --storage-driver overlay2 --debug >/cell/daemon.log 2>&1 &
    ;;
  sockerless)
    export PATH="$CONFORMANCE_CHECKOUT/test/conformance/daemon:$PATH"
    export CONFORMANCE_SOCKERLESS="$CONFORMANCE_CHECKOUT/bin/sockerless"
    "$CONFORMANCE_SOCKERLESS" serve --host "$DOCKER_HOST" >/cell/daemon.log 2>&1 &
    ;;
esac
cat >/cell/registry.yml <<END
{version: "0.1", storage: {filesystem: {rootdirectory: /cell/registry}}, http: {addr: "$REGISTRY"}}
END
registry serve /cell/registry.yml >/cell/registry.log 2>&1 &
tries=0
until docker version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ]; then
    echo "the daemon does not answer:" && tail -n 20 /cell/daemon.log
    exit 125
  fi >&2
  sleep 0.2
done
tar --directory=/docker-frozen-images --create . | docker load --quiet >/dev/null
cd "$directory"
"$@" >/cell/output 2>&1
