package network

import (
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestARunningContainerIsConnectedAndDisconnected(t *testing.T) {
	l := newLab(t)
	outside := l.outside()
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24", Isolate: true})
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24", Isolate: true})
	path := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
	peer := l.listen(l.container("bbbbbbbbbbbb", "skl1", "10.213.2.9"), "10.213.2.9")
	a := Namespace{ContainerID: "aaaaaaaaaaaa", Generation: 1, Path: path}
	second := Interface{Bridge: "skl1", Address: "10.213.2.2/24", MAC: "02:42:0a:d5:02:02"}
	if seen := l.dialOnce(path, peer); seen != "" {
		t.Fatalf("the peer answered %q before the connection", seen)
	}
	for range 2 { // it may be repeated
		l.must(l.Connect(a, second, ""))
	}
	if seen := l.dial(path, peer); seen != "10.213.2.2" {
		t.Errorf("the peer sees %q", seen)
	}
	// The first leg goes, and the second becomes the way out.
	for range 2 {
		l.must(l.Disconnect(a, "skl0", "10.213.2.1"))
	}
	if seen := l.dial(path, l.listen(outside, outsideAddress)); seen != machineAddress {
		t.Errorf("the outside sees %q", seen)
	}
	if seen := l.dial(path, peer); seen != "10.213.2.2" {
		t.Errorf("the peer sees %q once the first leg is gone", seen)
	}
	// Its number is free, its leg comes back; what is left goes with the namespace.
	l.must(l.Connect(a, Interface{Bridge: "skl0", Address: "10.213.1.2/24"}, "10.213.1.1"))
	l.must(l.Disconnect(a, "skl0", "10.213.2.1"))
	l.must(l.Disconnect(a, "skl7", ""))
}

func TestAReclaimKeepsTheLegsOfARunningContainer(t *testing.T) {
	l := newLab(t)
	l.bridge(Bridge{Name: "skl0", Gateway: "10.213.1.1/24"})
	l.bridge(Bridge{Name: "skl1", Gateway: "10.213.2.1/24"})
	path := l.container("aaaaaaaaaaaa", "skl0", "10.213.1.2")
	a := Namespace{ContainerID: "aaaaaaaaaaaa", Generation: 1, Path: path}
	l.must(l.Connect(a, Interface{Bridge: "skl1", Address: "10.213.2.2/24"}, ""))
	l.must(l.Disconnect(a, "skl0", ""))
	l.must(l.Reclaim([]Namespace{a}))
	if seen := l.dial(path, l.listen("/proc/self/ns/net", "10.213.2.1")); seen != "10.213.2.2" {
		t.Errorf("the machine sees %q", seen)
	}
	l.must(l.Delete(a.ContainerID, 1, path))
	left, _ := filepath.Glob(path + "*")
	assert.Check(t, is.Len(left, 0), "left")
}
