package tlsport

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

// dialling returns the Node process of a dialer that refuses some addresses, and
// has a proxy for hosts of `.example`.
func dialling(t *testing.T, authorities string, proxy *url.URL, refused ...netip.Prefix) *node {
	t.Helper()
	n := attached(t, func(channel *nodechannel.Channel) error {
		d := newDialer(channel)
		d.proxyOf = func(request *http.Request) (*url.URL, error) {
			if strings.HasSuffix(request.URL.Hostname(), ".example") {
				return proxy, nil
			}
			return nil, nil
		}
		return d.run()
	})
	n.order(map[string]any{"settings": dialSettings{Authorities: authorities, Refused: refused}})
	return n
}

func (n *node) order(o map[string]any) {
	n.t.Helper()
	if err := n.channel.Tell(o); err != nil {
		n.t.Fatal(err)
	}
}

// dial returns a connection, or why there is none.
func (n *node) dial(dial map[string]any) (net.Conn, map[string]any) {
	n.t.Helper()
	n.lastID++
	dial["id"] = n.lastID
	n.order(map[string]any{"dial": dial})
	m := n.next()
	for m["state"] != nil { // of an earlier connection
		m = n.next()
	}
	if m["error"] != nil {
		return nil, m
	}
	conn := <-n.given
	n.t.Cleanup(func() { conn.Close() })
	return conn, m
}

// listening serves connections of a listener of its own, and returns its port.
func listening(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	assert.NilError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// server returns how a server of the authority speaks TLS.
func (a *authority) server(t *testing.T, until time.Time, more ...[]byte) *tls.Config {
	t.Helper()
	der, key := signed(t, a, "server", x509.ExtKeyUsageServerAuth, until)
	own := tls.Certificate{Certificate: append([][]byte{der}, more...), PrivateKey: key}
	return &tls.Config{Certificates: []tls.Certificate{own}}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func greetByTLS(config *tls.Config) func(net.Conn) {
	return func(conn net.Conn) {
		server := tls.Server(conn, config)
		_, _ = io.WriteString(server, "hello")
		_, _ = io.Copy(io.Discard, server)
	}
}

func expectHello(t *testing.T, conn net.Conn) {
	t.Helper()
	said := make([]byte, 5)
	if _, err := io.ReadFull(conn, said); err != nil || string(said) != "hello" {
		t.Fatal(string(said), err)
	}
}

func TestAServersCertificateIsVerified(t *testing.T) {
	known, other := newAuthority(t), newAuthority(t)
	later := time.Now().Add(time.Hour)
	var more [][]byte
	for n := range mostCertificates {
		der, _ := signed(t, nil, "more "+strconv.Itoa(n), 0)
		more = append(more, der)
	}
	ofOneName := [][]byte{other.cert.Raw, newAuthority(t).cert.Raw, newAuthority(t).cert.Raw}
	for name, c := range map[string]struct {
		config *tls.Config
		host   string
		why    string
	}{
		"of an authority":  {known.server(t, later, more[1:]...), "localhost", ""},
		"of another":       {other.server(t, later), "localhost", "x509: certificate signed by unknown authority"},
		"for another name": {known.server(t, later), "127.0.0.1", "x509: cannot validate certificate for 127.0.0.1"},
		"that has expired": {known.server(t, time.Now().Add(-time.Minute)), "localhost", "x509: certificate has expired"},
		"with others of one name": {
			known.server(t, later, ofOneName...), "localhost", "it comes with several certificates of one name",
		},
		"with many others": {known.server(t, later, more...), "localhost", "it comes with 10 others, 9 at most are looked at"},
	} {
		t.Run(name, func(t *testing.T) {
			n := dialling(t, known.pem, nil)
			port := listening(t, greetByTLS(c.config))
			to := map[string]any{"host": c.host, "port": port, "tls": map[string]any{}}
			conn, m := n.dial(to)
			if c.why == "" {
				expectHello(t, conn)
			} else if text, _ := m["error"].(string); !strings.HasPrefix(text, "tls: failed to verify certificate: "+c.why) {
				t.Error(m)
			}
			to["tls"] = map[string]any{"insecure": true}
			conn, _ = n.dial(to)
			expectHello(t, conn)
		})
	}
}

func TestAServersEndIsToldOnceAllIsSaid(t *testing.T) {
	known := newAuthority(t)
	config := known.server(t, time.Now().Add(time.Hour))
	for name, end := range map[string]struct {
		finish func(*tls.Conn)
		told   map[string]any
	}{
		"ended": {
			func(server *tls.Conn) { _ = server.CloseWrite() },
			map[string]any{"state": ended},
		},
		"cut": {
			func(server *tls.Conn) {
				_, _ = server.NetConn().Write([]byte{23, 3, 3}) // the beginning of a record
				server.NetConn().Close()
			},
			map[string]any{"error": "unexpected EOF", "code": "ECONNRESET"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := dialling(t, known.pem, nil)
			left := make(chan error, 1)
			port := listening(t, func(conn net.Conn) {
				server := tls.Server(conn, config)
				_, _ = io.WriteString(server, "hello")
				end.finish(server)
				_, err := io.Copy(io.Discard, server)
				left <- err
			})
			conn, _ := n.dial(map[string]any{"host": "localhost", "port": port, "tls": map[string]any{}})
			m := n.next()
			delete(m, "id")
			assert.Check(t, maps.Equal(m, end.told), m)
			expectHello(t, conn)
			_, err := conn.Read(make([]byte, 1))
			assert.Check(t, is.ErrorIs(err, io.EOF))
			conn.Close()
			<-left
		})
	}
}

func TestARefusalAfterTheHandshakeIsToldInTheServersWords(t *testing.T) {
	known := newAuthority(t)
	config := known.server(t, time.Now().Add(time.Hour))
	config.ClientAuth = tls.RequireAnyClientCert // in TLS 1.3 the client's part of the handshake is over before
	n := dialling(t, known.pem, nil)
	port := listening(t, func(conn net.Conn) {
		_ = tls.Server(conn, config).Handshake()
		conn.Close()
	})
	conn, _ := n.dial(map[string]any{"host": "localhost", "port": port, "tls": map[string]any{}})
	if m := n.next(); m["error"] != "remote error: tls: certificate required" || m["code"] != "" {
		t.Error(m)
	}
	conn.Close()
}

func TestNothingIsLeftOfAServerThatNeitherReadsNorAnswers(t *testing.T) {
	known := newAuthority(t)
	config := known.server(t, time.Now().Add(time.Hour))
	n := dialling(t, known.pem, nil)
	over := make(chan struct{})
	defer close(over)
	port := listening(t, func(conn net.Conn) {
		_ = tls.Server(conn, config).Handshake()
		<-over
	})
	before := runtime.NumGoroutine()
	conn, _ := n.dial(map[string]any{"host": "localhost", "port": port, "tls": map[string]any{}})
	_ = conn.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
	_, err := conn.Write(make([]byte, 64<<20))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	conn.Close()
	n.order(map[string]any{"cancel": n.lastID})
	withServer := before + 1
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > withServer; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), withServer)
		}
	}
}

func TestWithoutTLSNodeHasTheConnectionItself(t *testing.T) {
	n := dialling(t, "", nil)
	port := listening(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "hello") })
	conn, _ := n.dial(map[string]any{"host": "localhost", "port": port})
	expectHello(t, conn)
	if _, isTCP := conn.(*net.TCPConn); !isTCP {
		t.Errorf("%T", conn)
	}
}

func TestARefusedAddressIsNotConnectedTo(t *testing.T) {
	n := dialling(t, "", nil, netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("fe80::/10"))
	port := listening(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "hello") })
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "::ffff:127.0.0.1", "fe80::1%lo"} {
		for _, spoken := range []any{nil, map[string]any{"insecure": true}} {
			if _, m := n.dial(map[string]any{"host": host, "port": port, "tls": spoken}); m["code"] != "ERR_IP_BLOCKED" {
				t.Error(host, m)
			}
		}
	}
	conn, _ := n.dial(map[string]any{"host": "localhost", "port": port, "proxy": true})
	expectHello(t, conn)
}

func TestAFailureHasGosWordsAndNodesName(t *testing.T) {
	n := dialling(t, "", nil)
	plain := listening(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	silent := listening(t, func(net.Conn) {})
	for _, c := range []struct {
		host string
		port int
		text string
		code string
	}{
		{"127.0.0.1", 1, "dial tcp 127.0.0.1:1: connect: connection refused", "ECONNREFUSED"},
		{"127.0.0.1", plain, "http: server gave HTTP response to HTTPS client", "EPROTO"},
		{"127.0.0.1", silent, "", "ECONNRESET"},
	} {
		_, m := n.dial(map[string]any{"host": c.host, "port": c.port, "tls": map[string]any{}})
		if text, _ := m["error"].(string); !strings.HasPrefix(text, c.text) || m["code"] != c.code {
			t.Error(m)
		}
	}
}

func TestACancelledDialLeavesTheServer(t *testing.T) {
	n := dialling(t, "", nil)
	met, left := make(chan struct{}), make(chan error, 1)
	port := listening(t, func(conn net.Conn) {
		close(met)
		_, err := io.Copy(io.Discard, conn)
		left <- err
	})
	n.order(map[string]any{"dial": target{ID: 7, Host: "localhost", Port: port, TLS: &spoken{}}})
	<-met
	n.order(map[string]any{"cancel": 7})
	if err := <-left; errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	if m := n.next(); m["id"] != 7.0 || m["error"] == nil {
		t.Error(m)
	}
}

func TestAProxyIsAskedByConnect(t *testing.T) {
	known := newAuthority(t)
	port := listening(t, greetByTLS(known.server(t, time.Now().Add(time.Hour))))
	answers := map[string]string{"there.example:443": "200 Connection established", "away.example:443": "403 Forbidden"}
	proxyPort := listening(t, func(conn net.Conn) {
		asked, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		if asked.Header.Get("Proxy-Authorization") != "Basic YWxpOnNlc2FtZQ==" {
			_, _ = io.WriteString(conn, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 "+answers[asked.Host]+"\r\n\r\n")
		server, err := net.Dial("tcp", loopback(port))
		if err != nil {
			return
		}
		defer server.Close()
		go func() { _, _ = io.Copy(server, conn) }()
		_, _ = io.Copy(conn, server)
	})
	proxy := &url.URL{Scheme: "http", User: url.UserPassword("ali", "sesame"), Host: loopback(proxyPort)}
	n := dialling(t, known.pem, proxy)
	insecure := map[string]any{"insecure": true}
	conn, m := n.dial(map[string]any{"host": "there.example", "port": 443, "tls": insecure, "proxied": true})
	assert.Assert(t, conn != nil, m)
	expectHello(t, conn)
	_, m = n.dial(map[string]any{"host": "there.example", "port": 443, "tls": map[string]any{}, "proxied": true})
	if text, _ := m["error"].(string); !strings.Contains(text, "certificate is valid for localhost, not there.example") {
		t.Error(m)
	}
	if _, m = n.dial(map[string]any{"host": "away.example", "port": 443, "tls": insecure, "proxied": true}); m["error"] != "Forbidden" {
		t.Error(m)
	}
	n.order(map[string]any{"proxyOf": question{ID: 3, URL: "http://there.example"}})
	if m = n.next(); m["proxy"] != proxy.String() {
		t.Error(m)
	}
}
