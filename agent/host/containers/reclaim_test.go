package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// The namespaces of containers that it has not come to would go.
func TestAReclaimThatIsCancelledTakesNothing(t *testing.T) {
	c := newContainers(t)
	left := filepath.Join(c.layout.NetworkNamespaces(), strings.Repeat("ab", 32))
	assert.NilError(t, os.MkdirAll(filepath.Dir(left), 0o700))
	assert.NilError(t, os.WriteFile(left, nil, 0o600))
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Check(t, is.ErrorIs(c.Reclaim(cancelled), context.Canceled))
	_, err := os.Lstat(left)
	assert.Check(t, err)
	assert.Check(t, c.Reclaim(t.Context()))
	_, err = os.Lstat(left)
	assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "it is left by a whole one")
}

func TestAContainerThatTakesLongDelaysTheReclaimOfNoOther(t *testing.T) {
	c := newContainers(t)
	var runs []string
	for index := range mostReclaimed + 1 {
		id := fmt.Sprintf("%016x%048x", index, 0)
		paths := c.layout.Container(id)
		assert.NilError(t, errors.Join(os.MkdirAll(paths.Dir, 0o700), os.MkdirAll(paths.Run, 0o700)))
		runs = append(runs, paths.Run)
	}
	held := fmt.Sprintf("%064x", 0)
	unlock, err := c.locks.Lock(t.Context(), held)
	assert.NilError(t, err)
	reclaimed := make(chan error, 1)
	go func() { reclaimed <- c.Reclaim(t.Context()) }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left := 0
		for _, run := range runs {
			if _, err := os.Lstat(run); err == nil {
				left++
			}
		}
		if left == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("%d are left", left)
			break
		}
	}
	unlock()
	assert.Check(t, <-reclaimed)
	_, err = os.Lstat(runs[0])
	assert.Check(t, is.ErrorIs(err, os.ErrNotExist), "it is not reclaimed once it can be")
}
