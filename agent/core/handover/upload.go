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
	// uploadBuffer is the size of one read of an upload.
	uploadBuffer = 256 << 10
	// trailerLimit bounds the lines after a body, which are ignored.
	trailerLimit = 64 << 10
)

// Upload is the body of a client's request, read from its connection up to its
// last byte. Close must be called.
type Upload struct {
	Received uint64

	conn      *net.UnixConn
	reader    *bufio.Reader
	body      io.Reader
	isChunked bool
	left      uint64 // for a body with a length
	continues bool   // the client waits for `100 Continue`
	err       error
	stopped   atomic.Bool
}

// Receive begins a body with a length, or in HTTP's chunks. expectsContinue: the
// client waits for `100 Continue`.
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

// Read returns io.EOF only after a complete body. Incomplete bodies, and bodies
// with invalid framing, are INVALID_ARGUMENT.
func (u *Upload) Read(p []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	if u.stopped.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	if u.continues {
		u.continues = false
		_, _ = io.WriteString(u.conn, "HTTP/1.1 100 Continue\r\n\r\n") // the read fails if the client is gone
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
		u.err = nil // the next read reports it
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

// Stop fails pending and further reads: the rest of the body is not needed.
func (u *Upload) Stop() {
	u.stopped.Store(true)
	_ = u.conn.SetReadDeadline(time.Unix(1, 0))
}

// WatchHangUp calls leave once the client has closed its connection, until over is
// closed. It looks beside all reads: what uses a few kilobytes of a body may take
// minutes between two of them, or behind the last.
func (u *Upload) WatchHangUp(over <-chan struct{}, leave func()) {
	raw, err := u.conn.SyscallConn()
	if err != nil {
		return
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for isGone := false; !isGone; {
		select {
		case <-look.C:
			_ = raw.Control(func(fd uintptr) { isGone = isHungUp(fd) })
		case <-over:
			return
		}
	}
	leave()
}

// skipTrailer reads what follows the last chunk. It returns io.EOF at its end.
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

// Answer answers the request as the last one of its connection, with an error or
// without a body.
func (u *Upload) Answer(head string, status int, message string) {
	body := []byte{}
	if status != http.StatusOK {
		text := new(bytes.Buffer)
		encoder := json.NewEncoder(text)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(map[string]string{"message": message}) // writes the line's end, too
		body = text.Bytes()
		head += "Content-Type: application/json\r\n"
	}
	_ = u.conn.SetWriteDeadline(time.Now().Add(farewell))
	_, _ = fmt.Fprintf(u.conn, "HTTP/1.1 %d %s\r\n%sDate: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), head, time.Now().UTC().Format(http.TimeFormat), len(body), body)
	_ = u.conn.CloseWrite()
}

// Close closes the connection, once the client has closed its end.
func (u *Upload) Close() { go drop(u.conn) }
