package backend_test

import (
	"context"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/builder/backend/backendtest"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// cancelledIn cancels a build while the backend executes a call.
func cancelledIn(server *backendtest.Backend, procedure string) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	server.Before = func(called string) {
		if called == procedure {
			cancel()
		}
	}
	return ctx
}

func TestACreationOfACancelledBuildIsAnswered(t *testing.T) {
	server, client := backendtest.Start(t)
	ctx := cancelledIn(server, "CreateContainer")
	id, _, err := client.CreateContainer(ctx, &backendv1.ContainerConfig{}, nil)
	assert.NilError(t, err)
	assert.Check(t, is.DeepEqual(server.Containers(), []string{id}))
	_, _, err = client.CreateContainer(ctx, &backendv1.ContainerConfig{}, nil)
	assert.Check(t, is.ErrorIs(err, context.Canceled), "began another")
}

func TestACommitOfACancelledBuildIsAnswered(t *testing.T) {
	server, client := backendtest.Start(t)
	ctx := cancelledIn(server, "CommitContainer")
	made, err := client.CommitContainer(ctx, "any", nil, []byte("{}"))
	assert.NilError(t, err)
	if there := server.Images(); len(there) != 1 || there[0] != made.ID {
		t.Errorf("has %v instead of %s", there, made.ID)
	}
	_, err = client.CommitContainer(ctx, "other", nil, []byte("{}"))
	assert.Check(t, is.ErrorIs(err, context.Canceled), "began another")
}

func TestAnImageThatWasSentWholeIsKnownToBeThere(t *testing.T) {
	server, client := backendtest.Start(t)
	ctx := cancelledIn(server, "LoadImage")
	id, err := client.InstallImage(ctx, []byte("{}"), nil, nil, nil, true)
	assert.NilError(t, err)
	if there := server.Images(); len(there) != 1 || there[0] != id {
		t.Errorf("has %v instead of %s", there, id)
	}
}

func TestAnImageWhoseSenderWasCancelledIsNotInstalled(t *testing.T) {
	server, client := backendtest.Start(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := client.InstallImage(ctx, []byte("{}"), nil, nil, nil, true); err == nil {
		t.Error("succeeded")
	}
	assert.Check(t, is.Len(server.Images(), 0))
}
