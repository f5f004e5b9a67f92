package containers

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/jsonfile"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
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

// endedContainer has the records of a container that has ended with 3.
func endedContainer(t *testing.T, c *Containers) (id string, paths shimspec.ContainerPaths) {
	t.Helper()
	id = strings.Repeat("cd", 32)
	paths = c.layout.Container(id)
	state, err := protojson.Marshal(&agentv1.ContainerState{Exit: &agentv1.ExitStatus{Code: 3}})
	assert.NilError(t, err)
	exit, err := shimspec.ExitRecord{Version: 1, ContainerID: id, Generation: 1}.WithState(state)
	assert.NilError(t, errors.Join(
		err, os.MkdirAll(paths.Dir, 0o700),
		jsonfile.Write(paths.Spec(), shimspec.Spec{Version: 1, Generation: 1, AgentSocket: paths.AgentSocket()}),
		jsonfile.Write(paths.ExitRecord(), exit),
	))
	return id, paths
}

func TestAnExitIsToldAsItWasOrNotAtAll(t *testing.T) {
	c := newContainers(t)
	id, paths := endedContainer(t, c)
	code := func() (code int32, told bool) {
		found, err := c.List([]string{id})
		assert.NilError(t, err)
		exit := found[0].GetLastState().GetExit()
		return exit.GetCode(), exit != nil
	}
	if code, told := code(); code != 3 || !told {
		t.Fatalf("told %t, %d", told, code)
	}
	whole, err := os.ReadFile(paths.ExitRecord())
	assert.NilError(t, err)
	for place := range whole {
		for bit := range 8 {
			flipped := bytes.Clone(whole)
			flipped[place] ^= 1 << bit
			assert.NilError(t, os.WriteFile(paths.ExitRecord(), flipped, 0o600))
			if code, told := code(); told && code != 3 {
				t.Errorf("told %d: %s", code, flipped)
			}
		}
	}
}

func TestFilesWhoseRecordIsDamagedAreNotRenewed(t *testing.T) {
	c := newContainers(t)
	_, paths := endedContainer(t, c)
	assert.NilError(t, os.Mkdir(rootRecordPath(paths), 0o700))
	err := c.renewIfChanged(&hostv1.LaunchContainerRequest{Keep: true, LayerDiffIds: []string{"sha256:other"}}, paths)
	assert.Check(t, is.ErrorContains(err, rootRecordPath(paths)))
}

func TestARecordThatCannotBeReadHidesNoOtherContainer(t *testing.T) {
	c := newContainers(t)
	id, paths := endedContainer(t, c)
	for _, record := range []string{paths.ExitRecord(), paths.Spec()} {
		assert.NilError(t, errors.Join(os.Remove(record), os.Mkdir(record, 0o700)))
		found, err := c.List(nil)
		if err != nil || len(found) != 1 || found[0].ContainerId != id {
			t.Errorf("%s: found %v, %v", record, found, err)
		}
	}
}
