// Package callback reaches a backend that cannot reach the agent: the agent
// dials the backend, over WebSockets, and serves there what it would serve on a
// port, TLS included. docs/formats.md describes what goes over the wire. A
// connection may be a link, which outlives the WebSockets that carry it.
//
// The WebSocket is anonymous, and so is its own TLS, which a proxy on the way may
// end: who the agent and its client are is settled by the TLS inside it. An agent
// only shows, before that, that it has the key which its certificate is for.
package callback

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const (
	handshakeTimeout = 10 * time.Second
	attemptTimeout   = 30 * time.Second
	// PingEvery is how often a connection that waits or is in use is pinged:
	// proxies on the way forget silent ones after a minute. The answer has as long.
	PingEvery = 20 * time.Second
	// Pauses between attempts that fail; with their spread they are shorter than
	// the time for which the backend has its clients wait for the agent.
	firstPause, lastPause = 500 * time.Millisecond, 3 * time.Second
	// ResumeWithin is how long a connection may be cut. Pings and attempts to
	// reach the backend take their time before it is noticed and mended.
	ResumeWithin = 2 * time.Minute
	drainPoll    = 5 * time.Millisecond
	// afterCut is how long a link that was cut as the agent left has for the rest.
	afterCut = 10 * time.Second
	// toldEvery is how often failures are logged that go on.
	toldEvery = 10 * time.Second
	// maxConnections bounds those that the backend uses at once, most of which it
	// gives to other agents (maxToOne in src/backends/cloud/callback).
	maxConnections = 512
	// Subprotocol is what the WebSockets carry: TLS, whose server is the agent.
	Subprotocol = "sockerless.agent.v1"
	// nonceSize is the length of what the backend wants signed.
	nonceSize = 32
)

// Options of a Listener.
type Options struct {
	URL         *url.URL // https
	Instance    []byte   // SHA-256 of the SubjectPublicKeyInfo of the backend's authority
	ContainerID string
	Certificate tls.Certificate // the agent's own, as it is shown inside
	PingEvery   time.Duration
	// ResumeWithin is how long a connection may be cut before it is given up.
	ResumeWithin time.Duration
	Logger       *slog.Logger
}

// Listener hands out the connections that the backend begins to use. There is
// always one more that waits for it.
type Listener struct {
	options Options
	where   *url.URL
	client  *http.Client

	ctx    context.Context // of the calling
	cancel context.CancelCauseFunc
	closed context.Context // nothing is handed out any more
	close  context.CancelFunc
	taken  chan net.Conn
	places chan struct{}

	mu    sync.Mutex
	links map[linkID]*link
}

// Listen begins to call the backend.
func Listen(options Options) *Listener {
	l := &Listener{
		options: options,
		where:   options.URL.JoinPath("agents", instanceOf(options.Instance), options.ContainerID),
		taken:   make(chan net.Conn), places: make(chan struct{}, maxConnections),
		links: map[linkID]*link{},
	}
	l.client = &http.Client{
		Transport: framing{&http.Transport{
			// The certificate may be a proxy's, of any authority: nothing is said to it
			// but what the TLS inside protects.
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true},
			Proxy:               http.ProxyFromEnvironment,
			DisableKeepAlives:   true,
			TLSHandshakeTimeout: handshakeTimeout,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.closed, l.close = context.WithCancel(l.ctx)
	go l.run()
	return l
}

// instanceOf is the name of a backend's instance in paths.
func instanceOf(pin []byte) string { return hex.EncodeToString(pin[:8]) }

// Accept waits for the next connection that the backend uses. An error says that
// the listener was closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.taken:
		return conn, nil
	case <-l.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close hands out no more connections. Those in use go on; Drain ends the calling.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr is the backend's, for want of one of its own.
func (l *Listener) Addr() net.Addr { return address(l.options.URL.Host) }

type address string

func (address) Network() string  { return "callback" }
func (a address) String() string { return string(a) }

// run keeps one connection waiting for the backend, as long as there is a
// listener. The first failure of a row is logged, and then one in a while.
func (l *Listener) run() {
	var told time.Time
	for pause := firstPause; l.ctx.Err() == nil; {
		err := l.offer()
		if err == nil {
			pause = firstPause
			continue
		}
		if l.ctx.Err() == nil && (pause == firstPause || time.Since(told) > toldEvery) {
			told = time.Now()
			l.options.Logger.Warn("the backend is not reached", "url", l.options.URL.Redacted(), "error", err)
		}
		select { // with a difference, so that not all agents call at once
		case <-time.After(pause/2 + mathrand.N(pause)):
			pause = min(2*pause, lastPause)
		case <-l.ctx.Done():
		}
	}
}

// offer makes a connection and returns once the backend uses it, or it is gone.
func (l *Listener) offer() error {
	select {
	case l.places <- struct{}{}:
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	free := func() { <-l.places }
	conn, err := l.dial(l.ctx, l.where)
	if err != nil {
		free()
		return err
	}
	used := &usedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer), free: free}
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	first, err := used.reader.Peek(1)
	stop()
	if err != nil {
		used.Close()
		return fmt.Errorf("a connection that waited for the backend: %w", err)
	}
	if first[0] == opensLink || first[0] == resumesLink {
		go l.link(used)
		return nil
	}
	return l.hand(used)
}

// hand gives a connection to whoever accepts it.
func (l *Listener) hand(conn net.Conn) error {
	select {
	case l.taken <- conn:
		return nil
	case <-l.closed.Done():
		conn.Close()
		return net.ErrClosed
	}
}

// link has a connection carry the link that it names, until it is lost.
func (l *Listener) link(carrier *usedConn) {
	defer carrier.Close()
	var opening [openingSize]byte
	carrier.SetReadDeadline(time.Now().Add(handshakeTimeout))
	if _, err := io.ReadFull(carrier.reader, opening[:]); err != nil {
		return
	}
	carrier.SetReadDeadline(time.Time{})
	id := linkID(opening[1:])
	arrived := binary.BigEndian.Uint64(opening[1+linkIDSize:])
	l.mu.Lock()
	known := l.links[id]
	isNew := opening[0] == opensLink && known == nil && len(l.links) < maxConnections
	var outer net.Conn
	if isNew {
		known, outer = newLink(l.options.ResumeWithin, l.options.Logger, func() { l.forget(id) })
		l.links[id] = known
	}
	l.mu.Unlock()
	if known == nil || (opening[0] == opensLink) != isNew {
		refuseLink(carrier)
		return
	}
	if isNew && l.hand(outer) != nil {
		known.abandon()
		refuseLink(carrier)
		return
	}
	known.carry(carrier, carrier.reader, arrived)
}

func (l *Listener) forget(id linkID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.links, id)
}

// Drain waits until the peers have got what was written, once all links were
// closed: at most until ctx ends, or, if there is time for that, until those
// that are cut then are given up, or had some time on another connection. Then
// nobody is called any more.
func (l *Listener) Drain(ctx context.Context, isPatient bool) {
	defer l.cancel(net.ErrClosed)
	var lastCut time.Time
	for {
		l.mu.Lock()
		links := slices.Collect(maps.Values(l.links))
		l.mu.Unlock()
		if slices.ContainsFunc(links, (*link).isCut) {
			lastCut = time.Now()
		}
		if len(links) == 0 || ctx.Err() != nil && !(isPatient && time.Since(lastCut) < afterCut) {
			return
		}
		time.Sleep(drainPoll)
	}
}

// DialPeer makes a connection that the backend joins with one of another
// container's agent, where it lets this one: else it ends.
func (l *Listener) DialPeer(ctx context.Context, containerID string) (net.Conn, error) {
	return l.dial(ctx, l.where.JoinPath("peers", containerID))
}

// dial opens a WebSocket. Pings run until the connection ends.
func (l *Listener) dial(ctx context.Context, where *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	socket, _, err := websocket.Dial(ctx, where.String(), &websocket.DialOptions{
		HTTPClient: l.client, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	if err := l.showKey(ctx, socket); err != nil {
		socket.CloseNow()
		return nil, err
	}
	living, ended := context.WithCancel(context.Background())
	go l.keepAlive(living, socket)
	return &socketConn{Conn: websocket.NetConn(living, socket, websocket.MessageBinary), ended: ended}, nil
}

// shown is the answer to the backend's nonce.
type shown struct {
	Certificate []byte `json:"certificate"` // DER
	Signature   []byte `json:"signature"`   // of keyProof, ASN.1
}

// showKey signs the backend's nonce with the certificate's key, so that nobody
// else's connections are taken for the agent's.
func (l *Listener) showKey(ctx context.Context, socket *websocket.Conn) error {
	if socket.Subprotocol() != Subprotocol {
		return fmt.Errorf("the backend speaks %q, not %s", socket.Subprotocol(), Subprotocol)
	}
	_, nonce, err := socket.Read(ctx)
	if err != nil {
		return fmt.Errorf("the backend said nothing: %w", err)
	}
	if len(nonce) != nonceSize {
		return fmt.Errorf("%d bytes came to be signed, %d are wanted", len(nonce), nonceSize)
	}
	key, ok := l.options.Certificate.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the agent's key signs nothing")
	}
	digest := sha256.Sum256(keyProof(l.options.Instance, l.options.ContainerID, nonce))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	return wsjson.Write(ctx, socket, shown{l.options.Certificate.Certificate[0], signature})
}

// keyProof is what an agent signs. It is like nothing else that the key is for.
func keyProof(instance []byte, containerID string, nonce []byte) []byte {
	return fmt.Appendf(nil, "sockerless callback %s %s %x", instanceOf(instance), containerID, nonce)
}

// keepAlive cuts a connection whose other end is gone without a word.
func (l *Listener) keepAlive(ctx context.Context, socket *websocket.Conn) {
	ticker := time.NewTicker(l.options.PingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ping, cancel := context.WithTimeout(ctx, l.options.PingEvery)
			err := socket.Ping(ping)
			cancel()
			if err != nil {
				socket.CloseNow()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// socketConn ends its pings with itself.
type socketConn struct {
	net.Conn
	ended context.CancelFunc
}

func (c *socketConn) Close() error {
	err := c.Conn.Close()
	c.ended()
	return err
}
