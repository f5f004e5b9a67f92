// Package servertest is for tests of what an agent's server allows its clients.
package servertest

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// StreamWindow returns how many bytes of a stream a server at a unix socket takes that
// nobody reads, as its first frame has it (RFC 9113, 6.5).
func StreamWindow(t testing.TB, socket string) (bytes uint32) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	assert.NilError(t, err)
	defer conn.Close()
	assert.NilError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	assert.NilError(t, err)
	head := make([]byte, 9)
	_, err = io.ReadFull(conn, head)
	assert.NilError(t, err)
	const settings, initialWindowSize = 4, 4
	assert.Assert(t, head[3] == settings, "the first frame is %v", head)
	values := make([]byte, binary.BigEndian.Uint32(head)>>8)
	_, err = io.ReadFull(conn, values)
	assert.NilError(t, err)
	bytes = 65_535
	for ; len(values) > 0; values = values[6:] {
		if binary.BigEndian.Uint16(values) == initialWindowSize {
			bytes = binary.BigEndian.Uint32(values[2:])
		}
	}
	return bytes
}
