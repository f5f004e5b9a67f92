package containers

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

func TestNameFilesFollowANetworkAndKeepWhatTheContainerWrote(t *testing.T) {
	paths := shimspec.ContainerPaths{Dir: t.TempDir()}
	assert.NilError(t, os.Mkdir(paths.Files(), 0o700))
	write := func(name, content string) {
		t.Helper()
		assert.NilError(t, os.WriteFile(filepath.Join(paths.Files(), name), []byte(content), 0o644))
	}
	want := func(name, content string) {
		t.Helper()
		if got, err := os.ReadFile(filepath.Join(paths.Files(), name)); err != nil || string(got) != content {
			t.Errorf("%s is %q, error %v", name, got, err)
		}
	}
	change := func(change *hostv1.NameFileChange) {
		t.Helper()
		assert.NilError(t, changeNameFiles(paths, change))
	}
	change(&hostv1.NameFileChange{AddHost: "10.0.0.2\tbox", ResolvConf: []byte("new")}) // no files: none are made
	write("hosts", "127.0.0.1\tlocalhost\n10.9.9.9\town # no final newline")
	write("resolv.conf", "before")
	joined := &hostv1.NameFileChange{AddHost: "10.0.0.2\tbox", ResolvConfBefore: []byte("before"), ResolvConf: []byte("after")}
	for range 2 { // it may be repeated
		change(joined)
	}
	want("hosts", "127.0.0.1\tlocalhost\n10.9.9.9\town # no final newline\n10.0.0.2\tbox\n")
	want("resolv.conf", "after")
	write("resolv.conf", "the container's")
	change(joined)
	want("resolv.conf", "the container's")
	change(&hostv1.NameFileChange{RemoveHost: "10.0.0.2"})
	want("hosts", "127.0.0.1\tlocalhost\n10.9.9.9\town # no final newline\n")
}
