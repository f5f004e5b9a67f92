// Package mirror shares TCP listeners between containers that share a network,
// but no network interface. Each one's agent listens where the processes of its
// partners listen, and forwards each connection through the partner's agent.
// Mirrors are never reported to a partner as listeners, so that no mirror is
// mirrored.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sockerless/sockerless/agent/core/change"
)

const (
	// readEvery is how often the kernel's listeners are read; that takes at most
	// a fiftieth of the time.
	readEvery = 100 * time.Millisecond
	readShare = 50
)

// Options configure a Mirror.
type Options struct {
	// Listening returns all listeners in the container, the agent's included.
	Listening func() ([]netip.AddrPort, error)
	// IsOwn reports whether an address is a listener of the agent other than a
	// mirror.
	IsOwn func(netip.AddrPort) bool
	// Reserved are addresses on which the agent may still listen.
	Reserved []netip.AddrPort
	// IsKept reports whether a port, at any address, is left to the container's
	// own processes; nil: none is.
	IsKept func(network string, port uint16) bool
	// Address is the address by which others reach the container; invalid: none.
	Address func() netip.Addr
	// Dial returns a link to a partner's agent; credentials returns the current
	// certificates to show.
	Dial   func(partner Partner, credentials func() [][]byte) Link
	Logger *slog.Logger
}

// Partner is a container with which this one shares a network.
type Partner struct {
	ContainerID string
	Agent       netip.AddrPort // invalid: a relay leads to it
	Pin         []byte         // SHA-256 of the agent's SubjectPublicKeyInfo
	Credentials [][]byte       // certificates to show to the agent, leaf first, DER
	// At are the loopback addresses that get all of its listeners; none: each
	// listener keeps its own address.
	At []netip.Addr
}

// Listeners are the addresses where processes listen.
type Listeners struct{ TCP, UDP []netip.AddrPort }

func (l Listeners) equal(other Listeners) bool {
	return slices.Equal(l.TCP, other.TCP) && slices.Equal(l.UDP, other.UDP)
}

func (p Partner) isSameAgent(other Partner) bool {
	return p.Agent == other.Agent && bytes.Equal(p.Pin, other.Pin)
}

// Mirror mirrors the partners of one container.
type Mirror struct {
	options Options
	closing context.Context
	close   context.CancelCauseFunc
	work    sync.WaitGroup

	mu       sync.Mutex
	partners map[string]*partner
	open     map[*listener]struct{} // of all partners
	changed  change.Signal          // notified when a partner is reached or lost

	reading reading
}

// reading is what the last look at the kernel's tables found, for all who watch.
type reading struct {
	mu        sync.Mutex
	listeners Listeners
	until     time.Time // when to look again
}

// ErrClosed ends pending operations when a Mirror is closed.
var ErrClosed = errors.New("the container's agent is leaving")

// New returns a mirror without partners.
func New(options Options) *Mirror {
	m := &Mirror{
		options:  options,
		partners: make(map[string]*partner),
		open:     make(map[*listener]struct{}),
	}
	m.closing, m.close = context.WithCancelCause(context.Background())
	return m
}

// Close closes all mirrors, and every connection through them.
func (m *Mirror) Close() {
	m.mu.Lock()
	m.close(ErrClosed)
	m.mu.Unlock()
	m.work.Wait()
}

// SetPartners replaces the partners. It waits, at most wait, until all their
// listeners are mirrored, and returns the errors of those that are not.
func (m *Mirror) SetPartners(ctx context.Context, partners []Partner, wait time.Duration) map[string]error {
	m.replace(partners)
	return m.Await(ctx, nil, wait)
}

// Await waits, at most wait, until the listeners of these partners (nil: of all)
// are mirrored, and returns the errors of those that are not.
func (m *Mirror) Await(ctx context.Context, ids []string, wait time.Duration) map[string]error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		m.mu.Lock()
		failures, changed := m.failures(), m.changed.Next()
		m.mu.Unlock()
		if ids != nil {
			maps.DeleteFunc(failures, func(id string, _ error) bool { return !slices.Contains(ids, id) })
		}
		if len(failures) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-timer.C:
			return failures
		case <-ctx.Done():
			return failures
		case <-m.closing.Done():
			return failures
		}
	}
}

func (m *Mirror) replace(partners []Partner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing.Err() != nil {
		return
	}
	named := make(map[string]bool)
	for _, told := range partners {
		named[told.ContainerID] = true
		known := m.partners[told.ContainerID]
		if known != nil && known.told.Load().isSameAgent(told) {
			if before := known.told.Swap(&told); !slices.Equal(before.At, told.At) {
				known.reconcile()
			}
			continue
		}
		if known != nil {
			known.leave()
		}
		m.partners[told.ContainerID] = m.follow(told)
	}
	for id, known := range m.partners {
		if !named[id] {
			known.leave()
			delete(m.partners, id)
		}
	}
}

var errNotReached = errors.New("its agent has not answered yet")

// failures are the errors of partners whose listeners are not mirrored. m.mu is
// held.
func (m *Mirror) failures() map[string]error {
	failures := make(map[string]error)
	for id, partner := range m.partners {
		if partner.failure != nil {
			failures[id] = partner.failure
		}
	}
	return failures
}

// Watch reports where the container's own processes listen, at once and after
// each change, until ctx or the mirror ends or tell fails.
func (m *Mirror) Watch(ctx context.Context, tell func([]netip.AddrPort) error) error {
	return m.watch(ctx, func(all Listeners) Listeners { return Listeners{TCP: all.TCP} },
		func(listeners Listeners) error { return tell(listeners.TCP) })
}

// WatchAll is Watch with datagram sockets too. tell must not change what it gets.
func (m *Mirror) WatchAll(ctx context.Context, tell func(Listeners) error) error {
	return m.watch(ctx, func(all Listeners) Listeners { return all }, tell)
}

func (m *Mirror) watch(ctx context.Context, choose func(Listeners) Listeners, tell func(Listeners) error) error {
	var told Listeners
	for first := true; ; first = false {
		all, until, err := m.read()
		if err != nil {
			return err
		}
		if listeners := choose(all); first || !listeners.equal(told) {
			if err := tell(listeners); err != nil {
				return err
			}
			told = listeners
		}
		select {
		case <-time.After(time.Until(until)):
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-m.closing.Done():
			return context.Cause(m.closing)
		}
	}
}

// read returns the listeners of the container's processes, and when they are read
// anew.
func (m *Mirror) read() (Listeners, time.Time, error) {
	r := &m.reading
	r.mu.Lock()
	defer r.mu.Unlock()
	begun := time.Now()
	if begun.Before(r.until) {
		return r.listeners, r.until, nil
	}
	own, err := m.ownListeners()
	if err != nil {
		return Listeners{}, time.Time{}, err
	}
	sockets, err := waitingForDatagrams()
	if err != nil {
		return Listeners{}, time.Time{}, err
	}
	r.listeners = Listeners{TCP: own, UDP: sorted(slices.DeleteFunc(sockets, m.options.IsOwn))}
	r.until = time.Now().Add(max(readEvery, readShare*time.Since(begun)))
	return r.listeners, r.until, nil
}

// ownListeners are those of the container's processes, sorted. The lock keeps
// mirrors from opening or closing meanwhile, so that none is mistaken for a
// process's listener.
func (m *Mirror) ownListeners() ([]netip.AddrPort, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all, err := m.options.Listening()
	if err != nil {
		return nil, err
	}
	mirrored := make(map[netip.AddrPort]bool, len(m.open))
	for l := range m.open {
		mirrored[l.at.bind] = true
	}
	own := slices.DeleteFunc(all, func(address netip.AddrPort) bool {
		return mirrored[address] || m.options.IsOwn(address)
	})
	return sorted(own), nil
}

func sorted(addresses []netip.AddrPort) []netip.AddrPort {
	slices.SortFunc(addresses, netip.AddrPort.Compare)
	return slices.Compact(addresses)
}

// Holds reports whether connections to an address would reach a mirror.
func (m *Mirror) Holds(address netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for l := range m.open {
		if l.at.covers(address) {
			return true
		}
	}
	return false
}
