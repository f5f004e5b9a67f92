package containerinit

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
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
	assert.Assert(t, err != nil, "the inventory has no bound")
	_, err = unlisted(err).FileSystem(t.Context())
	if code := connect.CodeOf(err); code != connect.CodeFailedPrecondition {
		t.Errorf("the code is %v", code)
	}
	assert.Check(t, is.ErrorContains(err, "more than 3 files"), "the bound is not named")
}

func TestFilesAreWaitedForUntilTheyAreListed(t *testing.T) {
	t.Parallel()
	c := &container{stock: &stock{ready: make(chan struct{})}}
	ctx, cancel := context.WithCancelCause(t.Context())
	impatient := errors.New("not for so long")
	cancel(impatient)
	_, err := c.Files(ctx, false)
	assert.Check(t, is.ErrorIs(err, impatient), "before")
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
