package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func opened(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file
}

func TestALockIsWaitedForUntilItIsFreeOrTheWaitIsOver(t *testing.T) {
	name := filepath.Join(t.TempDir(), "lock")
	first, second := opened(t, name), opened(t, name)
	if err := Lock(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	over := errors.New("the wait is over")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(over)
	if err := Lock(ctx, second); !errors.Is(err, over) {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() { taken <- Lock(t.Context(), second) }()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
}
