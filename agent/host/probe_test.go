package host

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/host/ociruntime"
)

// The process ends right after it: what the search has made must be gone by then.
func TestAProbeThatIsEndedHasTidiedUp(t *testing.T) {
	var tidied bool
	p := startProbe(t.Context(), func(ctx context.Context) (ociruntime.Probed, error) {
		<-ctx.Done()
		tidied = true
		return ociruntime.Probed{}, errors.New("cancelled")
	})
	p.end()
	assert.Check(t, tidied, "it has not")
}

// A machine that is out of memory for a moment would have no runtime for good.
func TestASearchThatFailedIsRepeatedAfterAPause(t *testing.T) {
	var searches atomic.Int32
	p := startProbe(t.Context(), func(context.Context) (ociruntime.Probed, error) {
		if searches.Add(1) == 1 {
			return ociruntime.Probed{}, unix.ENOMEM
		}
		return ociruntime.Probed{Name: "runc"}, nil
	})
	defer p.end()
	<-p.latest.done
	_, err := p.wait(t.Context())
	assert.Check(t, is.ErrorIs(err, unix.ENOMEM))
	p.pause = 0
	for range 2 {
		if found, err := p.wait(t.Context()); err != nil || found.Name != "runc" {
			t.Error(found, err)
		}
	}
	if count := searches.Load(); count != 2 {
		t.Errorf("%d searches", count)
	}
}
