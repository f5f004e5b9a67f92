package callback

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"gotest.tools/v3/assert"
)

// countedConn records the size of each write.
type countedConn struct {
	net.Conn
	mu    sync.Mutex
	sizes []int
}

func (c *countedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.sizes = append(c.sizes, len(p))
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// TestFramesAreWrittenWhole: a link's frame leaves in one write, and so do small
// ones.
func TestFramesAreWrittenWhole(t *testing.T) {
	received := make(chan int)
	server := httptest.NewTLSServer(http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		socket, err := websocket.Accept(response, request, nil)
		if err != nil {
			t.Error(err)
			return
		}
		socket.SetReadLimit(1 << 20)
		for {
			_, message, err := socket.Read(request.Context())
			if err != nil {
				close(received)
				return
			}
			received <- len(message)
		}
	}))
	defer server.Close()
	var counted *countedConn
	transport := &http.Transport{DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := dialer.DialContext(ctx, network, address)
		counted = &countedConn{Conn: conn}
		return counted, err
	}}
	client := &http.Client{Transport: framing{transport}}
	socket, _, err := websocket.Dial(t.Context(), server.URL, &websocket.DialOptions{HTTPClient: client})
	assert.NilError(t, err)
	defer socket.CloseNow()
	counted.mu.Lock()
	counted.sizes = nil // of the request
	counted.mu.Unlock()
	var want []int
	for _, length := range []int{1, 200, frameHead + maxFrame, 5, 100_000} {
		assert.NilError(t, socket.Write(t.Context(), websocket.MessageBinary, make([]byte, length)))
		if got := <-received; got != length {
			t.Fatalf("%d bytes came, %d were sent", got, length)
		}
		head := 6
		if length > 125 {
			head = 8
		}
		if length > 65535 {
			head = 14
		}
		want = append(want, head+length)
	}
	counted.mu.Lock()
	defer counted.mu.Unlock()
	if !slices.Equal(counted.sizes, want) {
		t.Errorf("writes of %v bytes, want %v", counted.sizes, want)
	}
}
