package session

import (
	"context"
	"math"
	"slices"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// leaving is a client that has left by its keys.
type leaving struct {
	sequence uint64
	detached *agentv1.StreamDetached
}

// Acknowledge says that a watcher has recorded what it was told up to a sequence.
func (c *Sessions) Acknowledge(sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hub.acknowledged = max(c.hub.acknowledged, sequence)
	c.left = slices.DeleteFunc(c.left, func(l leaving) bool { return l.sequence <= sequence })
	c.changed.Notify()
}

// AcknowledgeAll lets every client go: the container is released, which happens
// once its end is recorded.
func (c *Sessions) AcknowledgeAll() { c.Acknowledge(math.MaxUint64) }

// awaitAcknowledged waits until a sequence is acknowledged. An error is ctx's cause.
func (c *Sessions) awaitAcknowledged(ctx context.Context, sequence uint64) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return c.hub.acknowledged >= sequence })
}

// AwaitRecord waits until an exec's end is on the backend's record, where its client
// asks for it next. Clients of the main process wait for its end elsewhere. An error
// is ctx's cause.
func (s *Session) AwaitRecord(ctx context.Context) error {
	if s.owner == nil {
		return nil
	}
	return s.owner.awaitAcknowledged(ctx, s.end)
}

// TellDetached tells the watchers that the client has left by its keys, and waits
// until that is recorded. An error is ctx's cause.
func (s *Session) TellDetached(ctx context.Context) error {
	c := s.owner
	c.mu.Lock()
	detached := &agentv1.StreamDetached{ExecId: s.execID}
	sequence := c.hub.owe(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_StreamDetached{StreamDetached: detached}})
	c.left = append(c.left, leaving{sequence, detached})
	c.mu.Unlock()
	return c.awaitAcknowledged(ctx, sequence)
}
