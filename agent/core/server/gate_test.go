package server

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// slowCaller accepts written data piece by piece.
type slowCaller struct {
	*httptest.ResponseRecorder
	pieces chan int
	cut    chan struct{}
	over   chan error
}

func (c *slowCaller) Write(piece []byte) (int, error) {
	select {
	case c.pieces <- len(piece):
		return len(piece), nil
	case <-c.cut:
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *slowCaller) SetReadDeadline(time.Time) error { return nil }

func (c *slowCaller) SetWriteDeadline(time.Time) error {
	close(c.cut)
	return nil
}

// callSlowly makes a call whose response is one message of the given size.
func callSlowly(gate *Gate, procedure string, size int) *slowCaller {
	caller := &slowCaller{httptest.NewRecorder(), make(chan int), make(chan struct{}), make(chan error, 1)}
	entered := make(chan struct{})
	handler := gate.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		_, err := w.Write(make([]byte, size))
		if err != nil && r.Context().Err() == nil {
			panic("what was cut goes on")
		}
		caller.over <- err
	}))
	go handler.ServeHTTP(caller, httptest.NewRequest(http.MethodPost, procedure, nil))
	<-entered
	return caller
}

func TestACallerThatTakesPartOfAMessageIsNotCutBesideOneThatHasStopped(t *testing.T) {
	const limit = time.Minute
	gate := NewGate()
	reading := callSlowly(gate, agentv1connect.AgentServiceLogsProcedure, 1<<20)
	stopped := callSlowly(gate, agentv1connect.AgentServiceSessionProcedure, 1<<20)
	needing := callSlowly(gate, agentv1connect.AgentServiceArchivePutProcedure, 1)
	begin := time.Now()
	wantCut := func(after time.Duration, want int) {
		t.Helper()
		if count := gate.CutSlow(begin.Add(after), limit); count != want {
			t.Errorf("%d in place of %d are cut after %v", count, want, after)
		}
	}
	wantCut(0, 0)
	wantCut(limit-1, 0)
	left := 1 << 20
	take := func() { left -= <-reading.pieces }
	take()
	take() // it comes when the one before is counted
	wantCut(limit, 1)
	wantCut(limit, 0)
	if err := <-stopped.over; err == nil {
		t.Error("one that has stopped is not cut")
	}
	for left > 0 {
		take()
	}
	assert.Check(t, <-reading.over)
	<-needing.pieces
	assert.Check(t, <-needing.over)
}

func TestCallsThatNeedTheContainerAreCutAlone(t *testing.T) {
	gate := NewGate()
	reading := callSlowly(gate, agentv1connect.AgentServiceLogsProcedure, 1)
	needing := callSlowly(gate, agentv1connect.AgentServiceArchivePutProcedure, 1)
	watching := callSlowly(gate, agentv1connect.AgentServiceWatchProcedure, 1)
	gate.CutCalls()
	if err := <-needing.over; err == nil {
		t.Error("it is not cut")
	}
	assert.Check(t, gate.WaitReleased(contextFor(t)))
	for _, other := range []*slowCaller{reading, watching} {
		<-other.pieces
		assert.Check(t, <-other.over)
	}
}
