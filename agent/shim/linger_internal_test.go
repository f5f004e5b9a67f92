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

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// A shim may leave by itself just before the container is released.
func TestClientsAreCutByTheSecondWordOfARelease(t *testing.T) {
	for _, isTold := range []bool{false, true} {
		listening, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
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
		cut := make(chan struct{})
		go func() {
			defer close(cut)
			s.linger(isTold)
		}()
		for left := 2; left > 0; left-- {
			if isTold && left == 2 {
				continue
			}
			select {
			case s.terminate <- unix.SIGTERM: // of the last one it has heard
			case <-time.After(2 * time.Minute):
				t.Fatalf("told %t: its clients were cut before", isTold)
			}
		}
		<-cut
	}
}
