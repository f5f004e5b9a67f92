package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
)

func opened(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	assert.NilError(t, err)
	t.Cleanup(func() { file.Close() })
	return file
}

func TestALockIsWaitedForUntilItIsFreeOrTheWaitIsOver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	first, second := opened(t, name), opened(t, name)
	assert.NilError(t, Lock(t.Context(), first))
	over := errors.New("the wait is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(over)
	assert.ErrorIs(t, Lock(ctx, second), over)
	taken := make(chan error, 1)
	go func() { taken <- Lock(t.Context(), second) }()
	assert.NilError(t, first.Close())
	assert.NilError(t, <-taken)
}
