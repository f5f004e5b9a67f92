package handover

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// upload is a client that sends a text and no more, of which some was read before.
func upload(t *testing.T, text string, early int, length *uint64) *Upload {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	assert.NilError(t, err)
	file := os.NewFile(uintptr(fds[0]), "client")
	client, err := net.FileConn(file)
	file.Close()
	assert.NilError(t, err)
	t.Cleanup(func() { client.Close() })
	conn, err := ConnectionOf(fds[1])
	assert.NilError(t, err)
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(client, text[early:])
	assert.NilError(t, err)
	assert.NilError(t, client.(*net.UnixConn).CloseWrite())
	u := Receive(Client{Conn: conn, Early: []byte(text[:early])}, length, false)
	t.Cleanup(u.Close)
	return u
}

func TestAnUploadIsReadToItsLastByteAndNotOneFurther(t *testing.T) {
	length := func(n uint64) *uint64 { return &n }
	for _, body := range []struct {
		text, content, behind, refusal string
		length                         *uint64
	}{
		{text: "abcGET /", content: "abc", behind: "GET /", length: length(3)},
		{text: "GET /", behind: "GET /", length: length(0)},
		{text: "ab", length: length(3), refusal: "unexpected EOF"},
		{text: "2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\nGET /", content: "abc", behind: "GET /"},
		{text: "1\r\na\r\n0\r\nTrailer: x\r\n\r\nGET /", content: "a", behind: "GET /"},
		{text: "1\r\na\r\n0\r\nTrailer: x\r\n", refusal: "unexpected EOF"},
		{text: "1\r\na\r\n", refusal: "unexpected EOF"},
		{text: "2\r\na", refusal: "unexpected EOF"},
		{text: "1\r\nab\r\n0\r\n\r\n", refusal: "malformed chunked encoding"},
		{text: "-1\r\na\r\n0\r\n\r\n", refusal: "invalid byte in chunk length"},
		{text: "1\r\na\r\n0\r\nTrailer: " + strings.Repeat("x", trailerLimit) + "\r\n\r\n", refusal: "header line too long"},
	} {
		for early := range min(len(body.text), 40) {
			u := upload(t, body.text, early, body.length)
			content, err := io.ReadAll(u)
			if body.refusal != "" {
				if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), body.refusal) {
					t.Fatalf("%.40q, %d read before: %v", body.text, early, err)
				}
				continue
			}
			behind, _ := io.ReadAll(u.reader)
			if err != nil || string(content) != body.content || string(behind) != body.behind {
				t.Fatalf("%.40q, %d read before: %q, behind it %q, %v", body.text, early, content, behind, err)
			}
		}
	}
}

func TestAReadThatWaitsForASilentClientEndsOnceNobodyWantsIt(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	assert.NilError(t, err)
	client := os.NewFile(uintptr(fds[0]), "client")
	defer client.Close()
	conn, err := ConnectionOf(fds[1])
	assert.NilError(t, err)
	length := uint64(1)
	u := Receive(Client{Conn: conn}, &length, false)
	defer u.Close()
	failed := make(chan error)
	go func() {
		_, err := u.Read(make([]byte, 1))
		failed <- err
	}()
	u.Stop()
	if err := <-failed; err == nil {
		t.Error("it was read")
	}
	if _, err := u.Read(make([]byte, 1)); err == nil {
		t.Error("it is read again")
	}
}

func TestAClientThatHangsUpIsNoticedThoughNobodyReads(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	assert.NilError(t, err)
	client := os.NewFile(uintptr(fds[0]), "client")
	conn, err := ConnectionOf(fds[1])
	assert.NilError(t, err)
	length := uint64(1)
	u := Receive(Client{Conn: conn}, &length, false)
	t.Cleanup(u.Close)
	left := make(chan struct{})
	go u.WatchHangUp(nil, func() { close(left) })
	_, err = client.WriteString("x")
	assert.NilError(t, err)
	assert.NilError(t, unix.Shutdown(fds[0], unix.SHUT_WR)) // still reads
	select {
	case <-left:
		t.Fatal("a client that waits for its answer is gone")
	case <-time.After(2 * time.Second):
	}
	assert.NilError(t, client.Close())
	select {
	case <-left:
	case <-time.After(time.Minute):
		t.Fatal("nobody notices")
	}
}
