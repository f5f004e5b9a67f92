package containerinit_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// backend waits for agents' calls.
type backend struct {
	t      *testing.T
	ca     *authority
	server *httptest.Server
	conns  chan offered // those that agents have offered
}

// offered is a connection, in whose name it is offered, and with which key.
type offered struct {
	net.Conn
	containerID string
	key         []byte // SubjectPublicKeyInfo
	start       string // whose token it names
	mac, signed []byte // what it has made of that, and of what
}

// hasToken reports whether the agent has a token, GENERATION.SECRET.
func (o offered) hasToken(token string) bool {
	start, secret, _ := strings.Cut(token, ".")
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(o.signed)
	return o.start == start && hmac.Equal(o.mac, mac.Sum(nil))
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{t: t, ca: newAuthority(t), conns: make(chan offered, 100)}
	sum := sha256.Sum256(b.ca.cert.RawSubjectPublicKeyInfo)
	mux := http.NewServeMux()
	mux.HandleFunc(fmt.Sprintf("GET /base/agents/%x/{id}", sum[:8]), b.accept)
	b.server = httptest.NewTLSServer(mux) // with a certificate that the agent has never heard of
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	return b
}

func (b *backend) accept(w http.ResponseWriter, r *http.Request) {
	socket, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"sockerless.agent.v1"}})
	if err != nil {
		b.t.Errorf("accept: %v", err)
		return
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	var shown struct {
		Certificate, Signature []byte
		Token                  struct {
			Start string
			MAC   []byte
		}
	}
	if socket.Write(r.Context(), websocket.MessageBinary, nonce) != nil || wsjson.Read(r.Context(), socket, &shown) != nil {
		return // the agent has left
	}
	certificate, err := x509.ParseCertificate(shown.Certificate)
	if err != nil {
		b.t.Errorf("%v", err)
		return
	}
	signed := fmt.Appendf(nil, "sockerless callback %s %s %x", strings.Split(r.URL.Path, "/")[3], r.PathValue("id"), nonce)
	if err := certificate.CheckSignature(x509.ECDSAWithSHA256, signed, shown.Signature); err != nil {
		b.t.Errorf("the agent does not have its key: %v", err)
		return
	}
	b.conns <- offered{websocket.NetConn(context.Background(), socket, websocket.MessageBinary), r.PathValue("id"), certificate.RawSubjectPublicKeyInfo,
		shown.Token.Start, shown.Token.MAC, slices.Concat(signed, shown.Certificate)}
}

// client is a client of the agent over a connection that it has offered.
func (b *backend) client(containerID string, authority *authority) agentv1connect.AgentServiceClient {
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{authority.issue(containerID, nil)}}
	transport := &http.Transport{ForceAttemptHTTP2: true, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		select {
		case conn := <-b.conns:
			secure := tls.Client(conn, config)
			return secure, secure.HandshakeContext(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	b.t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "https://agent", connect.WithGRPC())
}

func (b *backend) options(env ...string) taskOptions {
	return taskOptions{
		arguments: []string{"--listen", "", "--callback-url", b.server.URL + "/base", "--client-ca-pin", b.ca.pin(), "--linger", "1h"},
		env:       env,
	}
}

func TestAnAgentThatNobodyCanDialCalls(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	k := startTask(t, b.options())
	client := b.client(k.id, b.ca)
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	if hello.Msg.ContainerId != k.id {
		t.Errorf("%v", hello.Msg)
	}
	next := <-b.conns
	assert.Check(t, next.start == "" && next.mac == nil, "it shows a token that it does not have")
	b.conns <- next
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	c.write("through the callback")
	c.until("through the callback")
	// Another connection, at the same time and after the loss of all.
	other := b.client(k.id, b.ca)
	if out, code := run(t, other, "env", nobody("probe", "read", "/etc/passwd")); code != 0 || len(out) == 0 {
		t.Errorf("%q, %d", out, code)
	}
	b.server.CloseClientConnections() // those that wait; what is in use was taken over
	k.await("a new connection", func() bool {
		for len(b.conns) > 0 {
			(<-b.conns).Close()
		}
		fresh := b.client(k.id, b.ca)
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

func TestAnAgentThatCallsAnswersItsBackendOnly(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	k := startTask(t, b.options("SOCKERLESS_CALLBACK_SECRET=one-time"))
	_, err := b.client(k.id, newAuthority(t)).Prove(patience(t), connect.NewRequest(&agentv1.ProveRequest{}))
	assert.Check(t, err != nil, "a stranger is answered")
	k.await("the refusal", func() bool { return strings.Contains(k.said(), "no certificate of the configured client CA came") })
	proof, err := b.client(k.id, b.ca).Prove(patience(t), connect.NewRequest(&agentv1.ProveRequest{}))
	must(t, err)
	if proof.Msg.GetSecret() != "one-time" {
		t.Errorf("%v", proof.Msg)
	}
}

func TestAnAgentSaysWhatItHasNoProofBy(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	k := startTask(t, b.options())
	for want, asked := range map[string]*agentv1.ProveRequest{
		"SOCKERLESS_CALLBACK_SECRET": {},
		"the task has no role":       {CallerIdentity: &agentv1.CallerIdentityChallenge{Region: "eu-west-1", Host: "sts.example", Nonce: "n"}},
	} {
		_, err := b.client(k.id, b.ca).Prove(patience(t), connect.NewRequest(asked))
		if connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", asked, err)
		}
	}
}

func TestAClaimedAgentCallsInItsContainersName(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	k := startTask(t, b.options("SOCKERLESS_PREPARED=shape", "SOCKERLESS_CALLBACK_SECRET=one-time", "SOCKERLESS_CALLBACK_TOKEN=0.prepared"))
	container := strings.Repeat("c", 64)
	claim := connect.NewRequest(&agentv1.ClaimRequest{ContainerId: container, StartTimeoutSeconds: 60, CallToken: "7.claimed"})
	waiting := <-b.conns
	assert.Check(t, waiting.hasToken("0.prepared"), "it calls with the token of start %q", waiting.start)
	b.conns <- waiting
	claimed, err := b.client(k.id, b.ca).Claim(patience(t), claim)
	must(t, err)
	next := <-b.conns
	for next.containerID != container { // those of before the claim
		next = <-b.conns
	}
	if sum := sha256.Sum256(next.key); !bytes.Equal(sum[:], claimed.Msg.Pin) {
		t.Errorf("it calls with the key %x, and the claim answered %x", sum, claimed.Msg.Pin)
	}
	assert.Check(t, next.hasToken("7.claimed"), "it calls with the token of start %q", next.start)
	b.conns <- next
	client := b.client(container, b.ca)
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	if hello.Msg.ContainerId != container {
		t.Errorf("%v", hello.Msg)
	}
	proof, err := client.Prove(patience(t), connect.NewRequest(&agentv1.ProveRequest{}))
	must(t, err)
	if proof.Msg.GetSecret() != "one-time" {
		t.Errorf("%v", proof.Msg)
	}
	start(t, client, &agentv1.StartRequest{Generation: 1, Process: nobody("probe", "say", "x", "7")})
	k.await("the end", func() bool { return release(t, client, 1) == nil })
	if code := k.exitCode(); code != 7 {
		t.Errorf("the agent exited with %d", code)
	}
}
