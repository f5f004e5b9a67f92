package containerinit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"
)

// agentValidity far exceeds any task's life: clients pin the key and ignore the
// time.
const agentValidity = 10 * 365 * 24 * time.Hour

// containerURI is the URI in both certificates of a connection: the agent's, and
// those of its permitted clients.
func containerURI(containerID string) *url.URL {
	return &url.URL{Scheme: "sockerless", Host: "container", Path: "/" + containerID}
}

// newCertificate creates the agent's key and certificate. The key never leaves
// the process.
func newCertificate(containerID string, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the agent's key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "sockerless agent " + containerID[:12]},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(agentValidity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		URIs:         []*url.URL{containerURI(containerID)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the agent's certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// pinOf is the SHA-256 of the certificate's public key, by which clients
// recognise the agent.
func pinOf(certificate tls.Certificate) []byte {
	sum := sha256.Sum256(certificate.Leaf.RawSubjectPublicKeyInfo)
	return sum[:]
}

// clientRule defines which clients may connect to this agent.
type clientRule struct {
	pin         []byte // SHA-256 of the CA's SubjectPublicKeyInfo
	containerID string
	now         func() time.Time
}

// maxClientChain bounds the length of a client's certificate chain.
const maxClientChain = 4

// admit accepts only clients with a certificate that the pinned CA has issued for
// this container, with the role of controller, partner or peer. chain is the
// client's: its own certificate first.
func (r *clientRule) admit(chain []*x509.Certificate) error {
	if len(chain) < 2 || len(chain) > maxClientChain {
		return fmt.Errorf("%d certificates came, the client's and its CA's are wanted", len(chain))
	}
	leaf := chain[0]
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	pinned := false
	for _, ca := range chain[1:] {
		sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
		if subtle.ConstantTimeCompare(sum[:], r.pin) == 1 && ca.IsCA {
			roots.AddCert(ca)
			pinned = true
		} else {
			intermediates.AddCert(ca)
		}
	}
	if !pinned {
		return errors.New("no certificate of the configured client CA came")
	}
	if leaf.IsCA {
		return errors.New("the client's certificate is a CA's")
	}
	// The pin authenticates the CA's key, and that key's signature the client's
	// certificate.
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   r.now(),
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return err
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		return errors.New("the client's certificate is not for client authentication")
	}
	if r.roleBy(leaf) == 0 {
		return fmt.Errorf("the client's certificate is for %v, not for %s", leaf.URIs, containerURI(r.containerID))
	}
	return nil
}

// tlsConfig requires TLS 1.3 and an admitted client. Without session tickets
// every connection is authenticated anew.
func (r *clientRule) tlsConfig(own tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{own},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{"h2", "http/1.1"},
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true,
		VerifyConnection:       func(state tls.ConnectionState) error { return r.admit(state.PeerCertificates) },
	}
}
