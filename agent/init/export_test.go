package containerinit

import agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"

// LineWriter is what makes lines for the platform's log.
type LineWriter struct{ lineWriter }

// Take is take, kept.
func (w *LineWriter) Take(stream agentv1.Stream, data string) string {
	return string(w.take(stream, []byte(data)))
}

// Finish is finish, kept.
func (w *LineWriter) Finish() string { return string(w.finish()) }

// OwnEntry is the hosts entry of a container's own name.
var OwnEntry = ownEntry
