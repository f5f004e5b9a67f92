package tlsport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

const (
	// dialWithin limits a look-up with the connection that follows.
	dialWithin = 30 * time.Second
	// answerWithin limits a server's handshake, and a proxy's answer.
	answerWithin = 30 * time.Second
)

var (
	errRefused = errors.New("this address is not asked: it gives the machine its credentials")
	errUnset   = errors.New("the dialer has no settings yet")
	// In the words of net/http.
	errTooLate = errors.New("net/http: TLS handshake timeout")
	errPlain   = errors.New("http: server gave HTTP response to HTTPS client")
)

// order is a message of a Node process that dials.
type order struct {
	Settings *dialSettings `json:"settings"`
	Dial     *target       `json:"dial"`
	ProxyOf  *question     `json:"proxyOf"`
	Cancel   int           `json:"cancel"`
}

// dialSettings hold for all dials.
type dialSettings struct {
	Authorities string         `json:"authorities"` // PEM
	Refused     []netip.Prefix `json:"refused"`
}

// target is a server to connect to.
type target struct {
	ID   int     `json:"id"`
	Host string  `json:"host"`
	Port int     `json:"port"`
	TLS  *spoken `json:"tls"` // nil: none
	// Proxied has the environment's proxy asked for it, by CONNECT.
	Proxied bool `json:"proxied"`
	// Proxy is true of a proxy itself, whose address is never refused.
	Proxy bool `json:"proxy"`
}

// spoken is how TLS is spoken.
type spoken struct {
	// Insecure lets the server have any certificate.
	Insecure bool `json:"insecure"`
}

// question asks for the proxy of a URL.
type question struct {
	ID  int    `json:"id"`
	URL string `json:"url"`
}

// route answers a question; without a proxy the server is connected to directly.
type route struct {
	ID    int    `json:"id"`
	Proxy string `json:"proxy"`
}

// failed answers a dial or a question, or ends a connection that was cut.
type failed struct {
	ID    int    `json:"id"`
	Error string `json:"error"`
	Code  string `json:"code"` // as Node names the error; may be empty
}

// DialerMain is `sockerless-agent tls-dialer`: it returns the exit code once the
// Node process is gone.
func DialerMain([]string) int {
	return nodechannel.Run(noTLS, func(channel *nodechannel.Channel) error { return newDialer(channel).run() })
}

// dialer connects one Node process with servers.
type dialer struct {
	channel *nodechannel.Channel
	proxyOf func(*http.Request) (*url.URL, error)
	roots   atomic.Pointer[x509.CertPool]
	refused atomic.Pointer[[]netip.Prefix]
	mu      sync.Mutex
	dials   map[int]context.CancelFunc
}

func newDialer(channel *nodechannel.Channel) *dialer {
	return &dialer{
		channel: channel,
		proxyOf: http.ProxyFromEnvironment,
		dials:   map[int]context.CancelFunc{},
	}
}

// run serves until the Node process is gone.
func (d *dialer) run() error {
	for {
		received, err := d.channel.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var o order
		if err == nil {
			err = json.Unmarshal(received.Message, &o)
		}
		switch {
		case err != nil:
			return err
		case o.Settings != nil:
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(o.Settings.Authorities))
			d.roots.Store(roots)
			d.refused.Store(&o.Settings.Refused)
		case o.Dial != nil:
			ctx := d.begin(o.Dial.ID)
			go d.dial(ctx, o.Dial)
		case o.ProxyOf != nil:
			d.answer(o.ProxyOf)
		default:
			d.end(o.Cancel)
		}
	}
}

func (d *dialer) begin(id int) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials[id] = cancel
	return ctx
}

// end cancels what is left of a dial.
func (d *dialer) end(id int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cancel := d.dials[id]; cancel != nil {
		cancel()
		delete(d.dials, id)
	}
}

func (d *dialer) answer(q *question) {
	asked, err := url.Parse(q.URL)
	var proxy *url.URL
	if err == nil {
		proxy, err = d.proxyOf(&http.Request{URL: asked})
	}
	switch {
	case err != nil:
		d.fail(q.ID, err)
	case proxy != nil && proxyPorts[proxy.Scheme] == "":
		d.fail(q.ID, unsupported(proxy))
	case proxy == nil:
		_ = d.channel.Tell(route{ID: q.ID})
	default:
		_ = d.channel.Tell(route{ID: q.ID, Proxy: proxy.String()})
	}
}

// dial connects, gives Node the connection, and serves it.
func (d *dialer) dial(ctx context.Context, t *target) {
	defer d.end(t.ID)
	conn, err := d.connect(ctx, t)
	if err != nil {
		d.fail(t.ID, err)
		return
	}
	defer conn.Close()
	if tcp, isPlain := conn.(*net.TCPConn); isPlain {
		err = d.giveWhole(t.ID, tcp)
	} else {
		err = d.join(ctx, t.ID, conn)
	}
	if err != nil {
		d.fail(t.ID, err)
	}
}

// giveWhole gives Node the connection itself.
func (d *dialer) giveWhole(id int, tcp *net.TCPConn) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = raw.Control(func(fd uintptr) { failure = d.channel.Give(state{ID: id}, int(fd)) })
	return errors.Join(err, failure)
}

// join gives Node one end of a socket pair, and copies between the server and the
// other until Node has left, or cancels: a server may neither read nor answer.
func (d *dialer) join(ctx context.Context, id int, server net.Conn) error {
	up, theirs, err := socketPair()
	if err != nil {
		return err
	}
	defer up.Close()
	err = d.channel.Give(state{ID: id}, theirs)
	_ = unix.Close(theirs)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = io.Copy(server, up)
		_, _ = io.Copy(io.Discard, up) // A server that reads no more may still answer.
		server.Close()
	}()
	if _, err := io.Copy(up, server); err != nil {
		d.fail(id, err)
	} else {
		_ = d.channel.Tell(state{ID: id, State: ended})
	}
	_ = up.CloseWrite()
	<-left
	return nil
}

func (d *dialer) connect(ctx context.Context, t *target) (net.Conn, error) {
	if d.roots.Load() == nil {
		return nil, errUnset
	}
	address := net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
	var proxy *url.URL
	var err error
	if t.Proxied {
		proxy, err = d.proxyOf(&http.Request{URL: &url.URL{Scheme: "https", Host: address}})
	}
	var conn net.Conn
	switch {
	case err != nil:
	case proxy != nil:
		conn, err = d.throughProxy(ctx, proxy, address)
	default:
		conn, err = d.open(ctx, address, t.Proxy)
	}
	if err != nil || t.TLS == nil {
		return conn, err
	}
	return d.handshake(ctx, conn, t.Host, t.TLS.Insecure)
}

// open connects to an address, which may be a refused one if it is a proxy's.
func (d *dialer) open(ctx context.Context, address string, isProxy bool) (net.Conn, error) {
	dialer := net.Dialer{Timeout: dialWithin, Resolver: &net.Resolver{PreferGo: true}}
	if !isProxy {
		dialer.Control = d.check
	}
	return dialer.DialContext(ctx, "tcp", address)
}

// check refuses an address that a name was resolved to.
func (d *dialer) check(_, address string, _ syscall.RawConn) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	addr := resolved.Addr().Unmap().WithZone("")
	for _, refused := range *d.refused.Load() {
		if refused.Contains(addr) {
			return errRefused
		}
	}
	return nil
}

// handshake speaks TLS on a connection, which it closes if that fails.
func (d *dialer) handshake(ctx context.Context, conn net.Conn, name string, isInsecure bool) (net.Conn, error) {
	config := &tls.Config{
		ServerName: name,
		NextProtos: []string{"http/1.1"},
		// verify has bounds, which come before Go's own look at the chain.
		InsecureSkipVerify: true,
	}
	if !isInsecure {
		config.VerifyConnection = func(shown tls.ConnectionState) error {
			return verifyServer(shown.PeerCertificates, name, d.roots.Load())
		}
	}
	limited, cancel := context.WithTimeoutCause(ctx, answerWithin, errTooLate)
	defer cancel()
	secure := tls.Client(conn, config)
	err := secure.HandshakeContext(limited)
	if err == nil {
		return secure, nil
	}
	conn.Close()
	var header tls.RecordHeaderError
	switch {
	case limited.Err() != nil:
		return nil, context.Cause(limited)
	case errors.As(err, &header) && string(header.RecordHeader[:]) == "HTTP/":
		return nil, errPlain
	}
	return nil, err
}

// fail tells Node why there is no connection, or no more of it.
func (d *dialer) fail(id int, err error) {
	_ = d.channel.Tell(failed{ID: id, Error: err.Error(), Code: codeOf(err)})
}

// codeOf returns an error's name in Node, empty if it has none.
func codeOf(err error) string {
	var lookup *net.DNSError
	var errno syscall.Errno
	var failure net.Error
	switch {
	case errors.Is(err, errRefused):
		return "ERR_IP_BLOCKED"
	case errors.Is(err, errTooLate):
		return "ETIMEDOUT"
	case errors.Is(err, errPlain):
		return "EPROTO"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "ECONNRESET"
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return "ENOTFOUND"
	case errors.As(err, &lookup):
		return "EAI_AGAIN"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	case errors.As(err, &failure) && failure.Timeout():
		return "ETIMEDOUT"
	}
	return ""
}
