package containerinit

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
)

// unlisted is a container whose image could not be listed.
func unlisted(err error) *container {
	ready := make(chan struct{})
	close(ready)
	return &container{stock: &stock{ready: ready, err: err}}
}

func TestAnImageBeyondTheBoundIsAConflictThatNamesTheBound(t *testing.T) {
	t.Parallel()
	_, err := takeInventory(&settings{logDir: t.TempDir()}, 3)
	if err == nil {
		t.Fatal("the inventory has no bound")
	}
	_, err = unlisted(err).FileSystem(t.Context())
	if code := connect.CodeOf(err); code != connect.CodeFailedPrecondition {
		t.Errorf("the code is %v", code)
	}
	if err == nil || !strings.Contains(err.Error(), "more than 3 files") {
		t.Errorf("the bound is not named: %v", err)
	}
}

func TestFilesAreWaitedForUntilTheyAreListed(t *testing.T) {
	t.Parallel()
	c := &container{stock: &stock{ready: make(chan struct{})}}
	ctx, cancel := context.WithCancelCause(t.Context())
	impatient := errors.New("not for so long")
	cancel(impatient)
	if _, err := c.Files(ctx, false); !errors.Is(err, impatient) {
		t.Errorf("before: %v", err)
	}
	close(c.stock.ready)
	root, err := c.Files(t.Context(), false)
	assert.NilError(t, err, "after")
	root.Close()
}

func TestAnImageThatCannotBeReadIsNoMissingFeature(t *testing.T) {
	t.Parallel()
	_, err := unlisted(errors.New("read directory /x: input/output error")).FileSystem(t.Context())
	if code := connect.CodeOf(err); code != connect.CodeInternal {
		t.Errorf("the code is %v", code)
	}
}
