// Package callback reaches a backend that cannot reach the agent: the agent dials
// the backend, over WebSockets, and serves on them what it would serve on a port,
// TLS included. docs/formats.md describes the wire format. A connection may be a
// link, which outlives the WebSockets that carry it.
//
// The WebSocket is anonymous, and so is its own TLS, which a proxy on the way may
// terminate: the TLS inside it authenticates the agent and its client. Before
// that, an agent only proves that it has its certificate's key.
package callback

import (
	"bufio"
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const (
	handshakeTimeout = 10 * time.Second
	attemptTimeout   = 30 * time.Second
	// PingEvery is the interval of pings on a connection that waits or is in use:
	// proxies on the way drop silent ones after a minute. The reply has the same
	// time limit.
	PingEvery = 20 * time.Second
	// Pauses between failed attempts; with their spread they are shorter than the
	// time for which the backend's clients wait for the agent.
	firstPause, lastPause = 500 * time.Millisecond, 3 * time.Second
	// ResumeWithin is how long a connection may stay cut. Noticing the cut and
	// reaching the backend again take part of that time.
	ResumeWithin = 2 * time.Minute
	// toldEvery is how often continuing failures are logged.
	toldEvery = 10 * time.Second
	// maxConnections bounds the connections in use by the backend, most of which
	// it joins with other agents (maxToOne in src/backends/cloud/callback).
	maxConnections = 512
	// Subprotocol names the WebSockets' content: TLS, with the agent as the
	// server.
	Subprotocol = "sockerless.agent.v1"
	// nonceSize is the length of the nonce that the backend wants signed.
	nonceSize = 32
)

// Options of a Listener.
type Options struct {
	URL         *url.URL // https
	Instance    []byte   // SHA-256 of the SubjectPublicKeyInfo of the backend's authority
	ContainerID string
	Certificate tls.Certificate // the agent's own, as it is shown inside
	Token       string          // of the start, GENERATION.SECRET; empty: none
	PingEvery   time.Duration
	// ResumeWithin is how long a connection may stay cut before it is abandoned.
	ResumeWithin time.Duration
	Logger       *slog.Logger
}

// Listener returns the connections that the backend starts to use. One more
// always waits for it.
type Listener struct {
	options Options
	name    atomic.Pointer[name]
	client  *http.Client

	ctx    context.Context // of the calling
	cancel context.CancelCauseFunc
	taken
	links *links
}

// name is in whose name the agent calls.
type name struct {
	containerID string
	certificate tls.Certificate
	token       string
	where       *url.URL
	current     context.Context // until the agent has another
	replace     context.CancelFunc
}

// Listen starts to dial the backend.
func Listen(options Options) *Listener {
	l := newListener(options)
	go l.run()
	return l
}

// Try makes one connection to the backend, and closes it once the backend has
// greeted the agent.
func Try(ctx context.Context, options Options) error {
	l := newListener(options)
	defer l.cancel(net.ErrClosed)
	conn, err := l.dial(ctx, l.name.Load(), "")
	if err != nil {
		return err
	}
	return conn.Close()
}

func newListener(options Options) *Listener {
	l := &Listener{options: options}
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.taken = newTaken(l.ctx)
	l.links = newLinks(options.ResumeWithin, l.hand, options.Logger)
	l.client = &http.Client{
		Transport: framing{&http.Transport{
			// The certificate may be a proxy's, from any authority: nothing is
			// sent to it but what the inner TLS protects.
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, InsecureSkipVerify: true},
			Proxy:               http.ProxyFromEnvironment,
			DisableKeepAlives:   true,
			TLSHandshakeTimeout: handshakeTimeout,
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	l.name.Store(l.newName(options.ContainerID, options.Certificate, options.Token))
	return l
}

func (l *Listener) newName(containerID string, certificate tls.Certificate, token string) *name {
	made := &name{containerID: containerID, certificate: certificate, token: token}
	made.where = l.options.URL.JoinPath("agents", instanceOf(l.options.Instance), containerID)
	made.current, made.replace = context.WithCancel(l.ctx)
	return made
}

// CallAs calls in another container's name from now on. The connection that waits
// is replaced; those in use continue.
func (l *Listener) CallAs(containerID string, certificate tls.Certificate, token string) {
	l.name.Swap(l.newName(containerID, certificate, token)).replace()
}

// instanceOf is the name of a backend's instance in URL paths.
func instanceOf(pin []byte) string { return hex.EncodeToString(pin[:8]) }

// Addr is the backend's, since the listener has none of its own.
func (l *Listener) Addr() net.Addr { return address(l.options.URL.Host) }

type address string

func (address) Network() string  { return "callback" }
func (a address) String() string { return string(a) }

// run keeps one connection waiting for the backend until the listener ends. Of
// repeated failures the first is logged, and then one every toldEvery.
func (l *Listener) run() {
	var told time.Time
	for pause := firstPause; l.ctx.Err() == nil; {
		own := l.name.Load()
		err := l.offer(own)
		if err == nil || own != l.name.Load() {
			pause = firstPause
			continue
		}
		if l.ctx.Err() == nil && (pause == firstPause || time.Since(told) > toldEvery) {
			told = time.Now()
			l.options.Logger.Warn("the backend is not reached", "url", l.options.URL.Redacted(), "error", err)
		}
		select { // with a spread, so that agents do not all dial at once
		case <-time.After(pause/2 + mathrand.N(pause)):
			pause = min(2*pause, lastPause)
		case <-own.current.Done():
			pause = firstPause
		}
	}
}

// offer makes a connection and returns once the backend uses it, or it is lost, or
// the agent has another name.
func (l *Listener) offer(own *name) error {
	if err := l.places.Acquire(own.current, 1); err != nil {
		return err
	}
	conn, err := l.dial(own.current, own, "")
	if err != nil {
		l.free()
		return err
	}
	used := &usedConn{Conn: conn, reader: bufio.NewReaderSize(conn, readBuffer), free: l.free}
	stop := context.AfterFunc(own.current, func() { conn.Close() })
	first, err := used.reader.Peek(1)
	stop()
	if err != nil {
		used.Close()
		return fmt.Errorf("a connection that waited for the backend: %w", err)
	}
	if first[0] == opensLink || first[0] == resumesLink {
		go l.links.carry(used)
		return nil
	}
	return l.hand(used)
}

// Drain waits, after all links are closed, until the peers have received what was
// written: see [links.drain]. Then the dialling stops.
func (l *Listener) Drain(ctx context.Context, isPatient func() bool) {
	defer l.cancel(net.ErrClosed)
	l.links.drain(ctx, isPatient)
}

// DialPeer makes a connection that the backend joins with one of another
// container's agent. It ends if the backend refuses.
func (l *Listener) DialPeer(ctx context.Context, containerID string) (net.Conn, error) {
	return l.dial(ctx, l.name.Load(), containerID)
}

// dial opens a WebSocket, with pings until it ends.
//
// peer is the container that the backend joins it with; empty: it is the backend's own
func (l *Listener) dial(ctx context.Context, own *name, peer string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	where := own.where
	if peer != "" {
		where = where.JoinPath("peers", peer)
	}
	socket, _, err := websocket.Dial(ctx, where.String(), &websocket.DialOptions{
		HTTPClient: l.client, Subprotocols: []string{Subprotocol}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	if err := l.showKey(ctx, socket, own); err != nil {
		socket.CloseNow()
		return nil, err
	}
	living, ended := context.WithCancel(context.Background())
	go l.keepAlive(living, socket)
	return &socketConn{Conn: websocket.NetConn(living, socket, websocket.MessageBinary), ended: ended}, nil
}

// shown is the response to the backend's nonce.
type shown struct {
	Certificate []byte `json:"certificate"` // DER
	Signature   []byte `json:"signature"`   // of keyProof, ASN.1
	Token       *made  `json:"token,omitempty"`
}

// made is what the agent has made of its token, which it never sends: a proxy on
// the way may read the response.
type made struct {
	Start string `json:"start"` // the token's generation
	MAC   []byte `json:"mac"`   // by the token's secret, of keyProof and the certificate
}

// showKey signs the backend's nonce with the certificate's key, so that no other
// connection can pass for the agent's, and shows that the agent has its start's token.
func (l *Listener) showKey(ctx context.Context, socket *websocket.Conn, own *name) error {
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
	key, ok := own.certificate.PrivateKey.(crypto.Signer)
	if !ok {
		return errors.New("the agent's key signs nothing")
	}
	message := keyProof(l.options.Instance, own.containerID, nonce)
	digest := sha256.Sum256(message)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	certificate := own.certificate.Certificate[0]
	return wsjson.Write(ctx, socket, shown{certificate, signature, makeOf(own.token, message, certificate)})
}

// makeOf returns nil without a token.
func makeOf(token string, message, certificate []byte) *made {
	start, secret, found := strings.Cut(token, ".")
	if !found {
		return nil
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(message)
	mac.Write(certificate)
	return &made{start, mac.Sum(nil)}
}

// keyProof is the message that an agent signs. Its form differs from everything
// else signed with the key.
func keyProof(instance []byte, containerID string, nonce []byte) []byte {
	return fmt.Appendf(nil, "sockerless callback %s %s %x", instanceOf(instance), containerID, nonce)
}

// keepAlive cuts a connection whose peer has vanished.
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

// socketConn stops its pings when it is closed.
type socketConn struct {
	net.Conn
	ended context.CancelFunc
}

func (c *socketConn) Close() error {
	err := c.Conn.Close()
	c.ended()
	return err
}
