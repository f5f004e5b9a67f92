package tlsport

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// mostAnswer bounds a proxy's answer, in bytes.
const mostAnswer = 64 << 10

var proxyPorts = map[string]string{"http": "80", "https": "443"}

// throughProxy has a proxy connect to an address.
func (d *dialer) throughProxy(ctx context.Context, proxy *url.URL, address string) (net.Conn, error) {
	conn, err := d.openProxy(ctx, proxy)
	if err != nil {
		return nil, fmt.Errorf("proxyconnect tcp: %w", err)
	}
	_ = conn.SetDeadline(time.Now().Add(answerWithin))
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = askProxy(conn, proxy, address)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

func (d *dialer) openProxy(ctx context.Context, proxy *url.URL) (net.Conn, error) {
	port := proxyPorts[proxy.Scheme]
	if port == "" {
		return nil, unsupported(proxy)
	}
	if given := proxy.Port(); given != "" {
		port = given
	}
	conn, err := d.open(ctx, net.JoinHostPort(proxy.Hostname(), port), true)
	if err != nil || proxy.Scheme == "http" {
		return conn, err
	}
	return d.handshake(ctx, conn, proxy.Hostname(), false)
}

func unsupported(proxy *url.URL) error {
	return fmt.Errorf("a proxy of scheme %q is not supported", proxy.Scheme)
}

func askProxy(conn net.Conn, proxy *url.URL, address string) error {
	asked := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: http.Header{}}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(proxy.User.Username() + ":" + password))
		asked.Header.Set("Proxy-Authorization", "Basic "+pair)
	}
	if err := asked.Write(conn); err != nil {
		return err
	}
	reader := bufio.NewReader(io.LimitReader(conn, mostAnswer))
	answer, err := http.ReadResponse(reader, asked)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		_, text, _ := strings.Cut(answer.Status, " ")
		return errors.New(text)
	}
	if reader.Buffered() > 0 {
		return errors.New("the proxy said more than its answer")
	}
	return nil
}
