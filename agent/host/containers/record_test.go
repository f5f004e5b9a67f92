package containers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// A container that nobody can ask about may run.
func TestAContainerWhoseSocketCannotBeAskedIsNotFoundDead(t *testing.T) {
	c := newContainers(t)
	id := strings.Repeat("ab", 32)
	paths := c.layout.Container(id)
	ready := shimspec.Readiness{Version: 1, Generation: 1}
	assert.NilError(t, errors.Join(
		os.MkdirAll(paths.Dir, 0o700), os.MkdirAll(paths.Run, 0o700),
		jsonfile.Write(paths.Spec(), shimspec.Spec{Version: 1, Generation: 1, AgentSocket: paths.AgentSocket()}),
		jsonfile.Write(paths.ReadyRecord(), ready),
		os.Symlink(filepath.Base(paths.AgentSocket()), paths.AgentSocket()),
	))
	if found, err := c.List([]string{id}); !errors.Is(err, unix.ELOOP) {
		t.Error(found, err)
	}
	assert.Check(t, is.ErrorIs(c.Release(t.Context(), id), unix.ELOOP))
	_, err := os.Lstat(paths.ReadyRecord())
	assert.Check(t, err, "it was released")
	// Nor is its network one that nobody uses.
	namespace := c.layout.NetworkNamespace(id)
	assert.NilError(t, errors.Join(os.MkdirAll(filepath.Dir(namespace), 0o700), os.WriteFile(namespace, nil, 0o600), c.Reclaim(t.Context())))
	_, err = os.Lstat(namespace)
	assert.Check(t, err)
}
