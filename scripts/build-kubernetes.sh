#!/bin/bash
# build-kubernetes.sh DIRECTORY VERSION: Kubernetes and etcd from Go modules, into DIRECTORY/bin.
set -eu
directory=$1 version=$2
mkdir -p "$directory/bin" "$directory/modules"

# The sources of a module, as the proxy has them.
module() {
  cd "$directory/modules"
  [ -f go.mod ] || go mod init modules >/dev/null 2>&1
  go mod download -json "$1" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p'
}

cp -r "$(module "k8s.io/kubernetes@v$version")" "$directory/kubernetes"
chmod -R u+w "$directory/kubernetes"
cd "$directory/kubernetes"
rm -rf vendor go.work go.work.sum
# The staging modules are modules of their own on the proxy.
sed -i -E "s#=> \./staging/src/(k8s\.io/[a-z0-9-]+)#=> \1 v0.${version#1.}#" go.mod
go mod tidy -e >/dev/null 2>&1
minor=${version#1.}
about="-X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/component-base/version.gitMajor=1"
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $about -X k8s.io/component-base/version.gitMinor=${minor%%.*}" -o "$directory/bin/" \
  ./cmd/kube-apiserver ./cmd/kube-controller-manager ./cmd/kube-scheduler ./cmd/kubelet ./cmd/kubectl

cp -r "$(module go.etcd.io/etcd/server/v3@v3.6.5)" "$directory/etcd"
chmod -R u+w "$directory/etcd"
cd "$directory/etcd"
sed -i '/^replace (/,/^)/d' go.mod
CGO_ENABLED=0 GOFLAGS=-mod=mod go build -trimpath -ldflags "-s -w" -o "$directory/bin/etcd" .
