package containerinit_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1/agentv1connect"
)

// backend is one that waits for agents to call.
type backend struct {
	t      *testing.T
	ca     *authority
	server *httptest.Server
	conns  chan net.Conn // that agents have offered

	mu      sync.Mutex
	secrets map[string][]byte // what is known of each: the key that it was exchanged for
	refused int
}

func newBackend(t *testing.T, secret string) *backend {
	t.Helper()
	b := &backend{t: t, ca: newAuthority(t), conns: make(chan net.Conn, 100), secrets: map[string][]byte{secret: nil}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /base/exchange", b.exchange)
	mux.HandleFunc("GET /base/agents/{id}", b.accept)
	b.server = httptest.NewUnstartedServer(mux)
	certificate := b.ca.issue("", func(template *x509.Certificate) {
		template.URIs, template.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	pool := x509.NewCertPool()
	pool.AddCert(b.ca.cert)
	b.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	b.server.StartTLS()
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	return b
}

// exchange gives a certificate for a secret that was not used for another key.
func (b *backend) exchange(w http.ResponseWriter, r *http.Request) {
	var request struct {
		ContainerID string `json:"container_id"`
		Secret      string `json:"secret"`
		PublicKey   []byte `json:"public_key"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		b.t.Errorf("exchange: %v", err)
	}
	b.mu.Lock()
	used, known := b.secrets[request.Secret]
	if known = known && (used == nil || string(used) == string(request.PublicKey)); known {
		b.secrets[request.Secret] = request.PublicKey
	} else {
		b.refused++
	}
	b.mu.Unlock()
	if !known {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	public, err := x509.ParsePKIXPublicKey(request.PublicKey)
	if err != nil {
		b.t.Errorf("exchange: %v", err)
	}
	name, _ := url.Parse("sockerless://container/" + request.ContainerID)
	template := &x509.Certificate{SerialNumber: big.NewInt(3), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{name}}
	der, err := x509.CreateCertificate(rand.Reader, template, b.ca.cert, public, b.ca.key)
	if err != nil {
		b.t.Errorf("exchange: %v", err)
	}
	json.NewEncoder(w).Encode(map[string]any{"certificates": [][]byte{der, b.ca.cert.Raw}})
}

func (b *backend) accept(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].URIs[0].Path != "/"+r.PathValue("id") {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"sockerless.agent.v1"}})
	if err != nil {
		b.t.Errorf("accept: %v", err)
		return
	}
	b.conns <- websocket.NetConn(context.Background(), socket, websocket.MessageBinary)
}

// client speaks to the agent over what it has offered.
func (b *backend) client() agentv1connect.AgentServiceClient {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case conn := <-b.conns:
			return conn, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "http://agent", connect.WithGRPC())
}

func (b *backend) options(secret string) taskOptions {
	return taskOptions{
		arguments: []string{"--listen", "", "--callback-url", b.server.URL + "/base", "--callback-ca-pin", b.ca.pin(), "--linger", "1h"},
		env:       []string{"SOCKERLESS_CALLBACK_SECRET=" + secret},
	}
}

func TestAnAgentThatNobodyCanDialCalls(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "one-time")
	k := startTask(t, b.options("one-time"))
	client := b.client()
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	if hello.Msg.ContainerId != k.id {
		t.Errorf("%v", hello.Msg)
	}
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	c.write("through the callback")
	c.until("through the callback")
	// Another connection, at the same time and after the loss of all.
	other := b.client()
	if out, code := run(t, other, "env", nobody("probe", "read", "/etc/passwd")); code != 0 || len(out) == 0 {
		t.Errorf("%q, %d", out, code)
	}
	b.server.CloseClientConnections() // those that wait; what is in use was taken over
	k.await("a new connection", func() bool {
		for len(b.conns) > 0 {
			(<-b.conns).Close()
		}
		fresh := b.client()
		ctx, cancel := context.WithTimeout(patience(t), 20*time.Second)
		defer cancel()
		_, err := fresh.Hello(ctx, connect.NewRequest(&agentv1.HelloRequest{}))
		return err == nil
	})
	c.closeStdin()
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	must(t, release(t, client, 1))
	if code := k.exitCode(); code != 0 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestASecretIsGoodForOneAgent(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "one-time")
	startTask(t, b.options("one-time"))
	_, err := b.client().Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	for _, secret := range []string{"one-time", "another"} {
		thief := startTask(t, b.options(secret))
		if code := thief.exitCode(); code != 125 {
			t.Errorf("with %q the agent exited with %d", secret, code)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refused != 2 {
		t.Errorf("%d were refused", b.refused)
	}
}

func TestAnAgentCallsNobodyButItsBackend(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "one-time")
	options := b.options("one-time")
	other := newAuthority(t)
	options.arguments = append(options.arguments, "--callback-ca-pin", other.pin())
	k := startTask(t, options)
	k.await("the refusal", func() bool { return strings.Contains(k.said(), "this is not the backend") })
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.secrets["one-time"] != nil {
		t.Error("the secret went to a stranger")
	}
}
