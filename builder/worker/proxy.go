package worker

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
)

// gitProxy is git's web proxy: it refuses metadata services, even behind a name or a redirect, and responses larger
// than a build context. Only this process's children know its password; everybody on this machine can connect.
type gitProxy struct {
	server   *http.Server
	password string
	limit    int64
	forward  http.Handler
	// The machine's proxy, for encrypted connections.
	upstream  proxyChoice
	strangers strangers
}

const (
	// maxStrangers bounds the connections that have not shown the password, and maxProxyHeader, in bytes, a request's header.
	maxStrangers   = 256
	maxProxyHeader = 64 << 10
)

// strangers are a server's connections without a password, the oldest first, which is closed if there are too many.
type strangers struct {
	mu    sync.Mutex
	conns []net.Conn
}

// changed follows a connection's state.
func (s *strangers) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conns = append(s.conns, conn); len(s.conns) > maxStrangers {
			s.conns[0].Close()
			s.conns = slices.Delete(s.conns, 0, 1)
		}
	case http.StateClosed:
		s.remove(conn)
	}
}

// remove forgets a connection that is closed, or has shown the password.
func (s *strangers) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(each net.Conn) bool { return each == conn })
}

type connOfContext struct{}

// startGitProxy serves until it is closed, and announces the proxy to future child processes through the environment,
// from which BuildKit passes it to git. This process itself keeps using machineProxy.
func startGitProxy(upstream proxyChoice, limit int64) (*gitProxy, error) {
	made := &gitProxy{password: rand.Text(), limit: limit, upstream: upstream}
	made.forward = &httputil.ReverseProxy{
		Rewrite:   func(request *httputil.ProxyRequest) { request.Out.Header.Del("Proxy-Authorization") },
		Transport: downloading(upstream, limit),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusForbidden)
		},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	made.server = &http.Server{
		Handler: made, ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: maxProxyHeader, ConnState: made.strangers.changed,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, connOfContext{}, conn)
		},
	}
	go made.server.Serve(listener)
	address := (&url.URL{Scheme: "http", User: url.UserPassword("git", made.password), Host: listener.Addr().String()}).String()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		os.Setenv(name, address)
	}
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	return made, nil
}

func (p *gitProxy) close() error { return p.server.Close() }

func (p *gitProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	wanted := "Basic " + base64.StdEncoding.EncodeToString([]byte("git:"+p.password))
	if r.Header.Get("Proxy-Authorization") != wanted {
		w.Header().Set("Proxy-Authenticate", `Basic realm="builder"`)
		http.Error(w, "the proxy is its builder's alone", http.StatusProxyAuthRequired)
		return
	}
	if conn, ok := r.Context().Value(connOfContext{}).(net.Conn); ok {
		p.strangers.remove(conn)
	}
	if r.Method != http.MethodConnect {
		// A git server responds before it has read the whole request, the rest of which would be dropped.
		_ = http.NewResponseController(w).EnableFullDuplex()
		p.forward.ServeHTTP(w, r)
		return
	}
	there, err := p.connect(r.Context(), r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	defer there.Close()
	here, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	if _, err := io.WriteString(here, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	// The side that ends first ends the other.
	var ended sync.WaitGroup
	ended.Go(func() {
		defer there.Close()
		_, _ = io.Copy(there, buffered)
	})
	ended.Go(func() {
		defer here.Close()
		_, _ = io.Copy(here, io.LimitReader(there, p.limit))
	})
	ended.Wait()
}

// connect dials a host, through the machine's own proxy if there is one.
func (p *gitProxy) connect(ctx context.Context, host string) (net.Conn, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		return nil, err
	}
	if err := refuseMetadataHost(name); err != nil {
		return nil, err
	}
	through, err := p.upstream(&http.Request{URL: &url.URL{Scheme: "https", Host: host}})
	if err != nil {
		return nil, err
	}
	if through == nil {
		return webDialer.DialContext(ctx, "tcp", host)
	}
	return throughProxy(ctx, through, host)
}

// proxyTimeout bounds the proxy's time to connect.
const proxyTimeout = time.Minute

// throughProxy opens a connection through an HTTP proxy.
func throughProxy(ctx context.Context, through *url.URL, host string) (net.Conn, error) {
	if through.Scheme != "http" {
		return nil, errors.New("sockerless: builds of git repositories by a proxy that is not at http:// are not implemented by the builder")
	}
	ctx, cancel := context.WithTimeout(ctx, proxyTimeout)
	defer cancel()
	conn, err := webDialer.DialContext(ctx, "tcp", through.Host)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	request := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: host}, Host: host, Header: http.Header{}}
	if through.User != nil {
		password, _ := through.User.Password()
		login := base64.StdEncoding.EncodeToString([]byte(through.User.Username() + ":" + password))
		request.Header.Set("Proxy-Authorization", "Basic "+login)
	}
	// The server behind the proxy does not speak first, so none of its data is in the buffer.
	response, err := writeRequest(conn, request)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New("the proxy answered " + response.Status)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func writeRequest(conn net.Conn, request *http.Request) (*http.Response, error) {
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(conn), request)
}
