package backend_test

import (
	"errors"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

func TestLeftContainersAreRemovedTogether(t *testing.T) {
	server, client := backendtest.Start(t)
	const many = 16
	for range 2 * many {
		_, _, err := client.CreateContainer(t.Context(), &backendv1.ContainerConfig{}, &backendv1.HostConfig{})
		assert.NilError(t, err)
	}
	var together sync.WaitGroup // each waits for others that are removed beside it
	together.Add(many)
	var count sync.Mutex
	begun := 0
	server.Before = func(procedure string) {
		if procedure != "RemoveContainer" {
			return
		}
		count.Lock()
		if begun++; begun <= many {
			together.Done()
		}
		count.Unlock()
		together.Wait()
	}
	if err := client.RemoveLeftContainers(t.Context()); err != nil || len(server.Containers()) > 0 {
		t.Errorf("%d are left, %v", len(server.Containers()), err)
	}
}

func TestALeftContainerThatIsBeingRemovedHoldsUpNoBuilder(t *testing.T) {
	server, client := backendtest.Start(t)
	_, _, err := client.CreateContainer(t.Context(), &backendv1.ContainerConfig{}, &backendv1.HostConfig{})
	assert.NilError(t, err)
	server.RemoveContainerError = func() error {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("removal of container a is already in progress"))
	}
	assert.Check(t, client.RemoveLeftContainers(t.Context()))
}
