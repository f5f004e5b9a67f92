package tlsport

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

const patience = time.Minute

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func signed(t *testing.T, by *authority, name string, usage x509.ExtKeyUsage, until ...time.Time) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	assert.NilError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		DNSNames:     []string{"localhost"},
		ExtKeyUsage:  []x509.ExtKeyUsage{usage},
	}
	if len(until) > 0 {
		template.NotAfter = until[0]
	}
	parent, signer := template, key
	if by == nil {
		template.IsCA, template.BasicConstraintsValid, template.ExtKeyUsage = true, true, nil
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	assert.NilError(t, err)
	return der, key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	der, key := signed(t, nil, "authority", 0)
	cert, err := x509.ParseCertificate(der)
	assert.NilError(t, err)
	return &authority{cert, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

func (a *authority) settings(t *testing.T, seq int) *settings {
	t.Helper()
	der, key := signed(t, a, "server", x509.ExtKeyUsageServerAuth)
	encoded, err := x509.MarshalECPrivateKey(key)
	assert.NilError(t, err)
	return &settings{
		Seq:       seq,
		CA:        &a.pem,
		Cert:      string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		Key:       string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})),
		Strangers: 4,
	}
}

// client returns how a client of the authority speaks TLS.
func (a *authority) client(t *testing.T, usage x509.ExtKeyUsage, more ...[]byte) *tls.Config {
	t.Helper()
	der, key := signed(t, a, "client", usage)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{
		RootCAs:      roots,
		ServerName:   "localhost",
		Certificates: []tls.Certificate{{Certificate: append([][]byte{der}, more...), PrivateKey: key}},
	}
}

// node is the Node process' end of a channel.
type node struct {
	t        *testing.T
	channel  *nodechannel.Channel
	listener net.Listener
	told     chan map[string]any
	given    chan net.Conn
	close    func()
	lastID   int // of its dials
}

func started(t *testing.T, s *settings, changes ...func(*port)) *node {
	t.Helper()
	n := attached(t, func(channel *nodechannel.Channel) error {
		p := newPort(channel)
		for _, change := range changes {
			change(p)
		}
		return p.run()
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	n.listener = listener
	n.configure(s)
	go n.accept()
	return n
}

// attached returns Node's end of a channel whose other end is served.
func attached(t *testing.T, serve func(*nodechannel.Channel) error) *node {
	t.Helper()
	theirs, fd, err := socketPair()
	assert.NilError(t, err)
	file := os.NewFile(uintptr(fd), "channel")
	conn, err := net.FileConn(file)
	file.Close()
	assert.NilError(t, err)
	go func() { _ = serve(nodechannel.New(theirs)) }()
	n := &node{
		t: t, channel: nodechannel.New(conn.(*net.UnixConn)),
		told: make(chan map[string]any, 100), given: make(chan net.Conn, 100),
		close: func() { conn.Close() },
	}
	t.Cleanup(func() { conn.Close() })
	go n.receive()
	return n
}

func (n *node) receive() {
	for {
		received, err := n.channel.Next()
		if err != nil {
			close(n.told)
			return
		}
		var m map[string]any
		_ = json.Unmarshal(received.Message, &m)
		if received.HasFD {
			file := os.NewFile(uintptr(received.FD), "client")
			conn, _ := net.FileConn(file)
			file.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			n.given <- conn
		}
		n.told <- m
	}
}

func (n *node) accept() {
	for {
		conn, err := n.listener.Accept()
		if err != nil {
			return
		}
		file, _ := conn.(*net.TCPConn).File()
		_ = n.channel.Give(fromNode{Remote: conn.RemoteAddr().String()}, int(file.Fd()))
		file.Close()
		conn.Close()
	}
}

func (n *node) configure(s *settings) {
	n.t.Helper()
	if err := n.channel.Tell(fromNode{TLS: s}); err != nil {
		n.t.Fatal(err)
	}
	if m := n.next(); m["error"] != "" {
		n.t.Fatal(m)
	}
}

func (n *node) next() map[string]any {
	n.t.Helper()
	select {
	case m := <-n.told:
		return m
	case <-time.After(patience):
		n.t.Fatal("nothing is told")
		return nil
	}
}

func (n *node) connect(config *tls.Config) *tls.Conn {
	n.t.Helper()
	tcp, err := net.Dial("tcp", n.listener.Addr().String())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(patience))
	return tls.Client(tcp, config)
}

// served returns both ends of a client's connection, and its ID.
func (n *node) served(config *tls.Config) (*tls.Conn, *net.UnixConn, int) {
	n.t.Helper()
	client := n.connect(config)
	if err := client.Handshake(); err != nil {
		n.t.Fatal(err)
	}
	m := n.next()
	id, isThere := m["id"].(float64)
	if !isThere {
		n.t.Fatal(m)
	}
	return client, (<-n.given).(*net.UnixConn), int(id)
}

func TestEachSideLearnsOfTheOthersEndAndGoesOn(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	client, up, id := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
	_, _ = io.WriteString(client, "question")
	_ = client.CloseWrite()
	if said, err := io.ReadAll(up); err != nil || string(said) != "question" {
		t.Fatalf("%q %v", said, err)
	}
	if m := n.next(); m["state"] != ended {
		t.Fatal(m)
	}
	long := bytes.Repeat([]byte("answer"), 1<<20)
	go func() {
		_, _ = up.Write(long)
		_ = up.CloseWrite()
		_ = n.channel.Tell(fromNode{ID: id, State: ended})
	}()
	if said, err := io.ReadAll(client); err != nil || !bytes.Equal(said, long) {
		t.Fatalf("%d bytes, %v", len(said), err)
	}
}

func TestClientsThatSayNothingTakeLittle(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	config := a.client(t, x509.ExtKeyUsageClientAuth)
	memory := func() uint64 {
		runtime.GC()
		runtime.GC() // Pooled buffers survive one.
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc + stats.StackInuse
	}
	const clients, most = 100, 56 << 10 // Both ends' memory.
	var kept []net.Conn
	before := memory()
	for range clients {
		client, up, _ := n.served(config)
		kept = append(kept, client, up)
		_, _ = client.Write(make([]byte, quiet-1))
		_, err := io.ReadFull(up, make([]byte, quiet-1))
		assert.NilError(t, err)
		_, _ = up.Write(make([]byte, record))
		_, err = io.ReadFull(client, make([]byte, record))
		assert.NilError(t, err)
	}
	if each := (memory() - before) / clients; each > most {
		t.Fatalf("%d bytes", each)
	}
	runtime.KeepAlive(kept)
}

func TestNothingIsLeftOfClientsThatHaveEnded(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	before := runtime.NumGoroutine()
	for range 20 {
		client, up, id := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
		client.Close()
		_, _ = io.ReadAll(up)
		n.next() // that it has ended
		up.Close()
		_ = n.channel.Tell(fromNode{ID: id, State: ended})
	}
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}

func TestAClientIsCutWithNodeAndWhereNodeHasNotEnded(t *testing.T) {
	a := newAuthority(t)
	for name, leave := range map[string]func(*node, *net.UnixConn, int){
		"killed":    func(n *node, up *net.UnixConn, _ int) { up.Close(); n.close() },
		"destroyed": func(n *node, up *net.UnixConn, id int) { up.Close(); _ = n.channel.Tell(fromNode{ID: id, State: cut}) },
		"reset": func(n *node, up *net.UnixConn, id int) {
			up.Close()
			_ = n.channel.Tell(fromNode{ID: id, State: reset})
		},
	} {
		n := started(t, a.settings(t, 1))
		client, up, id := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
		_, _ = io.WriteString(up, "half an answer")
		begun := make([]byte, 14)
		_, err := io.ReadFull(client, begun)
		assert.NilError(t, err)
		leave(n, up, id)
		rest, err := io.ReadAll(client.NetConn()) // a close_notify would be bytes
		if len(rest) > 0 || (name != "destroyed" && !errors.Is(err, unix.ECONNRESET)) {
			t.Fatalf("%s: %d bytes, %v", name, len(rest), err)
		}
	}
}

func TestAStrangersChainIsRefusedByItsLength(t *testing.T) {
	a, other, third := newAuthority(t), newAuthority(t), newAuthority(t)
	room := a.settings(t, 1)
	room.Strangers = 8 // who is refused stays a moment to read why
	n := started(t, room)
	var chain [][]byte
	for range mostCertificates {
		chain = append(chain, a.cert.Raw)
	}
	for reason, config := range map[string]*tls.Config{
		"its certificate is refused: it comes with 10 others":                       a.client(t, x509.ExtKeyUsageClientAuth, chain...),
		"its certificate is refused: it comes with several certificates of one":     a.client(t, x509.ExtKeyUsageClientAuth, a.cert.Raw, other.cert.Raw, third.cert.Raw),
		"its certificate is refused: x509: certificate signed by unknown authority": other.client(t, x509.ExtKeyUsageClientAuth),
		"its certificate is refused: x509: certificate specifies an incompatible":   a.client(t, x509.ExtKeyUsageServerAuth),
		"the peer did not return a certificate":                                     {},
	} {
		config.InsecureSkipVerify = true
		client := n.connect(config)
		if err := client.Handshake(); err == nil {
			if _, err = client.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("%s: %v", reason, err)
			}
		}
		if m := n.next(); !strings.HasPrefix(m["reason"].(string), reason) {
			t.Fatal(m)
		}
	}
}

func TestAReasonIsNoLongerThanALine(t *testing.T) {
	for _, each := range []string{"é", "\xff"} {
		reason := reasonOf(errors.New(strings.Repeat(each, 10*mostReason)))
		if len(reason) > mostReason+len("…") || !utf8.ValidString(reason) {
			t.Errorf("%d bytes: %q", len(reason), reason)
		}
	}
}

func TestNodeGetsAllThatAClientHadSentThatHasHungUp(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	client, up, _ := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
	sent := bytes.Repeat([]byte("input"), 50_000) // more than the socket pair holds
	_, err := client.Write(sent)
	assert.NilError(t, err)
	tcp := client.NetConn().(*net.TCPConn)
	untilArrived(t, tcp)
	_ = tcp.SetLinger(0)
	tcp.Close()
	// The terminator finds that nobody reads this.
	_, _ = up.Write(make([]byte, 1<<20))
	received := make([]byte, len(sent))
	if n, err := io.ReadFull(up, received); err != nil || !bytes.Equal(received, sent) {
		t.Fatalf("%d bytes of %d, %v", n, len(sent), err)
	}
	for m := n.next(); m["state"] != cut; m = n.next() {
		assert.Assert(t, m["state"] == ended, m)
	}
}

// untilArrived waits until the peer's kernel has all that was written.
func untilArrived(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	assert.NilError(t, err)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		unsent := 0
		if failure := raw.Control(func(fd uintptr) { unsent, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); failure != nil || err != nil {
			t.Fatal(failure, err)
		}
		if unsent == 0 {
			return
		}
		assert.Assert(t, !time.Now().After(deadline), "%d bytes are not taken", unsent)
	}
}

func TestOfClientsThatNodeHasLeftTheOldestIsReset(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1), func(p *port) { p.unread.most.Store(1) })
	var clients []*tls.Conn
	for range 2 {
		client, up, id := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
		clients = append(clients, client)
		_ = up.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := up.Write(make([]byte, 64<<20))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		up.Close()
		_ = n.channel.Tell(fromNode{ID: id, State: closed})
	}
	_ = n.channel.Tell(fromNode{TLS: a.settings(t, 2)})
	for n.next()["configured"] != 2.0 { // After all that was told before.
	}
	_, err := io.Copy(io.Discard, clients[0])
	assert.Check(t, is.ErrorIs(err, unix.ECONNRESET))
	if n, err := io.Copy(io.Discard, clients[1]); err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAClientThatReadsLateGetsAllThatNodeHasSaid(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	client, up, id := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
	said := make([]byte, 1<<20)
	go func() {
		_, _ = up.Write(said)
		up.Close()
		_ = n.channel.Tell(fromNode{ID: id, State: closed})
	}()
	time.Sleep(lingering + time.Second)
	if read, err := io.ReadAll(client); err != nil || len(read) != len(said) {
		t.Errorf("%d bytes of %d, %v", len(read), len(said), err)
	}
}

func TestTheOldestStrangerGoes(t *testing.T) {
	a := newAuthority(t)
	n := started(t, a.settings(t, 1))
	var all []net.Conn
	for range 5 {
		tcp, err := net.Dial("tcp", n.listener.Addr().String())
		assert.NilError(t, err)
		defer tcp.Close()
		all = append(all, tcp)
	}
	if m := n.next(); m["reason"] != "4 connections have not finished their handshakes yet" || m["turnedAway"] != all[0].LocalAddr().String() {
		t.Fatal(m)
	}
	_ = all[0].SetDeadline(time.Now().Add(authenticateWithin / 2)) // long before it would go by itself
	if _, err := all[0].Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Fatal(err)
	}
}

func TestStrangersThatNodeHasNotTakenYetAreBounded(t *testing.T) {
	a := newAuthority(t)
	ours, fd, err := socketPair()
	assert.NilError(t, err)
	theirs, err := handover.ConnectionOf(fd)
	assert.NilError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close(); theirs.Close() })
	p := newPort(nodechannel.New(ours))
	p.configure(a.settings(t, 1)) // 4 strangers
	go func() { _ = p.run() }()
	n := &node{
		t: t, channel: nodechannel.New(theirs), listener: listener,
		told: make(chan map[string]any, 100), given: make(chan net.Conn, 100),
	}
	config := a.client(t, x509.ExtKeyUsageClientAuth)
	var all []string
	join := func() {
		client := n.connect(config)
		accepted, err := listener.Accept()
		assert.NilError(t, err)
		defer accepted.Close()
		file, _ := accepted.(*net.TCPConn).File()
		defer file.Close()
		copied, err := unix.Dup(int(file.Fd()))
		assert.NilError(t, err)
		all = append(all, accepted.RemoteAddr().String())
		p.accept(copied, accepted.RemoteAddr().String())
		assert.NilError(t, client.Handshake())
	}
	// Node is busy: of the first client it has a message that it does not read.
	join()
	waiting := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(patience / 4); ; time.Sleep(time.Millisecond) {
			clients, pairs := 0, 0
			p.mu.Lock()
			for _, c := range p.clients {
				clients++
				if c.up != nil {
					pairs++
				}
			}
			p.mu.Unlock()
			if clients == want && pairs == 1 {
				return
			}
			assert.Assert(t, !time.Now().After(deadline), "%d clients with %d socket pairs, not %d with one", clients, pairs, want)
		}
	}
	waiting(1)
	for range 20 {
		join()
	}
	waiting(5)
	go n.receive()
	var taken, cut []string
	for len(taken) < 5 {
		m := n.next()
		if remote, isTaken := m["remote"].(string); isTaken {
			taken = append(taken, remote)
		} else if remote, isCut := m["turnedAway"].(string); isCut {
			cut = append(cut, remote)
		}
	}
	slices.Sort(taken[1:])
	last := slices.Sorted(slices.Values(all[17:]))
	if want := append(all[:1:1], last...); !slices.Equal(taken, want) || !slices.Equal(cut, all[1:17]) {
		t.Errorf("Node gets %v, not %v; %v are cut", taken, want, cut)
	}
}

func TestOtherCertificatesHoldForTheNextClients(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	n := started(t, a.settings(t, 1))
	before, up, _ := n.served(a.client(t, x509.ExtKeyUsageClientAuth))
	bad := b.settings(t, 2)
	bad.Key = "none"
	_ = n.channel.Tell(fromNode{TLS: bad})
	if m := n.next(); m["error"] == "" {
		t.Fatal(m)
	}
	n.served(a.client(t, x509.ExtKeyUsageClientAuth))
	n.configure(b.settings(t, 3))
	n.served(b.client(t, x509.ExtKeyUsageClientAuth))
	_, _ = io.WriteString(before, "still here\n")
	if line, err := bufio.NewReader(up).ReadString('\n'); err != nil || line != "still here\n" {
		t.Fatal(line, err)
	}
}

func TestOnlyWithoutAnAuthorityAreNoCertificatesDemanded(t *testing.T) {
	s := newAuthority(t).settings(t, 1)
	s.CA = new(string)
	if _, err := configOf(s); err == nil {
		t.Fatal("an authority without certificates is taken")
	}
	s.CA = nil
	client, _, _ := started(t, s).served(&tls.Config{InsecureSkipVerify: true})
	client.Close()
}
