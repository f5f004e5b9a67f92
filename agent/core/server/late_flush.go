package server

import (
	"context"
	"net/http"
	"time"

	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// flushAfter is how long an answer may be held back; a variable, so that a slow
// machine changes nothing in tests.
var flushAfter = time.Second

type lateFlushKey struct{}

// lateFlusher is the writer of an answer that leaves in as few writes as it fits
// in, once late, where it is done soon. Each message of a call is flushed otherwise,
// which over HTTP/1.1 is a write, and a wake-up of the caller, each.
type lateFlusher struct {
	http.ResponseWriter
	late  bool
	begun time.Time
}

// withLateFlush gives logs over HTTP/1.1, by which callers ask for few lines, a
// lateFlusher.
func withLateFlush(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && r.URL.Path == agentv1connect.AgentServiceLogsProcedure {
			late := &lateFlusher{ResponseWriter: w, begun: time.Now()}
			w, r = late, r.WithContext(context.WithValue(r.Context(), lateFlushKey{}, late))
		}
		next.ServeHTTP(w, r)
	})
}

// flushLate holds the answer of a call back, before its first message.
func flushLate(ctx context.Context) {
	if l, _ := ctx.Value(lateFlushKey{}).(*lateFlusher); l != nil {
		l.late = true
		// Else net/http sees an answer of a known length, which has no trailers.
		l.Header().Set("Trailer", "Grpc-Status")
	}
}

// Flush is connect's.
func (l *lateFlusher) Flush() {
	if flusher, can := l.ResponseWriter.(http.Flusher); can && (!l.late || time.Since(l.begun) > flushAfter) {
		flusher.Flush()
	}
}
