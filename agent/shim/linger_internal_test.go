package shim

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// A shim may leave by itself just before its container is released, and a host
// process that dies meanwhile may have released it before.
func TestClientsAreCutByTheFirstWordAfterThatOfTheRelease(t *testing.T) {
	for name, word := range map[string]struct {
		isTold, isRepeated bool
		left               int // words, of the last of which it is to end
	}{
		"left by itself":                          {left: 2},
		"released while it left by itself":        {isRepeated: true, left: 1},
		"released":                                {isTold: true, left: 1},
		"released again before its clients alone": {isTold: true, isRepeated: true, left: 1},
	} {
		t.Run(name, func(t *testing.T) {
			listening, err := os.Open(os.DevNull)
			assert.NilError(t, err)
			s := &shim{
				logger: slog.New(slog.DiscardHandler), terminate: make(chan os.Signal, 1), listening: listening, gate: server.NewGate(),
				http: &http.Server{}, handOvers: handover.NewOffers(filepath.Join(t.TempDir(), "hand.sock"), slog.Default()),
			}
			entered, leave := make(chan struct{}), make(chan struct{})
			defer close(leave)
			reading := s.gate.Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				close(entered)
				<-leave
			}))
			go reading.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, agentv1connect.AgentServiceLogsProcedure, nil))
			<-entered
			if word.isRepeated {
				s.terminate <- unix.SIGTERM
			}
			cut := make(chan struct{})
			go func() {
				defer close(cut)
				s.linger(word.isTold)
			}()
			if !word.isRepeated { // else the channel is full until it lingers
				for err == nil {
					time.Sleep(time.Millisecond)
					_, err = listening.Stat()
				}
			}
			for ; word.left > 0; word.left-- {
				select {
				case s.terminate <- unix.SIGTERM:
				case <-time.After(2 * time.Minute):
					t.Fatal("its clients were cut before")
				}
			}
			<-cut
			assert.Check(t, is.Len(s.terminate, 0), "its clients were cut before the last word")
		})
	}
}
