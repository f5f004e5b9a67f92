package containerinit

import agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"

// LineWriter formats lines for the platform's log.
type LineWriter struct{ lineWriter }

// Take is take with a copied result.
func (w *LineWriter) Take(stream agentv1.Stream, data string) string {
	return string(w.take(stream, []byte(data)))
}

// Finish is finish with a copied result.
func (w *LineWriter) Finish() string { return string(w.finish()) }

// OwnEntry is the hosts entry of a container's own name.
var OwnEntry = ownEntry
