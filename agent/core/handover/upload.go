package handover

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/memory"
)

const (
	// uploadBuffer is what is read of an upload at once.
	uploadBuffer = 256 << 10
	// trailerLimit bounds the lines behind a body, which mean nothing.
	trailerLimit = 64 << 10
)

// Upload is the body of a client's request, which is read from its connection to its
// last byte. Close must be called.
type Upload struct {
	Received uint64

	conn      *net.UnixConn
	reader    *bufio.Reader
	body      io.Reader
	isChunked bool
	left      uint64 // of a body whose length was told
	continues bool   // the client waits for the word
	err       error
	stopped   atomic.Bool
}

// Receive begins a body of a length, or in HTTP's chunks. expectsContinue says that
// the client waits to be told that it may come.
func Receive(client Client, length *uint64, expectsContinue bool) *Upload {
	u := &Upload{conn: client.Conn, isChunked: length == nil, continues: expectsContinue && len(client.Early) == 0}
	u.reader = bufio.NewReaderSize(io.MultiReader(bytes.NewReader(client.Early), client.Conn), uploadBuffer)
	u.body = u.reader
	if u.isChunked {
		u.body = httputil.NewChunkedReader(u.reader)
	} else {
		u.left = *length
	}
	return u
}

// Read answers io.EOF behind the body alone. Bodies that are cut or not framed as
// HTTP says are INVALID_ARGUMENT.
func (u *Upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.stopped.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	if u.continues {
		u.continues = false
		_, _ = io.WriteString(u.conn, "HTTP/1.1 100 Continue\r\n\r\n") // a client that is gone is told of by the read
	}
	n := 0
	if !u.isChunked && u.left == 0 {
		u.err = io.EOF
	} else {
		if !u.isChunked {
			p = p[:min(uint64(len(p)), u.left)]
		}
		n, u.err = u.body.Read(p)
	}
	u.Received += uint64(n)
	memory.Moved(n)
	switch {
	case !u.isChunked && n > 0:
		u.left -= uint64(n)
		u.err = nil // the next read tells
	case !u.isChunked && u.left > 0 && u.err == io.EOF:
		u.err = io.ErrUnexpectedEOF
	case u.isChunked && u.err == io.EOF:
		u.err = u.skipTrailer()
	}
	if u.err != nil && u.err != io.EOF {
		u.err = connect.NewError(connect.CodeInvalidArgument, u.err)
	}
	return n, u.err
}

// Stop ends a read that waits for the client, and those that follow: nobody wants
// what still comes.
func (u *Upload) Stop() {
	u.stopped.Store(true)
	_ = u.conn.SetReadDeadline(time.Unix(1, 0))
}

// skipTrailer reads what stands behind the last chunk. It answers io.EOF at its end.
func (u *Upload) skipTrailer() error {
	for left := trailerLimit; ; {
		line, err := u.reader.ReadSlice('\n')
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if left -= len(line); err != nil || left < 0 {
			return errors.New("header line too long")
		}
		if len(bytes.TrimRight(line, "\r\n")) == 0 {
			return io.EOF
		}
	}
}

// Answer answers the request, as its last one: with nothing, or with an error.
func (u *Upload) Answer(head string, status int, message string) {
	body := []byte{}
	if status != http.StatusOK {
		text := new(bytes.Buffer)
		encoder := json.NewEncoder(text)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(map[string]string{"message": message}) // it ends the line
		body = text.Bytes()
		head += "Content-Type: application/json\r\n"
	}
	_ = u.conn.SetWriteDeadline(time.Now().Add(farewell))
	_, _ = fmt.Fprintf(u.conn, "HTTP/1.1 %d %s\r\n%sDate: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), head, time.Now().UTC().Format(http.TimeFormat), len(body), body)
	_ = u.conn.CloseWrite()
}

// Close lets go of the connection, once the client has closed its end.
func (u *Upload) Close() { go drop(u.conn) }
