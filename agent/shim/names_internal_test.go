package shim

import (
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestNamesComeToTheResolverAlthoughTheHostsFileCannotBeWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	assert.NilError(t, os.WriteFile(file, nil, 0o600))
	a := &networkedAgent{resolver: &resolver{}, hosts: filepath.Join(file, "hosts")}
	err := a.Names(t.Context(), &agentv1.NamesRequest{Hosts: []*agentv1.HostsEntry{{Address: "172.17.0.2", Names: []string{"store"}}}})
	assert.Check(t, is.ErrorIs(err, unix.ENOTDIR))
	assert.Check(t, connect.CodeOf(err) == connect.CodeFailedPrecondition, "the resolver refuses as it has no network: %v", err)
}
