package handover

import (
	"context"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestProgressIsWhatAClientTakesOfWhatTheKernelHoldsToo(t *testing.T) {
	offers := NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	conns := pairOf(t)
	reader := conns[0]
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	given := Give(Client{Conn: conns[1], offers: offers}, cancel)
	progressed := func() bool {
		offers.mu.Lock()
		defer offers.mu.Unlock()
		for p := range offers.carried {
			return p.look()
		}
		return false
	}
	assert.Check(t, !progressed(), "nothing was written")
	const piece = 64 << 10
	for range 2 {
		_, err := given.Write(make([]byte, piece))
		assert.NilError(t, err)
	}
	assert.Check(t, progressed(), "there was room for it")
	assert.Check(t, !progressed(), "the client has taken nothing since")
	for range 2 {
		_, err := io.ReadFull(reader, make([]byte, piece))
		assert.NilError(t, err)
		if !progressed() || progressed() {
			t.Error("the client has taken a piece, once")
		}
	}
	assert.NilError(t, given.End(nil))
	assert.Check(t, is.Len(offers.carried, 0), "a client that was given all is still looked at")
	assert.Check(t, ctx.Err())
}

func TestAClientThatGoesOnReadingIsNotCutBesideOneThatHasStopped(t *testing.T) {
	offers := NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	const piece, limit = 64 << 10, time.Minute
	var reader *net.UnixConn
	var given [2]*Given
	for i := range given {
		conns := pairOf(t)
		reader = conns[0] // the last one's
		_, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		given[i] = Give(Client{Conn: conns[1], offers: offers}, cancel)
		for range 2 {
			_, err := given[i].Write(make([]byte, piece))
			assert.NilError(t, err)
		}
	}
	begin := time.Now()
	wantCut := func(after time.Duration, want int) {
		t.Helper()
		if count := offers.CutSlow(begin.Add(after), limit); count != want {
			t.Errorf("%d in place of %d are cut after %v", count, want, after)
		}
	}
	wantCut(0, 0)
	wantCut(limit-1, 0)
	_, err := io.ReadFull(reader, make([]byte, piece))
	assert.NilError(t, err)
	wantCut(limit, 1)
	wantCut(limit, 0) // it is cut already
	if _, err := given[0].Write([]byte("x")); err == nil {
		t.Error("one that has stopped is not cut")
	}
	_, err = given[1].Write([]byte("x"))
	assert.Check(t, err)
	wantCut(limit+1, 0)
	wantCut(2*limit+1, 1)
}

func TestASessionsClientIsLookedAtAsLongAsItIsCarried(t *testing.T) {
	offers := NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	conns := pairOf(t)
	session := unrecorded{make(chan *agentv1.SessionResponse)}
	over := make(chan struct{})
	go func() {
		defer close(over)
		Carry(Client{Conn: conns[1], offers: offers}, session, Way{})
	}()
	look := func() int {
		offers.mu.Lock()
		defer offers.mu.Unlock()
		return len(offers.carried)
	}
	failed := &agentv1.SessionError{Reason: agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED}
	last := &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Error{Error: failed}}
	output := &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Stdout{Stdout: &agentv1.Output{Data: []byte("x")}}}
	session.last <- output
	session.last <- output // once the first is written
	assert.Check(t, look() == 1, "nobody looks at it")
	session.last <- last
	if content, err := io.ReadAll(conns[0]); err != nil || string(content) != "xx" {
		t.Fatalf("%q, %v", content, err)
	}
	<-over
	assert.Check(t, look() == 0, "it is looked at although it is over")
}

func TestAWaitForTheClientsOfOffersEndsWithTheLast(t *testing.T) {
	offers := NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.New(slog.DiscardHandler))
	defer offers.Close()
	assert.NilError(t, offers.WaitTaken(t.Context()))
	offer, err := offers.Make()
	assert.NilError(t, err)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, offers.WaitTaken(over), context.Canceled, "an offer is open")
	waited := make(chan error)
	go func() { waited <- offers.WaitTaken(t.Context()) }()
	offer.Withdraw()
	assert.NilError(t, <-waited)
}
