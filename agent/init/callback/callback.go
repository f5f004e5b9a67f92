// Package callback reaches a backend that cannot reach the agent: the agent
// dials the backend, over TLS WebSockets, and serves there what it would serve
// on a port. docs/formats.md describes what goes over the wire.
//
// The backend is known by its authority's key, which is pinned, and its host
// name. The agent is known by a secret that the platform has given it and that
// is good for one exchange, and from then on by the certificate that the
// exchange brought.
package callback

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/coder/websocket"
)

const (
	handshakeTimeout = 10 * time.Second
	attemptTimeout   = 30 * time.Second
	// A connection that waits for its first byte is kept alive by pings: proxies
	// on the way forget silent ones.
	pingEvery   = 20 * time.Second
	pingTimeout = 20 * time.Second
	// Pauses between attempts that fail.
	firstPause, lastPause = 500 * time.Millisecond, 30 * time.Second
	// maxConnections bounds those that the backend uses at once.
	maxConnections = 128
	// Subprotocol is what the WebSockets carry: HTTP/2, whose client is the backend.
	Subprotocol = "sockerless.agent.v1"
)

// Options of a Listener.
type Options struct {
	URL         *url.URL // https
	Pin         []byte   // SHA-256 of the SubjectPublicKeyInfo of the backend's authority
	ContainerID string
	Secret      string
	Logger      *slog.Logger
}

// Listener hands out the connections that the backend begins to use. There is
// always one more that waits for it.
type Listener struct {
	options Options
	tls     *tls.Config
	key     *ecdsa.PrivateKey
	public  []byte

	ctx    context.Context
	cancel context.CancelCauseFunc
	taken  chan net.Conn
	places chan struct{}
}

// Listen begins to call the backend.
func Listen(options Options) (*Listener, error) {
	key, public, err := newKey()
	if err != nil {
		return nil, err
	}
	l := &Listener{
		options: options, key: key, public: public,
		taken: make(chan net.Conn), places: make(chan struct{}, maxConnections),
	}
	l.tls = &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"http/1.1"},
		ServerName:         options.URL.Hostname(),
		InsecureSkipVerify: true, // by the authorities of the machine: VerifyConnection does it by the pin
		VerifyConnection:   func(state tls.ConnectionState) error { return l.admit(state.PeerCertificates) },
	}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	go l.run()
	return l, nil
}

// admit takes a server for the backend if the pinned authority has issued its
// certificate for the host of the URL.
func (l *Listener) admit(chain []*x509.Certificate) error {
	roots, others := x509.NewCertPool(), x509.NewCertPool()
	pinned := false
	for _, certificate := range chain[1:] {
		sum := sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
		if certificate.IsCA && subtle.ConstantTimeCompare(sum[:], l.options.Pin) == 1 {
			roots.AddCert(certificate)
			pinned = true
		} else {
			others.AddCert(certificate)
		}
	}
	if !pinned {
		return errors.New("no certificate of the pinned authority came: this is not the backend")
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		DNSName: l.options.URL.Hostname(), Roots: roots, Intermediates: others,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}

// Accept waits for the next connection that the backend uses. An error is
// final: the backend refuses the agent, or the listener was closed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.taken:
		return conn, nil
	case <-l.ctx.Done():
		return nil, context.Cause(l.ctx)
	}
}

// Close ends the calling. Connections in use go on.
func (l *Listener) Close() error {
	l.cancel(net.ErrClosed)
	return nil
}

// Addr is the backend's, for want of one of its own.
func (l *Listener) Addr() net.Addr { return address(l.options.URL.Host) }

type address string

func (address) Network() string  { return "callback" }
func (a address) String() string { return string(a) }

// run keeps one connection waiting for the backend, as long as there is a
// listener.
func (l *Listener) run() {
	var own *tls.Certificate
	for pause := firstPause; l.ctx.Err() == nil; {
		var err error
		if own == nil {
			own, err = l.enrol(l.ctx)
		} else {
			err = l.offer(own)
		}
		if errors.Is(err, ErrRefused) {
			l.cancel(err)
			return
		}
		if err == nil {
			pause = firstPause
			continue
		}
		if l.ctx.Err() == nil {
			l.options.Logger.Warn("the backend is not reached", "url", l.options.URL.Redacted(), "error", err)
		}
		select { // with a difference, so that not all agents call at once
		case <-time.After(pause/2 + rand.N(pause)):
			pause = min(2*pause, lastPause)
		case <-l.ctx.Done():
		}
	}
}

// offer makes a connection and returns once the backend uses it, or it is gone.
func (l *Listener) offer(own *tls.Certificate) error {
	select {
	case l.places <- struct{}{}:
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	free := func() { <-l.places }
	conn, err := l.dial(own)
	if err != nil {
		free()
		return err
	}
	used := &usedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer), free: free}
	stop := context.AfterFunc(l.ctx, func() { conn.Close() })
	_, err = used.reader.Peek(1)
	stop()
	if err != nil {
		used.Close()
		return fmt.Errorf("a connection that waited for the backend: %w", err)
	}
	select {
	case l.taken <- used:
		return nil
	case <-l.ctx.Done():
		used.Close()
		return context.Cause(l.ctx)
	}
}

// dial opens a WebSocket. Pings run until the connection ends.
func (l *Listener) dial(own *tls.Certificate) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, attemptTimeout)
	defer cancel()
	socket, response, err := websocket.Dial(ctx, l.options.URL.JoinPath("agents", l.options.ContainerID).String(), &websocket.DialOptions{
		HTTPClient: l.client(own), Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil && response != nil && response.StatusCode == http.StatusForbidden {
		return nil, fmt.Errorf("the backend takes no connection of this container: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if socket.Subprotocol() != Subprotocol {
		socket.CloseNow()
		return nil, fmt.Errorf("the backend speaks %q, not %s", socket.Subprotocol(), Subprotocol)
	}
	living, ended := context.WithCancel(context.Background())
	go keepAlive(living, socket)
	return &socketConn{Conn: websocket.NetConn(living, socket, websocket.MessageBinary), ended: ended}, nil
}

// keepAlive cuts a connection whose other end is gone without a word.
func keepAlive(ctx context.Context, socket *websocket.Conn) {
	ticker := time.NewTicker(pingEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ping, cancel := context.WithTimeout(ctx, pingTimeout)
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
