package mirror

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sockerless/sockerless/agent/core/accepting"
	"github.com/sockerless/sockerless/agent/core/ports"
)

const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// applyEvery is how often a partner's changes are mirrored, and an occupied port
	// is tried again.
	applyEvery = time.Second
	// maxListeners bounds how many listeners one partner can open here.
	maxListeners = 1024
	// heldLong is how long a partner must have been followed for its loss to be
	// retried at once.
	heldLong = 5 * time.Second
	// maxAccepted bounds the connections to one partner, those that wait to be carried
	// among them: who reaches a mirror can make any number.
	maxAccepted = 2 * maxCarried
	// portsLogged bounds the log lines about ports of one partner.
	portsLogged = 10
)

// Link is the way to a partner's agent.
type Link interface {
	// Follow reports where the partner's processes listen, at once and after each
	// change, until ctx ends or the agent cannot be reached.
	Follow(ctx context.Context, told func(Listeners)) error
	// Carry forwards a connection's bytes to and from an address as the partner
	// sees it, until both directions have ended, and closes it.
	Carry(ctx context.Context, conn *net.TCPConn, to netip.AddrPort)
	// Exchange is a datagram connection to and from an address as the partner
	// sees it, until ctx ends. Datagrams that it cannot forward are lost.
	Exchange(ctx context.Context, to netip.AddrPort) net.Conn
	// Close closes idle connections.
	Close()
}

// partner is followed until it is no longer named.
type partner struct {
	mirror  *Mirror
	told    atomic.Pointer[Partner]
	link    Link
	context context.Context
	cancel  context.CancelFunc
	// accepted has a place for each connection, which takes a descriptor.
	accepted *semaphore.Weighted

	// Guarded by the mirror's mutex.
	listeners Listeners
	applied   time.Time    // when listeners were told
	ticker    *time.Ticker // ticks applyEvery after that, and then every applyEvery
	next      *Listeners   // told since, to be applied later; nil: none
	failure   error        // why they are not known; nil: they are
	mirrors   map[place]*listener
	taken     map[place]bool // held by somebody here
	said      said
}

// said records what was logged about a partner, so that each event is logged
// once: a line costs money in some clouds, and the partner decides how often an
// event happens.
type said struct {
	lost, tooMany bool
	ports         map[place]bool
}

// listener mirrors a partner's listener.
type listener struct {
	io.Closer
	at     place
	remote netip.Addr // as the partner bound it
}

// follow starts to mirror a partner. m.mu is held.
func (m *Mirror) follow(told Partner) *partner {
	p := &partner{mirror: m, accepted: semaphore.NewWeighted(maxAccepted), failure: errNotReached, ticker: time.NewTicker(applyEvery), mirrors: make(map[place]*listener), taken: make(map[place]bool),
		said: said{ports: make(map[place]bool)}}
	p.told.Store(&told)
	p.context, p.cancel = context.WithCancel(m.closing)
	p.link = m.options.Dial(told, func() [][]byte { return p.told.Load().Credentials })
	m.work.Add(1)
	go p.run()
	return p
}

// leave closes the partner's mirrors and the connections through them. The
// mirror's mutex is held.
func (p *partner) leave() {
	p.cancel()
	p.reconcile()
}

func (p *partner) run() {
	defer p.mirror.work.Done()
	defer p.link.Close()
	go p.keepUp()
	pause := firstPause
	for p.context.Err() == nil {
		var reached time.Time
		err := p.link.Follow(p.context, func(listeners Listeners) {
			if reached.IsZero() {
				reached = time.Now()
			}
			p.hear(listeners)
		})
		p.lose(err)
		if p.context.Err() != nil {
			return
		}
		if !reached.IsZero() && time.Since(reached) >= heldLong {
			pause = firstPause
		}
		if !p.said.lost {
			p.said.lost = true
			p.mirror.options.Logger.Warn("a container with the same network is not reached", "container", p.told.Load().ContainerID, "error", err)
		}
		select {
		case <-time.After(pause):
		case <-p.context.Done():
		}
		pause = min(2*pause, lastPause)
	}
}

// hear takes where the partner listens: at once, or, as the last of what it tells
// within applyEvery, later.
func (p *partner) hear(listeners Listeners) {
	p.mirror.mu.Lock()
	defer p.mirror.mu.Unlock()
	if time.Since(p.applied) < applyEvery {
		p.next = &listeners
		return
	}
	p.apply(listeners)
}

// lose records why it is unknown where the partner listens.
func (p *partner) lose(failure error) {
	p.mirror.mu.Lock()
	defer p.mirror.mu.Unlock()
	p.update(Listeners{}, failure)
}

// apply mirrors where the partner listens. The mirror's mutex is held.
func (p *partner) apply(listeners Listeners) {
	if count := len(listeners.TCP) + len(listeners.UDP); count > maxListeners {
		if !p.said.tooMany {
			p.said.tooMany = true
			p.mirror.options.Logger.Warn("not all listeners of a container with the same network are mirrored", "container", p.told.Load().ContainerID, "count", count)
		}
		listeners.TCP = listeners.TCP[:min(len(listeners.TCP), maxListeners)]
		listeners.UDP = listeners.UDP[:min(len(listeners.UDP), maxListeners-len(listeners.TCP))]
	}
	p.applied = time.Now()
	p.ticker.Reset(applyEvery)
	p.update(listeners, nil)
}

// update updates the mirrors. The mirror's mutex is held.
func (p *partner) update(listeners Listeners, failure error) {
	p.listeners, p.next, p.failure = listeners, nil, failure
	p.reconcile()
	p.mirror.changed.Notify()
}

// keepUp applies what the partner has told meanwhile, and tries occupied ports
// again, since their holder may leave.
func (p *partner) keepUp() {
	defer p.ticker.Stop()
	for {
		select {
		case <-p.ticker.C:
			p.mirror.mu.Lock()
			switch {
			case p.next != nil:
				p.apply(*p.next)
			case len(p.taken) > 0:
				p.reconcile()
			}
			p.mirror.mu.Unlock()
		case <-p.context.Done():
			return
		}
	}
}

// reconcile opens missing mirrors and closes surplus ones. The mirror's mutex is
// held.
func (p *partner) reconcile() {
	var wanted map[place]netip.Addr
	if p.context.Err() == nil && p.failure == nil {
		if at := p.told.Load().At; len(at) > 0 {
			wanted = placesAt(at, p.listeners)
		} else {
			wanted = placesOf(p.listeners.TCP, p.mirror.options.Address())
		}
	}
	for at, l := range p.mirrors {
		if remote, still := wanted[at]; !still || remote != l.remote {
			l.Close()
			delete(p.mirrors, at)
			delete(p.mirror.open, l)
		}
	}
	for at := range p.taken {
		if _, still := wanted[at]; !still {
			delete(p.taken, at)
		}
	}
	for at, remote := range wanted {
		if p.mirrors[at] == nil && !p.isReserved(at) {
			p.listen(at, remote)
		}
	}
}

// isReserved reports whether a place is reserved for the agent.
func (p *partner) isReserved(at place) bool {
	if kept := p.mirror.options.IsKept; kept != nil && kept(at.network, at.bind.Port()) {
		return true
	}
	return p.mirror.options.IsOwn(at.bind) || slices.ContainsFunc(p.mirror.options.Reserved, at.covers)
}

// listen opens a mirror, unless its port is occupied.
func (p *partner) listen(at place, remote netip.Addr) {
	m := p.mirror
	var opened io.Closer
	var err error
	if at.network == "udp4" {
		opened, err = net.ListenUDP(at.network, net.UDPAddrFromAddrPort(at.bind))
	} else {
		opened, err = net.ListenTCP(at.network, net.TCPAddrFromAddrPort(at.bind))
	}
	if err != nil {
		if !p.said.ports[at] && len(p.said.ports) < portsLogged {
			p.said.ports[at] = true
			m.options.Logger.Info("a port of a container with the same network is not to be had here",
				"container", p.told.Load().ContainerID, "address", at.bind.String(), "error", err)
		}
		p.taken[at] = true
		return
	}
	delete(p.taken, at)
	l := &listener{opened, at, remote}
	p.mirrors[at] = l
	m.open[l] = struct{}{}
	m.work.Add(1)
	go func() {
		defer m.work.Done()
		switch socket := opened.(type) {
		case *net.TCPListener:
			p.accept(socket, l)
		case *net.UDPConn:
			to := netip.AddrPortFrom(remote, at.bind.Port())
			dial := func(ctx context.Context) (net.Conn, error) { return p.link.Exchange(ctx, to), nil }
			if err := ports.ForwardDatagrams(p.context, socket, dial, m.options.Logger); err != nil {
				m.options.Logger.Error("datagrams are not carried", "address", at.bind.String(), "error", err)
			}
		}
	}()
}

// accept forwards connections until the mirror closes, and returns once they have
// ended: they outlive it, as they outlive a process's listener.
func (p *partner) accept(socket *net.TCPListener, l *listener) {
	noReport := func(error) {} // probably out of descriptors, which passes
	accepting.Serve(p.context, p.accepted, socket.AcceptTCP, noReport, func(conn *net.TCPConn) {
		cameTo := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		p.link.Carry(p.context, conn, netip.AddrPortFrom(dialled(l.remote, cameTo.Addr()), l.at.bind.Port()))
	})
}
