package session

import (
	"context"
	"math"
	"slices"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// leaving is a client that has detached by its keys.
type leaving struct {
	sequence uint64
	detached *agentv1.StreamDetached
}

// Acknowledge records that a watcher has recorded all events up to sequence.
func (c *Sessions) Acknowledge(sequence uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hub.acknowledged = max(c.hub.acknowledged, sequence)
	c.left = slices.DeleteFunc(c.left, func(l leaving) bool { return l.sequence <= sequence })
	c.changed.Notify()
}

// AcknowledgeAll releases every waiting client: the container's release follows
// the record of its end.
func (c *Sessions) AcknowledgeAll() { c.Acknowledge(math.MaxUint64) }

// awaitAcknowledged waits until sequence is acknowledged. It fails only with
// ctx's cause.
func (c *Sessions) awaitAcknowledged(ctx context.Context, sequence uint64) error {
	return c.changed.Wait(ctx, &c.mu, func() bool { return c.hub.acknowledged >= sequence })
}

// AwaitRecord waits until the backend has recorded an exec's end, which its
// client inspects next. Clients of the main process wait elsewhere. It fails only
// with ctx's cause.
func (s *Session) AwaitRecord(ctx context.Context) error {
	if s.owner == nil {
		return nil
	}
	return s.owner.awaitAcknowledged(ctx, s.end)
}

// TellDetached tells the watchers that the client has detached by its keys, and
// waits until that is recorded. It fails only with ctx's cause.
func (s *Session) TellDetached(ctx context.Context) error {
	c := s.owner
	c.mu.Lock()
	detached := &agentv1.StreamDetached{ExecId: s.execID}
	sequence := c.hub.publishOwed(&agentv1.WatchResponse{Event: &agentv1.WatchResponse_StreamDetached{StreamDetached: detached}})
	c.left = append(c.left, leaving{sequence, detached})
	c.mu.Unlock()
	return c.awaitAcknowledged(ctx, sequence)
}
