package mirror

import (
	"container/list"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/semaphore"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

const (
	connectTimeout = 5 * time.Second
	// relayedTimeout exceeds the relay's wait for an agent's call.
	relayedTimeout = 15 * time.Second
	// idleTimeout is how long an unused connection is kept.
	idleTimeout = 30 * time.Second
	// maxHandshakes bounds concurrent handshakes with one agent, which allows 64
	// for all its clients.
	maxHandshakes = 8
	// maxCarried bounds the connections that an agent carries, and may never end, whoever
	// has left. An honest one takes 128, those of Follow among them: two while it reconnects.
	maxCarried = 126
	// MaxAnswer bounds a message from a partner's agent: earlier versions send 256 KiB
	// of a connection in one.
	MaxAnswer = 260 << 10
	// Little is held for such an agent, which may want this one's memory to be full.
	// The header has room for the longest error.
	maxHeader        = 64 << 10
	maxFrame         = 128 << 10
	streamWindow     = 512 << 10
	connectionWindow = 1 << 20
	pingAfter        = 15 * time.Second
	pingTimeout      = 15 * time.Second
	// heartbeatEvery and silenceLimit are the contract's.
	heartbeatEvery = 10 * time.Second
	silenceLimit   = 30 * time.Second
)

var errSilent = errors.New("its agent has been silent for 30 s")

// agentLink reaches a partner's agent over mutual TLS. HTTP/2 returns a
// connection's window as data is read: carried connections have their own HTTP/2
// connections, so that a stalled reader blocks nothing else.
type agentLink struct {
	agent       string // address and port, or a name for it
	tls         *tls.Config
	credentials func() [][]byte
	reach       func(ctx context.Context) (net.Conn, error)
	proofTime   time.Duration                     // for TLS, network delays included
	handshakes  chan struct{}                     // a slot for each pending handshake
	client      agentv1connect.AgentServiceClient // over the connection of Follow
	transport   *http.Transport
	waiting     *semaphore.Weighted // bytes of datagrams
	carried     *semaphore.Weighted

	mu        sync.Mutex
	exchanges list.List // an *exchange each, the one that has been silent for longest first
}

// NewLink returns a link whose connections authenticate with key and the current
// credentials.
func NewLink(partner Partner, key crypto.PrivateKey, credentials func() [][]byte) Link {
	agent := partner.Agent.String()
	dialer := net.Dialer{Timeout: connectTimeout}
	return newLink(partner, key, credentials, agent, connectTimeout, func(ctx context.Context) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", agent)
	})
}

// NewRelayedLink returns a link to an agent that cannot be dialled: reach returns
// a connection that a relay joins with one of that agent.
func NewRelayedLink(partner Partner, key crypto.PrivateKey, credentials func() [][]byte, reach func(ctx context.Context) (net.Conn, error)) Link {
	return newLink(partner, key, credentials, partner.ContainerID[:12], relayedTimeout, reach)
}

func newLink(partner Partner, key crypto.PrivateKey, credentials func() [][]byte, agent string, proofTime time.Duration, reach func(ctx context.Context) (net.Conn, error)) *agentLink {
	l := &agentLink{
		agent:     agent,
		reach:     reach,
		proofTime: proofTime,
		tls: &tls.Config{
			MinVersion:         tls.VersionTLS13,
			NextProtos:         []string{"h2"},
			InsecureSkipVerify: true, // the agent's certificate is self-signed and recognised by its key
			VerifyConnection:   func(state tls.ConnectionState) error { return checkPin(state, partner.Pin) },
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: credentials(), PrivateKey: key}, nil
			},
		},
		credentials: credentials,
		handshakes:  make(chan struct{}, maxHandshakes),
		waiting:     semaphore.NewWeighted(waitingBytes),
		carried:     semaphore.NewWeighted(maxCarried),
	}
	l.client, l.transport = l.newClient(func(ctx context.Context) (net.Conn, error) {
		conn, err := reach(ctx)
		if err != nil {
			return nil, err
		}
		return queueing(conn), nil
	})
	return l
}

func (l *agentLink) newClient(reach func(ctx context.Context) (net.Conn, error)) (agentv1connect.AgentServiceClient, *http.Transport) {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		Protocols:       protocols,
		DialTLSContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx, reach) },
		IdleConnTimeout: idleTimeout,

		MaxResponseHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:              maxFrame,
			MaxReceiveBufferPerConnection: connectionWindow,
			MaxReceiveBufferPerStream:     streamWindow,
			SendPingTimeout:               pingAfter,
			PingTimeout:                   pingTimeout,
		},
	}
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "https://"+l.agent,
		connect.WithGRPC(), connect.WithReadMaxBytes(MaxAnswer)), transport
}

// carrier returns a client for one call, with its own connection, and a function
// to call after it. Once the credentials have expired without replacement, only
// Follow's connection is available.
func (l *agentLink) carrier() (agentv1connect.AgentServiceClient, func()) {
	if l.haveEnded() {
		return l.client, func() {}
	}
	client, transport := l.newClient(l.reach)
	transport.DisableKeepAlives = true
	return client, transport.CloseIdleConnections
}

func (l *agentLink) haveEnded() bool {
	chain := l.credentials()
	if len(chain) == 0 {
		return true
	}
	leaf, err := x509.ParseCertificate(chain[0])
	return err != nil || time.Now().After(leaf.NotAfter)
}

// dial makes an authenticated connection.
func (l *agentLink) dial(ctx context.Context, reach func(ctx context.Context) (net.Conn, error)) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, silenceLimit, errSilent)
	defer cancel()
	select {
	case l.handshakes <- struct{}{}:
		defer func() { <-l.handshakes }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	conn, err := reach(ctx)
	if err != nil {
		return nil, err
	}
	proof, cancel := context.WithTimeout(ctx, l.proofTime)
	defer cancel()
	secure := tls.Client(conn, l.tls)
	if err := secure.HandshakeContext(proof); err != nil {
		conn.Close()
		return nil, err
	}
	return secure, nil
}

func checkPin(state tls.ConnectionState, pin []byte) error {
	sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if subtle.ConstantTimeCompare(sum[:], pin) != 1 {
		return errors.New("another agent answers there")
	}
	return nil
}

// Close closes idle connections.
func (l *agentLink) Close() { l.transport.CloseIdleConnections() }

// Follow reports where the partner's processes listen.
func (l *agentLink) Follow(ctx context.Context, told func(Listeners)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(silenceLimit, func() { cancel(errSilent) })
	defer silence.Stop()
	stream, err := l.client.Listeners(ctx, connect.NewRequest(&agentv1.ListenersRequest{}))
	if err != nil {
		return trueCause(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		silence.Reset(silenceLimit)
		pause := readEvery // messages without a pause wait in the stream's window
		if table := stream.Msg().GetTable(); table != nil {
			listeners, err := parseTable(table)
			if err != nil {
				return err
			}
			told(listeners)
			pause += readEvery * time.Duration(len(table.Listeners)/maxListeners) // what is read of it takes time, too
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	if err := stream.Err(); err != nil {
		return trueCause(ctx, err)
	}
	return errors.New("its agent has ended the stream")
}

// trueCause prefers the context's cause to the resulting error, and a dial error
// to the request's.
func trueCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var dialling *net.OpError
	if errors.As(err, &dialling) && dialling.Op == "dial" {
		return fmt.Errorf("its agent is not reached at %s: %w", dialling.Addr, dialling.Err)
	}
	return err
}

func parseTable(table *agentv1.ListenerTable) (Listeners, error) {
	var listeners Listeners
	for _, listener := range table.Listeners {
		address, err := netip.ParseAddr(listener.Address)
		if err != nil || listener.Port < 1 || listener.Port > 65535 {
			return Listeners{}, fmt.Errorf("no process can listen at %q, port %d", listener.Address, listener.Port)
		}
		at := netip.AddrPortFrom(address.Unmap().WithZone(""), uint16(listener.Port))
		if listener.Protocol == agentv1.TransportProtocol_TRANSPORT_PROTOCOL_UDP {
			listeners.UDP = append(listeners.UDP, at)
		} else {
			listeners.TCP = append(listeners.TCP, at)
		}
	}
	return listeners, nil
}
