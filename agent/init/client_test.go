package containerinit_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/ports"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// authority is a client CA.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &authority{t, key, cert}
}

func (a *authority) pin() string {
	sum := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// issue makes a client certificate for a container, modified by the test.
func (a *authority) issue(containerID string, change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(a.t, err)
	name, err := url.Parse("sockerless://container/" + containerID)
	must(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "frontend"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{name},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}
}

// dial makes a gRPC client with the certificates; none: nil.
func dial(t *testing.T, address string, change func(*tls.Config), certificates ...tls.Certificate) agentv1connect.AgentServiceClient {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, Certificates: certificates} // the agent's key is pinned elsewhere
	if change != nil {
		change(config)
	}
	return dialFrom(t, ports.DialInNamespace(""), address, config)
}

// dialFrom makes a client whose connections begin in a network.
func dialFrom(t *testing.T, network ports.Dial, address string, config *tls.Config) agentv1connect.AgentServiceClient {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DialContext: network}
	t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "https://"+address, connect.WithGRPC())
}

// client is a client that the agent admits.
func (k *task) client() agentv1connect.AgentServiceClient {
	k.t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{k.ca.issue(k.id, nil)}}
	return dialFrom(k.t, k.network, k.address, config)
}

func patience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// nobody is the user of the image.
func nobody(args ...string) *agentv1.ProcessSpec {
	return &agentv1.ProcessSpec{Args: args, User: "nobody", Capabilities: dockerCapabilities, Env: []string{"PATH=/", "MINE=1"}}
}

func start(t *testing.T, client agentv1connect.AgentServiceClient, request *agentv1.StartRequest) *agentv1.StartResponse {
	t.Helper()
	if request.Generation == 0 {
		request.Generation = 1
	}
	response, err := client.Start(patience(t), connect.NewRequest(request))
	must(t, err)
	return response.Msg
}

// conversation is a client's view of a session.
type conversation struct {
	t      *testing.T
	stream *connect.BidiStreamForClient[agentv1.SessionRequest, agentv1.SessionResponse]
	stdout bytes.Buffer
	stderr bytes.Buffer
	pid    int64
}

func converse(t *testing.T, client agentv1connect.AgentServiceClient, open *agentv1.SessionRequest) *conversation {
	t.Helper()
	c := &conversation{t: t, stream: client.Session(patience(t))}
	must(t, c.stream.Send(open))
	return c
}

func attach(t *testing.T, client agentv1connect.AgentServiceClient, id string) *conversation {
	t.Helper()
	c := converse(t, client, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenAttach{OpenAttach: &agentv1.OpenAttach{
		AttachId: id, Stdin: true, Stdout: true, Stderr: true, Stream: true}}})
	first, err := c.stream.Receive()
	must(t, err)
	assert.Assert(t, first.GetStarted() != nil, "the attachment began with %v", first)
	return c
}

func execute(t *testing.T, client agentv1connect.AgentServiceClient, id string, process *agentv1.ProcessSpec) *conversation {
	t.Helper()
	return converse(t, client, &agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenExec{OpenExec: &agentv1.OpenExec{
		ExecId: id, Process: process, AttachStdin: true, AttachStdout: true, AttachStderr: true}}})
}

func (c *conversation) write(text string) {
	c.t.Helper()
	must(c.t, c.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Data: []byte(text)}}}))
}

func (c *conversation) closeStdin() {
	c.t.Helper()
	err := c.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}})
	if err != nil && !errors.Is(err, io.EOF) { // the process may have ended already
		c.t.Fatal(err)
	}
}

// until reads until the standard output ends in text.
func (c *conversation) until(text string) {
	c.t.Helper()
	for !bytes.HasSuffix(c.stdout.Bytes(), []byte(text)) {
		if last := c.receive(); last != nil {
			c.t.Fatalf("the session ended with %v after %q", last, c.stdout.String())
		}
	}
}

// receive takes one message and returns it if it is the last.
func (c *conversation) receive() *agentv1.SessionResponse {
	c.t.Helper()
	response, err := c.stream.Receive()
	must(c.t, err)
	switch message := response.Message.(type) {
	case *agentv1.SessionResponse_Started:
		c.pid = message.Started.Pid
	case *agentv1.SessionResponse_Stdout:
		if message.Stdout.Offset != uint64(c.stdout.Len()) {
			c.t.Fatalf("stdout skips from %d to %d", c.stdout.Len(), message.Stdout.Offset)
		}
		c.stdout.Write(message.Stdout.Data)
	case *agentv1.SessionResponse_Stderr:
		c.stderr.Write(message.Stderr.Data)
	case *agentv1.SessionResponse_Heartbeat:
	default:
		return response
	}
	return nil
}

// end reads the session to its end.
func (c *conversation) end() *agentv1.SessionResponse {
	c.t.Helper()
	for {
		if last := c.receive(); last != nil {
			if _, err := c.stream.Receive(); !errors.Is(err, io.EOF) {
				c.t.Fatalf("after the last message: %v", err)
			}
			return last
		}
	}
}

// exit reads the session to its end, which must be an exit.
func (c *conversation) exit() int {
	c.t.Helper()
	last := c.end()
	if last.GetExit() == nil {
		c.t.Fatalf("the session ended with %v; stderr %q", last, c.stderr.String())
	}
	return int(last.GetExit().Code)
}

// run executes a program and returns what it wrote.
func run(t *testing.T, client agentv1connect.AgentServiceClient, id string, process *agentv1.ProcessSpec) (stdout string, code int) {
	t.Helper()
	c := execute(t, client, id, process)
	c.closeStdin()
	code = c.exit()
	return c.stdout.String(), code
}

func logs(t *testing.T, client agentv1connect.AgentServiceClient, request *agentv1.LogsRequest) (stdout, stderr string) {
	t.Helper()
	stream, err := client.Logs(patience(t), connect.NewRequest(request))
	must(t, err)
	defer stream.Close()
	ended := false
	for stream.Receive() {
		switch message := stream.Msg().Message.(type) {
		case *agentv1.LogsResponse_Chunk:
			if message.Chunk.Stream == agentv1.Stream_STREAM_STDOUT {
				stdout += string(message.Chunk.Data)
			} else {
				stderr += string(message.Chunk.Data)
			}
		case *agentv1.LogsResponse_End:
			ended = true
		}
	}
	must(t, stream.Err())
	assert.Assert(t, ended, "the log was cut")
	return stdout, stderr
}
