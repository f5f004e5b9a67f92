package session

import (
	"testing"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestQueuesOfSlowClientsShareABound(t *testing.T) {
	before := queued.Load()
	const clients = 200
	data := make([]byte, 16<<10)
	queues := make([]*queue, clients)
	for i := range queues {
		queues[i] = newQueue()
		for queues[i].size < roomOfOne() {
			queues[i].push(stdout, data, func() bool { return false })
		}
	}
	if first := queues[0].size; first != queueLimit {
		t.Errorf("alone, %d bytes wait", first)
	}
	if total := queued.Load() - before; total > queuedTotal+clients*(queueLeast+int64(len(data))) {
		t.Errorf("%d bytes wait", total)
	}
	for i, q := range queues {
		if i%2 == 0 {
			for q.size > 0 {
				_, err := q.next(t.Context())
				assert.NilError(t, err)
			}
		}
		q.finish(&agentv1.SessionResponse{})
		q.close()
	}
	if left := queued.Load() - before; left != 0 {
		t.Errorf("%d bytes are counted that nobody holds", left)
	}
}
