package server

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// A peer on TCP may vanish with its machine; on a unix socket the kernel reports
// that, and an idle agent sleeps.
func TestAQuietPeerIsPingedOnTCPOnly(t *testing.T) {
	after := pingAfter
	pingAfter = time.Millisecond
	t.Cleanup(func() { pingAfter = after })
	newServer := func() *http.Server {
		return NewServer(http.NotFoundHandler(), slog.New(slog.DiscardHandler))
	}
	if local := newServer(); local.HTTP2.SendPingTimeout != 0 {
		t.Errorf("pings after %v on a unix socket", local.HTTP2.SendPingTimeout)
	}
	server := WithPings(newServer())
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	assert.NilError(t, err)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	connection, err := net.Dial("unix", listener.Addr().String())
	assert.NilError(t, err)
	t.Cleanup(func() { connection.Close() })
	emptySettings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	_, err = io.WriteString(connection, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+emptySettings)
	assert.NilError(t, err)
	for {
		var header [9]byte // length, type, flags, stream
		_, err := io.ReadFull(connection, header[:])
		assert.NilError(t, err)
		const ping = 6
		if header[3] == ping {
			return
		}
		length := int64(header[0])<<16 | int64(header[1])<<8 | int64(header[2])
		_, err = io.CopyN(io.Discard, connection, length)
		assert.NilError(t, err)
	}
}
