package containers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The namespaces of containers that it has not come to would go.
func TestAReclaimThatIsCancelledTakesNothing(t *testing.T) {
	c := newContainers(t)
	left := filepath.Join(c.layout.NetworkNamespaces(), strings.Repeat("ab", 32))
	if err := os.MkdirAll(filepath.Dir(left), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Reclaim(cancelled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := os.Lstat(left); err != nil {
		t.Error(err)
	}
	if err := c.Reclaim(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is left by a whole one:", err)
	}
}
