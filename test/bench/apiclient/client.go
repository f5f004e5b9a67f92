package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

const (
	version = "/v1.41"
	// keptConnections are as many as execs that are measured at once, and more.
	keptConnections = 64
	bufferBytes     = 256 << 10
)

// client speaks to one daemon. Connections are kept, as SDKs keep them.
type client struct {
	socket string
	http   *http.Client
}

func newClient(socket string) *client {
	c := &client{socket: socket}
	c.http = &http.Client{Transport: &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return c.dial() },
		MaxIdleConnsPerHost: keptConnections,
		DisableCompression:  true,
	}}
	return c
}

func (c *client) dial() (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: c.socket, Net: "unix"})
}

// stream sends a request with a body of JSON, or none, and answers once the
// answer's header is there. A status of 400 and more is an error.
func (c *client) stream(method, path string, body []byte) (io.ReadCloser, error) {
	outgoing, err := http.NewRequest(method, "http://docker"+version+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		outgoing.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(outgoing)
	if err != nil {
		return nil, err
	}
	if err := refusal(method, path, response); err != nil {
		return nil, err
	}
	return response.Body, nil
}

// call sends a request and reads the whole answer.
func (c *client) call(method, path string, body []byte) ([]byte, error) {
	answer, err := c.stream(method, path, body)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	return io.ReadAll(answer)
}

// created is what a request made: a container, or an exec.
func (c *client) created(path string, configuration []byte) (string, error) {
	text, err := c.call("POST", path, configuration)
	if err != nil {
		return "", err
	}
	var made struct{ ID string }
	if err := json.Unmarshal(text, &made); err != nil {
		return "", err
	}
	return made.ID, nil
}

// connection is one that the client has for itself. Large reads copy nothing.
type connection struct {
	*net.UnixConn
	reader *bufio.Reader
}

func (c connection) Read(into []byte) (int, error) { return c.reader.Read(into) }

// send writes a request on a connection of its own, its body in one piece, and
// reads the answer's header.
func (c *client) send(method, path, header string, body []byte) (connection, *http.Response, error) {
	conn, err := c.dial()
	if err != nil {
		return connection{}, nil, err
	}
	pieces := net.Buffers{
		fmt.Appendf(nil, "%s %s%s HTTP/1.1\r\nHost: docker\r\n%sContent-Length: %d\r\n\r\n", method, version, path, header, len(body)),
		body,
	}
	_, unsent := pieces.WriteTo(conn)
	taken := connection{conn, bufio.NewReader(conn)}
	response, err := http.ReadResponse(taken.reader, &http.Request{Method: method})
	if err == nil {
		err = refusal(method, path, response) // It says why the rest was not taken.
	}
	if err := errors.Join(err, unsent); err != nil {
		conn.Close()
		return connection{}, nil, err
	}
	return taken, response, nil
}

// upload sends a request with a large body, and answers with the answer's.
func (c *client) upload(method, path, bodyType string, body []byte) (io.ReadCloser, error) {
	conn, response, err := c.send(method, path, "Content-Type: "+bodyType+"\r\n", body)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{response.Body, conn}, nil
}

// hijack takes a connection over, once the daemon has accepted that.
func (c *client) hijack(path, body string) (connection, error) {
	header := "Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n"
	conn, response, err := c.send("POST", path, header, []byte(body))
	if err == nil && response.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		err = fmt.Errorf("POST %s: %s in place of a stream", path, response.Status)
	}
	return conn, err
}

// refusal is the error that an answer tells, whose body it reads; nil for a
// status below 400.
func refusal(method, path string, response *http.Response) error {
	if response.StatusCode < http.StatusBadRequest {
		return nil
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(response.Body) // as much as there is
	return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, bytes.TrimSpace(text))
}

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// drain reads to the end without keeping anything, and answers with the number
// of bytes.
func drain(from io.Reader) (int64, error) {
	buffer := buffers.Get().(*[bufferBytes]byte)
	defer buffers.Put(buffer)
	for total := int64(0); ; {
		n, err := from.Read(buffer[:])
		total += int64(n)
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// drainAll is drain for what must have so many bytes, and closes it.
func drainAll(from io.ReadCloser, least int64) error {
	defer from.Close()
	total, err := drain(from)
	if err == nil && total < least {
		err = fmt.Errorf("%d bytes came back", total)
	}
	return err
}
