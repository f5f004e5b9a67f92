package containerinit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// issuer signs certificates as an authority over agents does.
type issuer struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t *testing.T, change func(*x509.Certificate)) *issuer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	i := &issuer{t: t}
	i.cert, i.key = i.sign(template, template)
	return i
}

// sign makes a certificate with a key of its own; with itself as parent, by that key.
func (i *issuer) sign(template, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	signer := i.key
	if template == parent {
		signer = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		i.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return certificate, key
}

// client is the certificate chain of a container's client.
func (i *issuer) client(containerID string, change func(*x509.Certificate)) []*x509.Certificate {
	i.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "client"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{containerURI(containerID)},
	}
	if change != nil {
		change(template)
	}
	leaf, _ := i.sign(template, i.cert)
	return []*x509.Certificate{leaf, i.cert}
}

func (i *issuer) rule() *clientRule {
	pin := sha256.Sum256(i.cert.RawSubjectPublicKeyInfo)
	return &clientRule{pin: pin[:], containerID: someID, now: time.Now}
}

// Each rule on its own: the reason shows that no other one refuses.
func TestEachRuleOfAdmissionRefusesByItself(t *testing.T) {
	t.Parallel()
	ca, stranger := newIssuer(t, nil), newIssuer(t, nil)
	noCA := newIssuer(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	rule, other := ca.rule(), strings.Repeat("0", 64)
	for _, uri := range []*url.URL{containerURI(someID), partnerURI(someID)} {
		assert.Check(t, rule.admit(ca.client(someID, func(c *x509.Certificate) { c.URIs = []*url.URL{uri} })), "%s is refused", uri)
	}
	forged := stranger.client(someID, nil)
	forged[1] = ca.cert
	own := ca.client(someID, nil)
	named := func(uris ...*url.URL) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = uris }
	}
	for name, c := range map[string]struct {
		rule   *clientRule
		chain  []*x509.Certificate
		reason string
	}{
		"nothing":              {rule, nil, "0 certificates came"},
		"without its CA":       {rule, own[:1], "1 certificates came"},
		"a long chain":         {rule, append(own[:2:2], own[1], own[1], own[1]), "5 certificates came"},
		"another CA":           {rule, stranger.client(someID, nil), "no certificate of the configured client CA"},
		"a pinned key of none": {noCA.rule(), noCA.client(someID, nil), "no certificate of the configured client CA"},
		"a forged chain":       {rule, forged, "certificate signed by unknown authority"},
		"a CA's":               {rule, ca.client(someID, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "is a CA's"},
		"expired":              {rule, ca.client(someID, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), "expired"},
		"not yet valid":        {rule, ca.client(someID, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }), "not yet valid"},
		"a server's": {rule, ca.client(someID, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
			"incompatible key usage"},
		"for no stated use":     {rule, ca.client(someID, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), "not for client authentication"},
		"another container":     {rule, ca.client(other, nil), "is for [sockerless://container/" + other + "], not for"},
		"a partner of another":  {rule, ca.client(someID, named(partnerURI(other))), "not for sockerless://container/" + someID},
		"no name":               {rule, ca.client(someID, named()), "is for [], not for"},
		"two names, one right":  {rule, ca.client(someID, named(containerURI(someID), containerURI(other))), "not for sockerless://container/" + someID},
		"a name that goes on":   {rule, ca.client(someID, named(containerURI(someID).JoinPath("x"))), "not for sockerless://container/" + someID},
		"a name of other kinds": {rule, ca.client(someID, named(&url.URL{Scheme: "https", Host: "container", Path: "/" + someID})), "is for [https://"},
	} {
		if err := c.rule.admit(c.chain); err == nil || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v, and not %q", name, err, c.reason)
		}
	}
}

// The role is checked separately, should admission fail one day.
func TestWhoWasAdmittedForAnotherContainerHasNoRole(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, nil)
	rule, other := ca.rule(), strings.Repeat("0", 64)
	for want, uris := range map[role][][]*url.URL{
		0: {nil, {containerURI(other)}, {partnerURI(other)}, {containerURI(someID), containerURI(other)},
			{containerURI(someID).JoinPath("x")}},
		controls: {{containerURI(someID)}},
		partners: {{partnerURI(someID)}},
	} {
		for _, names := range uris {
			chain := ca.client(someID, func(c *x509.Certificate) { c.URIs = names })
			if got := rule.roleOf(tls.ConnectionState{PeerCertificates: chain}); got != want {
				t.Errorf("%v: role %d, not %d", names, got, want)
			}
		}
	}
	if got := rule.roleOf(tls.ConnectionState{}); got != 0 {
		t.Errorf("without a certificate: role %d", got)
	}
}

// An agent's certificate is no credential for another's: it names its own
// container, is not a CA, and is for servers only.
func TestTheAgentsOwnCertificateOpensNothing(t *testing.T) {
	t.Parallel()
	made, err := newCertificate(someID, time.Now())
	assert.NilError(t, err)
	leaf, err := x509.ParseCertificate(made.Certificate[0])
	assert.NilError(t, err)
	if leaf.IsCA || len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("CA %v, for %v", leaf.IsCA, leaf.ExtKeyUsage)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != containerURI(someID).String() {
		t.Errorf("names %v", leaf.URIs)
	}
}

// Each connection is authenticated, with a certificate and in TLS 1.3.
func TestEachConnectionProvesItself(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t, nil)
	own, err := newCertificate(someID, time.Now())
	assert.NilError(t, err)
	chain := ca.client(someID, nil)
	leaf, key := ca.sign(chain[0], ca.cert)
	client := tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.cert.Raw}, PrivateKey: key}
	sessions := tls.NewLRUClientSessionCache(1)
	shake := func(config *tls.Config) (tls.ConnectionState, error) {
		ours, theirs := net.Pipe()
		config.InsecureSkipVerify, config.ServerName, config.ClientSessionCache = true, "agent", sessions
		read := make(chan struct{})
		go func() {
			defer close(read)
			peer := tls.Client(theirs, config)
			if peer.Handshake() == nil {
				peer.Read(make([]byte, 1)) // what comes before it, too: a session ticket
			}
			theirs.Close()
		}()
		secure := tls.Server(ours, ca.rule().tlsConfig(own))
		err := secure.Handshake()
		if err == nil {
			secure.Write([]byte{0})
		}
		ours.Close()
		<-read
		return secure.ConnectionState(), err
	}
	for range 2 {
		state, err := shake(&tls.Config{Certificates: []tls.Certificate{client}})
		if err != nil || state.Version != tls.VersionTLS13 || state.DidResume {
			t.Errorf("%v, version %x, resumed %v", err, state.Version, state.DidResume)
		}
	}
	if session, ok := sessions.Get("agent"); ok {
		t.Errorf("a session can be resumed: %v", session)
	}
	_, err = shake(&tls.Config{})
	assert.Check(t, is.ErrorContains(err, "didn't provide a certificate"), "without a certificate")
	_, err = shake(&tls.Config{Certificates: []tls.Certificate{client}, MaxVersion: tls.VersionTLS12})
	assert.Check(t, is.ErrorContains(err, "unsupported versions"), "TLS 1.2")
}
