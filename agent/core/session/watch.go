package session

import (
	"context"
	"errors"
	"sync"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// watchLimit bounds the events queued for one watcher. A watcher that falls
// behind is cut; its next watch starts with the whole state.
const watchLimit = 4096

// errWatchBehind ends the watch of a client that does not read.
var errWatchBehind = errors.New("the watcher fell behind: watch again")

// hub sends events to watchers. Sessions.mu serialises its calls, so that no
// event is missing or repeated after a snapshot.
type hub struct {
	sequence uint64 // of the last event; the initial state has 1
	// generation of the last accepted start; 0: none
	generation uint64
	// Sequences of the last event to be acknowledged, and of the last one
	// acknowledged.
	owed, acknowledged uint64
	watchers           map[*Watcher]struct{}
	released           bool
}

// Watcher receives the container's events.
type Watcher struct {
	hub   *hub
	ready chan struct{}

	mu     sync.Mutex
	events []*agentv1.WatchResponse
	behind bool
	closed func()
}

// publish stamps an event and sends it to every watcher.
func (h *hub) publish(event *agentv1.WatchResponse) {
	h.sequence++
	event.Sequence, event.Generation = h.sequence, h.generation
	for w := range h.watchers {
		w.push(event)
	}
}

// publishOwed publishes an event that must be acknowledged, and returns its
// sequence.
func (h *hub) publishOwed(event *agentv1.WatchResponse) uint64 {
	event.Acknowledge = true
	h.publish(event)
	h.owed = h.sequence
	return h.owed
}

// add returns a watcher whose first event is state.
func (h *hub) add(state *agentv1.ContainerState, remove func(*Watcher)) *Watcher {
	w := &Watcher{hub: h, ready: make(chan struct{}, 1)}
	w.closed = sync.OnceFunc(func() { remove(w) })
	w.push(&agentv1.WatchResponse{
		Sequence: h.sequence, Generation: h.generation, Acknowledge: h.owed > h.acknowledged,
		Event: &agentv1.WatchResponse_State{State: state},
	})
	h.watchers[w] = struct{}{}
	return w
}

// releasedAgain is the last event for a watcher that came too late for it.
func (h *hub) releasedAgain() *agentv1.WatchResponse {
	event := releasedEvent()
	event.Sequence, event.Generation = h.sequence, h.generation
	return event
}

func releasedEvent() *agentv1.WatchResponse {
	return &agentv1.WatchResponse{Event: &agentv1.WatchResponse_Released{Released: &agentv1.Released{}}}
}

func (w *Watcher) push(event *agentv1.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) >= watchLimit {
		w.behind, w.events = true, nil
	}
	if !w.behind {
		w.events = append(w.events, event)
	}
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// Next waits for the next event. None follows `released`.
func (w *Watcher) Next(ctx context.Context) (*agentv1.WatchResponse, error) {
	for {
		w.mu.Lock()
		if w.behind {
			w.mu.Unlock()
			return nil, errWatchBehind
		}
		if len(w.events) > 0 {
			event := w.events[0]
			if w.events = w.events[1:]; len(w.events) == 0 {
				w.events = nil
			}
			w.mu.Unlock()
			return event, nil
		}
		w.mu.Unlock()
		select {
		case <-w.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Close ends the watch; closing again is harmless.
func (w *Watcher) Close() { w.closed() }
