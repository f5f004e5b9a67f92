// Package tlsport speaks the TLS of a Node process: what a certificate may cost is
// bounded here, and a handshake keeps nobody else waiting.
//
// Its terminator ends the TLS of TCP listeners, most of which demand certificates of
// their clients. Node accepts connections and passes them over its IPC channel. A
// client whose handshake is done is joined with a socket pair, whose other end Node
// gets. How one side ends is told to the other over the channel: the end of a
// socket alone may be the death of a process.
//
// Its dialer connects Node with registries: it looks names up, asks proxies, and
// does the handshakes. Node gets a connection without TLS as it is, and of another
// one end of a socket pair.
package tlsport

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/change"
	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

const (
	// authenticateWithin limits a handshake.
	authenticateWithin = 15 * time.Second
	// hangUpWithin limits how long who was refused may take to read why.
	hangUpWithin = time.Second
	mostReason   = 512
	// mostUnread bounds clients that Node has left: each may take as long as it likes.
	mostUnread = 1024
)

// noTLS is what a failure of this process means.
const noTLS = "no TLS is spoken"

// States of a side of a connection.
const (
	ended  = "ended"  // sends no more
	closed = "closed" // has ended, and reads no more
	cut    = "cut"    // left without an end
	reset  = "reset"  // as cut, and the client is to notice for sure
)

// fromNode is a message of the Node process: without a descriptor one of
// certificates, a connection's state, or the order to finish.
type fromNode struct {
	TLS    *settings `json:"tls"`
	ID     int       `json:"id"`
	State  string    `json:"state"`
	Finish bool      `json:"finish"`
	// Remote is the address of an accepted connection.
	Remote string `json:"remote"`
}

// settings are how TLS is spoken from now on, in PEM.
type settings struct {
	Seq int `json:"seq"`
	// CA signs clients' certificates; nil if none are demanded.
	CA        *string  `json:"ca"`
	Cert      string   `json:"cert"`
	Key       string   `json:"key"`
	Protocols []string `json:"protocols"`
	Strangers int      `json:"strangers"`
}

// configured answers settings.
type configured struct {
	Configured int    `json:"configured"`
	Error      string `json:"error"`
}

// state tells of a client; with a descriptor it is a new one.
type state struct {
	ID     int    `json:"id"`
	State  string `json:"state,omitempty"`
	Remote string `json:"remote,omitempty"`
}

// turnedAway tells of a stranger; one without a reason hung up.
type turnedAway struct {
	Remote string `json:"turnedAway"`
	Reason string `json:"reason"`
}

// Main is `sockerless-agent tls-terminator`. It returns the exit code once the
// Node process is gone, or has no connections and wants no more.
func Main([]string) int {
	return nodechannel.Run(noTLS, func(channel *nodechannel.Channel) error { return newPort(channel).run() })
}

// port serves one Node process.
type port struct {
	channel *nodechannel.Channel
	config  atomic.Pointer[tls.Config]
	// strangers are in their handshakes, or wait for Node to take them.
	strangers crowd
	// turn is taken to give Node a client.
	turn chan struct{}
	// unread are clients that Node has left, and that have not read all of it yet.
	unread    crowd
	mu        sync.Mutex
	clients   map[int]*client
	lastID    int
	finishing bool
	// node is closed once the Node process is gone.
	node chan struct{}
	// idle is closed once there are no clients and none are wanted.
	idle chan struct{}
}

func newPort(channel *nodechannel.Channel) *port {
	p := &port{
		channel: channel,
		turn:    make(chan struct{}, 1),
		clients: map[int]*client{},
		node:    make(chan struct{}),
		idle:    make(chan struct{}),
	}
	p.unread.most.Store(mostUnread)
	return p
}

// run serves until the Node process is gone, and then cuts all clients.
func (p *port) run() error {
	failed := make(chan error, 1)
	go func() { failed <- p.receive() }()
	var err error
	select {
	case err = <-failed:
	case <-p.idle:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.node)
	for _, c := range p.clients {
		c.cut(true)
	}
	p.channel.Close()
	return err
}

func (p *port) receive() error {
	for {
		received, err := p.channel.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var m fromNode
		if err == nil {
			err = json.Unmarshal(received.Message, &m)
		}
		switch {
		case err != nil:
			return err
		case received.HasFD:
			p.accept(received.FD, m.Remote)
		case m.TLS != nil:
			p.configure(m.TLS)
		case m.Finish:
			p.finish()
		default:
			p.mu.Lock()
			c := p.clients[m.ID]
			p.mu.Unlock()
			if c != nil {
				c.note(m.State)
			}
		}
	}
}

func (p *port) configure(s *settings) {
	answer := configured{Configured: s.Seq}
	if config, err := configOf(s); err != nil {
		answer.Error = err.Error()
	} else {
		p.config.Store(config)
		p.strangers.most.Store(int64(s.Strangers))
	}
	_ = p.channel.Tell(answer)
}

func configOf(s *settings) (*tls.Config, error) {
	own, err := tls.X509KeyPair([]byte(s.Cert), []byte(s.Key))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: s.Protocols,
		// A resumed session would be one whose certificate may have expired.
		SessionTicketsDisabled: true,
	}
	if s.CA != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM([]byte(*s.CA)) {
			return nil, errors.New("the authority has no certificate")
		}
		completeChain(&own, *s.CA)
		config.ClientAuth = tls.RequireAnyClientCert
		config.VerifyConnection = func(shown tls.ConnectionState) error {
			return verify(shown.PeerCertificates, roots)
		}
	}
	config.Certificates = []tls.Certificate{own}
	return config, nil
}

func (p *port) accept(fd int, remote string) {
	if fd == nodechannel.Missing {
		p.turnAway(remote, "there are too many open files")
		return
	}
	file := os.NewFile(uintptr(fd), "client")
	conn, err := net.FileConn(file)
	file.Close()
	config := p.config.Load()
	if err != nil {
		slog.Debug("a connection cannot be served", "error", err)
		return
	}
	tcp, isTCP := conn.(*net.TCPConn)
	if !isTCP || config == nil {
		conn.Close()
		return
	}
	_ = tcp.SetDeadline(time.Now().Add(authenticateWithin))
	stranger, oldest := p.strangers.add(tcp, remote)
	if oldest != nil {
		p.turnAway(oldest.remote, fmt.Sprintf("%d connections have not finished their handshakes yet", p.strangers.most.Load()))
		oldest.conn.Close()
	}
	go func() {
		conn, err := p.handshake(tcp, config, remote)
		if err != nil {
			stranger.leave()
			tcp.Close()
			return
		}
		_ = tcp.SetDeadline(time.Time{})
		p.join(stranger, conn)
	}()
}

// handshake does a handshake, and tells a client that is refused why.
func (p *port) handshake(tcp *net.TCPConn, config *tls.Config, remote string) (*tls.Conn, error) {
	conn := tls.Server(tcp, config)
	err := conn.Handshake()
	if err == nil {
		return conn, nil
	}
	if answerPlainHTTP(tcp, err) {
		return nil, err
	}
	var failure net.Error
	switch {
	case errors.Is(err, net.ErrClosed): // the oldest, which is told of already
		return nil, err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.ECONNRESET),
		errors.Is(err, unix.EPIPE), errors.As(err, &failure) && failure.Timeout():
		p.turnAway(remote, "")
		return nil, err
	}
	p.turnAway(remote, reasonOf(err))
	// With bytes unread the alert would be lost in a reset.
	_ = tcp.CloseWrite()
	_ = tcp.SetReadDeadline(time.Now().Add(hangUpWithin))
	_, _ = io.CopyN(io.Discard, tcp, mostBytes)
	return nil, err
}

// reasonOf tells why a handshake failed, in mostReason bytes: the peer's own names
// may be in it.
func reasonOf(err error) string {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	if len(text) > mostReason {
		text = strings.ToValidUTF8(text[:mostReason], "") + "…"
	}
	switch {
	case errors.As(err, new(refusal)), strings.Contains(text, "parse client certificate"):
		return "its certificate is refused: " + text
	case strings.Contains(text, "didn't provide a certificate"):
		return "the peer did not return a certificate"
	}
	return text
}

func (p *port) turnAway(remote, reason string) {
	_ = p.channel.Tell(turnedAway{Remote: remote, Reason: reason})
}

// join gives Node one end of a socket pair, and copies between the client and the
// other.
func (p *port) join(stranger *member, conn *tls.Conn) {
	c := newClient(p, stranger.conn, conn)
	isGiven := p.add(c) && p.give(c, stranger)
	stranger.leave()
	if isGiven {
		c.serve()
	}
	c.cut(false)
	c.forget()
	p.remove(c)
}

// give gives Node a client in its turn: Node takes some 200 a second. Until then it
// is a stranger, which may have to go and has no socket pair.
func (p *port) give(c *client, stranger *member) bool {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-stranger.out:
		return false
	}
	if !stranger.leave() {
		return false
	}
	up, theirs, err := socketPair()
	if err != nil {
		p.turnAway(stranger.remote, err.Error())
		return false
	}
	defer unix.Close(theirs)
	if !p.connect(c, up) {
		up.Close()
		return false
	}
	return p.channel.Give(state{ID: c.id, Remote: stranger.remote}, theirs) == nil
}

// socketPair returns an end for this process, and a descriptor for the other.
func socketPair() (*net.UnixConn, int, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	file := os.NewFile(uintptr(pair[0]), "upstream")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		_ = unix.Close(pair[1])
		return nil, 0, err
	}
	return conn.(*net.UnixConn), pair[1], nil
}

// add adds a client; false if no more are wanted.
func (p *port) add(c *client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change.IsClosed(p.node) || p.finishing {
		return false
	}
	p.lastID++
	c.id = p.lastID
	p.clients[c.id] = c
	return true
}

// connect sets a client's socket; false if Node is gone, and the client cut.
func (p *port) connect(c *client, up *net.UnixConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if change.IsClosed(p.node) {
		return false
	}
	c.up = up
	return true
}

func (p *port) remove(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.clients, c.id)
	p.beIdle()
}

// finish serves the clients that are there to their end, and no others.
func (p *port) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.finishing {
		p.finishing = true
		p.beIdle()
	}
}

func (p *port) beIdle() {
	if p.finishing && len(p.clients) == 0 && !change.IsClosed(p.idle) {
		close(p.idle)
	}
}
