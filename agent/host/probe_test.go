package host

import (
	"context"
	"errors"
	"testing"

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
	if !tidied {
		t.Error("it has not")
	}
}
