package tlsport

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
)

// Bounds of a certificate with its chain.
const (
	mostCertificates = 10
	mostBytes        = 64 << 10
)

// refusal is why a certificate is refused.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// verify checks a client's certificate, which comes first.
func verify(shown []*x509.Certificate, roots *x509.CertPool) error {
	err := verifyChain(shown, x509.VerifyOptions{
		Roots:     roots,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return refusal{err}
	}
	return nil
}

// verifyServer checks a server's certificate, which comes first; its errors are as
// Go's.
func verifyServer(shown []*x509.Certificate, name string, roots *x509.CertPool) error {
	if err := verifyChain(shown, x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: shown, Err: err}
	}
	return nil
}

// verifyChain has bounds that come before the first signature is looked at.
func verifyChain(shown []*x509.Certificate, options x509.VerifyOptions) error {
	if len(shown) > mostCertificates {
		return fmt.Errorf("it comes with %d others, %d at most are looked at", len(shown)-1, mostCertificates-1)
	}
	size := 0
	names, distinct := map[string]bool{}, map[string]bool{}
	options.Intermediates = x509.NewCertPool()
	for n, each := range shown {
		size += len(each.Raw)
		names[string(each.RawSubject)], distinct[string(each.Raw)] = true, true
		if n > 0 {
			options.Intermediates.AddCert(each)
		}
	}
	if size > mostBytes {
		return fmt.Errorf("it has %d bytes with its chain, %d at most are looked at", size, mostBytes)
	}
	// x509 tries every chain that names allow: with one name twice at most, there are
	// two.
	if len(names) < len(distinct)-1 {
		return errors.New("it comes with several certificates of one name")
	}
	_, err := shown[0].Verify(options)
	return err
}

// completeChain adds the issuers of a certificate that comes with none, as OpenSSL
// does: the authority's file may hold those between.
func completeChain(own *tls.Certificate, ca string) {
	if len(own.Certificate) > 1 {
		return
	}
	var issuers []*x509.Certificate
	for block, rest := pem.Decode([]byte(ca)); block != nil; block, rest = pem.Decode(rest) {
		if issuer, err := x509.ParseCertificate(block.Bytes); err == nil {
			issuers = append(issuers, issuer)
		}
	}
	for last := own.Leaf; !bytes.Equal(last.RawSubject, last.RawIssuer) && len(own.Certificate) < mostCertificates; {
		n := slices.IndexFunc(issuers, func(issuer *x509.Certificate) bool {
			return bytes.Equal(issuer.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(issuer) == nil
		})
		if n < 0 {
			return
		}
		last = issuers[n]
		own.Certificate = append(own.Certificate, last.Raw)
	}
}

// plainAnswer are the words of Go's server.
const plainAnswer = "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"

// answerPlainHTTP tells a client that speaks HTTP so. It stays a stranger until
// it leaves.
func answerPlainHTTP(conn *net.TCPConn, err error) bool {
	var failure tls.RecordHeaderError
	// A method begins with a capital letter, no record of TLS does.
	if !errors.As(err, &failure) || failure.RecordHeader[0] < 'A' || failure.RecordHeader[0] > 'Z' {
		return false
	}
	_, _ = io.WriteString(conn, plainAnswer)
	_ = conn.CloseWrite()
	_, _ = io.Copy(io.Discard, conn)
	return true
}
