package callback

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// enrolment is the exchange of the secret. The same secret may be shown again
// with the same key only: an answer may be lost.
type enrolment struct {
	ContainerID string `json:"container_id"`
	Secret      string `json:"secret"`
	PublicKey   []byte `json:"public_key"` // SubjectPublicKeyInfo, DER
}

// enrolled is its answer: the agent's certificate for calling, and those that
// lead to the backend's authority, DER.
type enrolled struct {
	Certificates [][]byte `json:"certificates"`
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// ErrRefused says that the backend does not take the secret, now or ever.
var ErrRefused = errors.New("the backend refuses the secret: it was used before, or is another container's")

// newKey makes the key whose certificate the secret is exchanged for.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the agent's key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	return key, public, err
}

// enrol exchanges the secret for a certificate.
func (l *Listener) enrol(ctx context.Context) (*tls.Certificate, error) {
	body, err := json.Marshal(enrolment{l.options.ContainerID, l.options.Secret, l.public})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.options.URL.JoinPath("exchange").String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.client(nil).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the backend's answer: %w", err)
	case response.StatusCode == http.StatusForbidden:
		return nil, ErrRefused
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("the backend answered %s", response.Status)
	}
	var got enrolled
	if err := json.Unmarshal(answer, &got); err != nil || len(got.Certificates) == 0 {
		return nil, errors.New("the backend answered no certificate")
	}
	leaf, err := x509.ParseCertificate(got.Certificates[0])
	if err != nil {
		return nil, fmt.Errorf("the backend's certificate for the agent: %w", err)
	}
	if !l.key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the backend answered another key's certificate")
	}
	return &tls.Certificate{Certificate: got.Certificates, PrivateKey: l.key, Leaf: leaf}, nil
}

// client makes HTTP/1.1 clients of the backend, which show the certificate if
// there is one.
func (l *Listener) client(own *tls.Certificate) *http.Client {
	config := l.tls.Clone()
	if own != nil {
		config.Certificates = []tls.Certificate{*own}
	}
	return &http.Client{
		Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, TLSHandshakeTimeout: handshakeTimeout},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the backend does not redirect: a secret would follow")
		},
	}
}
