package containerinit_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func TestOnlyThisContainersClientsAreAdmitted(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	hello := func(change func(*tls.Config), certificates ...tls.Certificate) (*agentv1.HelloResponse, error) {
		response, err := dial(t, k.address, change, certificates...).Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
		if err != nil {
			return nil, err
		}
		return response.Msg, nil
	}
	good := k.ca.issue(k.id, nil)
	response, err := hello(nil, good)
	must(t, err)
	if response.Mode != agentv1.Mode_MODE_INIT || response.ContainerId != k.id || response.Version == "" {
		t.Errorf("hello %v", response)
	}

	stranger := newAuthority(t)
	forged := stranger.issue(k.id, nil)
	forged.Certificate[1] = k.ca.cert.Raw // names the right CA, which did not sign
	alone := k.ca.issue(k.id, nil)
	alone.Certificate = alone.Certificate[:1]
	other, _ := url.Parse("sockerless://container/" + strings.Repeat("0", 64))
	// In this order: only the first refusals of a minute are logged one by one.
	for _, c := range []struct {
		name        string
		certificate tls.Certificate
	}{
		{"another CA", stranger.issue(k.id, nil)},
		{"a forged chain", forged},
		{"without its CA", alone},
		{"another container", k.ca.issue(strings.Repeat("0", 64), nil)},
		{"no name", k.ca.issue(k.id, func(c *x509.Certificate) { c.URIs = nil })},
		{"two names", k.ca.issue(k.id, func(c *x509.Certificate) { c.URIs = append(c.URIs, other) })},
		{"expired", k.ca.issue(k.id, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })},
		{"not yet valid", k.ca.issue(k.id, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })},
		{"a server's", k.ca.issue(k.id, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		{"for no stated use", k.ca.issue(k.id, func(c *x509.Certificate) { c.ExtKeyUsage = nil })},
		{"a CA's", k.ca.issue(k.id, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })},
		{"the CA itself, as client", tls.Certificate{Certificate: [][]byte{k.ca.cert.Raw, k.ca.cert.Raw}, PrivateKey: k.ca.key}},
	} {
		if response, err := hello(nil, c.certificate); err == nil {
			t.Errorf("%s: admitted (%v)", c.name, response)
		}
	}
	if _, err := hello(nil); err == nil {
		t.Error("a client without a certificate was admitted")
	}
	if _, err := hello(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, good); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	for _, reason := range []string{"a client was refused", "no certificate of the configured client CA came", "not for sockerless://container/" + k.id} {
		assert.Check(t, strings.Contains(k.said(), reason), "the agent's log lacks %q", reason)
	}
	_, err = hello(nil, good)
	assert.Check(t, err, "the right client, afterwards")
}

func TestTheAgentsCertificateIsItsContainersAndNew(t *testing.T) {
	t.Parallel()
	keys := map[string]bool{}
	for range 2 {
		k := startTask(t, taskOptions{})
		conn, err := tls.Dial("tcp", k.address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{k.ca.issue(k.id, nil)}})
		must(t, err)
		leaf := conn.ConnectionState().PeerCertificates[0]
		conn.Close()
		if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "sockerless://container/"+k.id {
			t.Errorf("names %v", leaf.URIs)
		}
		keys[string(leaf.RawSubjectPublicKeyInfo)] = true
	}
	assert.Check(t, is.Len(keys, 2), "two agents have one key")
}
