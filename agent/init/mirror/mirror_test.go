package mirror

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// patience far exceeds every wait here.
const patience = 2 * time.Minute

// fakeLink is a partner controlled by the test.
type fakeLink struct {
	tables  chan []netip.AddrPort
	lost    chan error
	carried chan netip.AddrPort

	going, most atomic.Int32 // calls of Carry, and how many at a time
}

func newFakeLink() *fakeLink {
	return &fakeLink{tables: make(chan []netip.AddrPort), lost: make(chan error), carried: make(chan netip.AddrPort, 8)}
}

func (f *fakeLink) Follow(ctx context.Context, told func(Listeners)) error {
	for {
		select {
		case table := <-f.tables:
			told(Listeners{TCP: table})
		case err := <-f.lost:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeLink) Carry(ctx context.Context, conn *net.TCPConn, to netip.AddrPort) {
	going := f.going.Add(1)
	defer f.going.Add(-1)
	for most := f.most.Load(); going > most && !f.most.CompareAndSwap(most, going); {
		most = f.most.Load()
	}
	select {
	case f.carried <- to:
	case <-ctx.Done():
	}
	conn.Close()
}

func (f *fakeLink) Exchange(context.Context, netip.AddrPort) net.Conn { return nil }

func (f *fakeLink) Close() {}

func newMirror(t *testing.T, links map[string]*fakeLink) *Mirror {
	t.Helper()
	m := New(Options{
		Listening: Listening,
		IsOwn:     func(netip.AddrPort) bool { return false },
		Address:   func() netip.Addr { return netip.Addr{} },
		Dial:      func(p Partner, _ func() [][]byte) Link { return links[p.ContainerID] },
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	t.Cleanup(m.Close)
	return m
}

// freePort is a port on a loopback address that nobody else uses.
func freePort(t *testing.T, address string) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", address+":0")
	assert.NilError(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func isOpen(address netip.AddrPort) bool {
	conn, err := net.Dial("tcp", address.String())
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		assert.Assert(t, !time.Now().After(end), "not in %v: %s", patience, what)
	}
}

func TestAMirrorComesAndGoesWithTheListener(t *testing.T) {
	t.Parallel()
	link := newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": link})
	told := make(chan map[string]error)
	go func() { told <- m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, patience) }()
	port := freePort(t, "127.77.0.1")
	link.tables <- []netip.AddrPort{port}
	assert.Assert(t, is.Len(<-told, 0), "told")
	if !isOpen(port) { // at once: the answer says that it is mirrored
		t.Fatal("what the partner listens on is not mirrored")
	}
	if to := <-link.carried; to != port {
		t.Errorf("a connection was carried to %v", to)
	}
	assert.Check(t, m.Holds(port), "the mirror does not know its listener")
	link.tables <- nil
	until(t, "the mirror ends with the listener", func() bool { return !isOpen(port) })
	link.tables <- []netip.AddrPort{port}
	until(t, "the mirror comes back", func() bool { return isOpen(port) })
	link.lost <- errors.New("lost")
	until(t, "the mirror ends with its partner", func() bool { return !isOpen(port) })
	if failures := m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0); failures["x"] == nil {
		t.Error("a partner that was lost counts as reached")
	}
	link.tables <- []netip.AddrPort{port}
	until(t, "the mirror comes back with its partner", func() bool { return isOpen(port) })
	m.SetPartners(t.Context(), nil, 0)
	until(t, "the mirror ends when the partner is none any more", func() bool { return !isOpen(port) })
}

func TestConnectionsThatAreNotCarriedYetAreBounded(t *testing.T) {
	t.Parallel()
	const more = 20
	link := newFakeLink()
	link.carried = make(chan netip.AddrPort) // they wait until the test takes them
	m := newMirror(t, map[string]*fakeLink{"x": link})
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	port := freePort(t, "127.77.0.10")
	link.tables <- []netip.AddrPort{port}
	until(t, "it is mirrored", func() bool { return m.Holds(port) })
	for range maxAccepted + more {
		client, err := net.Dial("tcp", port.String())
		assert.NilError(t, err)
		defer client.Close()
	}
	until(t, "as many are accepted as may be", func() bool { return link.going.Load() >= maxAccepted })
	for range maxAccepted + more {
		<-link.carried
	}
	if most := link.most.Load(); most != maxAccepted {
		t.Errorf("%d at a time", most)
	}
}

func TestMirrorsAreNotReportedToPartners(t *testing.T) {
	t.Parallel()
	link := newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": link})
	own, err := net.Listen("tcp", "127.77.0.2:0")
	assert.NilError(t, err)
	defer own.Close()
	process := own.Addr().(*net.TCPAddr).AddrPort()
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	port := freePort(t, "127.77.0.2")
	link.tables <- []netip.AddrPort{port}
	until(t, "the mirror is there", func() bool { return isOpen(port) })
	all, err := Listening()
	if err != nil || !slices.Contains(all, port) || !slices.Contains(all, process) {
		t.Fatalf("the kernel shows %v (%v)", all, err)
	}
	told := make(chan []netip.AddrPort, 1)
	enough := errors.New("enough")
	assert.ErrorIs(t, m.Watch(t.Context(), func(listeners []netip.AddrPort) error {
		told <- listeners
		return enough
	}), enough)
	if listeners := <-told; slices.Contains(listeners, port) || !slices.Contains(listeners, process) {
		t.Errorf("told %v, with the mirror %v or without the process's %v", listeners, port, process)
	}
}

func TestAPortThatIsTakenIsMirroredOnceItIsFree(t *testing.T) {
	t.Parallel()
	first, second := newFakeLink(), newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": first, "y": second})
	own, err := net.Listen("tcp", "127.77.0.3:0")
	assert.NilError(t, err)
	port := own.Addr().(*net.TCPAddr).AddrPort()
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}, {ContainerID: "y"}}, 0)
	first.tables <- []netip.AddrPort{port}
	assert.Check(t, !m.Holds(port), "a port was taken twice")
	own.Close()
	until(t, "the port is mirrored", func() bool { return m.Holds(port) })
	second.tables <- []netip.AddrPort{port} // as it listens in another container
	first.tables <- nil
	until(t, "the other's is mirrored", func() bool {
		if !isOpen(port) {
			return false
		}
		select {
		case <-second.carried:
			return true
		case <-first.carried:
			return false
		case <-time.After(patience / 10):
			return false // It met the listener that was being closed, which carries nothing.
		}
	})
}

func TestWhereTheAgentListensOrMayListenIsNotMirrored(t *testing.T) {
	t.Parallel()
	link := newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": link})
	agents, resolvers, free := freePort(t, "127.77.0.6"), freePort(t, "127.77.0.6"), freePort(t, "127.77.0.6")
	m.options.IsOwn = func(address netip.AddrPort) bool { return address == agents }
	m.options.Reserved = []netip.AddrPort{resolvers}
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	everywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), resolvers.Port())
	link.tables <- []netip.AddrPort{agents, resolvers, everywhere, free}
	until(t, "what else the partner listens on is mirrored", func() bool { return m.Holds(free) })
	for _, address := range []netip.AddrPort{agents, resolvers, everywhere} {
		assert.Check(t, !m.Holds(address), "%v is mirrored", address)
	}
}

// isUpToDate reports whether all that a partner told is mirrored.
func isUpToDate(m *Mirror, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.partners[id].next == nil && m.partners[id].failure == nil
}

// lines counts what is logged.
type lines struct{ atomic.Int32 }

func (l *lines) Write(line []byte) (int, error) {
	l.Add(1)
	return len(line), nil
}

func TestAPartnerCannotMakeTheLogGrow(t *testing.T) {
	t.Parallel()
	link, logged := newFakeLink(), &lines{}
	m := newMirror(t, map[string]*fakeLink{"x": link})
	m.options.Logger = slog.New(slog.NewTextHandler(logged, nil))
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	var taken []netip.AddrPort
	for range 2 * portsLogged {
		own, err := net.Listen("tcp", "127.77.0.7:0")
		assert.NilError(t, err)
		defer own.Close()
		taken = append(taken, own.Addr().(*net.TCPAddr).AddrPort())
	}
	many := make([]netip.AddrPort, maxListeners+1)
	for i := range many {
		many[i] = taken[0]
	}
	for range 2 {
		for _, table := range [][]netip.AddrPort{taken, nil, many} {
			link.tables <- table
			until(t, "what the partner told is mirrored", func() bool { return isUpToDate(m, "x") })
		}
		link.lost <- errors.New("lost")
	}
	link.tables <- nil // the last loss is dealt with
	if n := logged.Load(); n != portsLogged+2 {
		t.Errorf("%d lines, not %d", n, portsLogged+2)
	}
}

func TestAPartnerMakesUsListenSoOftenAndNotMore(t *testing.T) {
	t.Parallel()
	link := newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": link})
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	port := freePort(t, "127.78.0.1").Port()
	many := make([]netip.AddrPort, maxListeners+1)
	for i := range many {
		many[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 78, byte(i / 250), byte(i%250 + 1)}), port)
	}
	link.tables <- many
	link.tables <- many // the first is dealt with
	if !m.Holds(many[maxListeners-1]) {
		t.Errorf("%s, the last of as many as may be, is not mirrored", many[maxListeners-1])
	}
	if m.Holds(many[maxListeners]) {
		t.Errorf("%s is one too many, and mirrored", many[maxListeners])
	}
}

func TestWhatAPartnerTellsIsMirroredOnceASecond(t *testing.T) {
	t.Parallel()
	link := newFakeLink()
	m := newMirror(t, map[string]*fakeLink{"x": link})
	var applied atomic.Int32
	m.options.Address = func() netip.Addr { applied.Add(1); return netip.Addr{} }
	begun := time.Now()
	m.SetPartners(t.Context(), []Partner{{ContainerID: "x"}}, 0)
	first, last := freePort(t, "127.77.0.8"), freePort(t, "127.77.0.8")
	for range 5_000 {
		link.tables <- []netip.AddrPort{first}
		link.tables <- []netip.AddrPort{last}
	}
	until(t, "what it told last is mirrored", func() bool { return m.Holds(last) && !m.Holds(first) })
	if n, most := applied.Load(), 2+int32(time.Since(begun)/applyEvery); n > most {
		t.Errorf("the mirrors were changed %d times, not %d at most", n, most)
	}
}

func TestWhoeverWatchesTheListenersSharesOneReading(t *testing.T) {
	t.Parallel()
	m := newMirror(t, nil)
	var read atomic.Int32
	m.options.Listening = func() ([]netip.AddrPort, error) { read.Add(1); return Listening() }
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*readEvery)
	defer cancel()
	var watching sync.WaitGroup
	for range 100 {
		watching.Add(1)
		go func() {
			defer watching.Done()
			_ = m.WatchAll(ctx, func(Listeners) error { return nil })
		}()
	}
	watching.Wait()
	if n, most := read.Load(), 1+int32(time.Since(begun)/readEvery); n > most {
		t.Errorf("read %d times, not %d at most", n, most)
	}
}
