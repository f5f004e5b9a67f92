package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	"gotest.tools/v3/assert"
)

const settingsType, dataType = 4, 0

func frame(kind byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	return append(binary.BigEndian.AppendUint32(append(head, 0), stream), payload...)
}

func creditOf(stream, credit uint32) []byte {
	return frame(windowUpdateType, stream, binary.BigEndian.AppendUint32(nil, credit))
}

// sinkConn keeps what is written.
type sinkConn struct {
	net.Conn
	bytes.Buffer
}

func (c *sinkConn) Read(p []byte) (int, error)  { return c.Buffer.Read(p) }
func (c *sinkConn) Write(p []byte) (int, error) { return c.Buffer.Write(p) }

// frames parses what was written: the credit of each stream, and the other frames
// unchanged.
func frames(t *testing.T, written []byte) (credit map[uint32]uint32, times int, others []byte) {
	t.Helper()
	credit = map[uint32]uint32{}
	for len(written) > 0 {
		length := frameHead + int(binary.BigEndian.Uint32(written)>>8)
		assert.Assert(t, len(written) >= length, "a frame of %d bytes has %d", length, len(written))
		if written[3] == windowUpdateType {
			credit[binary.BigEndian.Uint32(written[5:])] += binary.BigEndian.Uint32(written[frameHead:])
			times++
		} else {
			others = append(others, written[:length]...)
		}
		written = written[length:]
	}
	return credit, times, others
}

func TestCreditIsGivenBackInLargePiecesHoweverFramesAreWritten(t *testing.T) {
	const reads, each = 1000, 16 << 10
	all := frame(settingsType, 0, make([]byte, 24))
	for range reads {
		all = append(all, creditOf(0, each)...)
		all = append(all, creditOf(1, each)...)
		all = append(all, frame(dataType, 3, bytes.Repeat([]byte{windowUpdateType}, rand.N(50)))...)
	}
	_, _, wanted := frames(t, all)
	for _, most := range []int{1, 5, 40, 4096, len(all)} {
		sink := &sinkConn{}
		conn := HoldCredit(sink)
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 1+rand.N(most))
			if written, err := conn.Write(rest[:n]); written != n || err != nil {
				t.Fatalf("%d of %d bytes were written: %v", written, n, err)
			}
			rest = rest[n:]
		}
		credit, times, others := frames(t, sink.Bytes())
		assert.Check(t, bytes.Equal(others, wanted), "writes of %d: other frames were changed", most)
		if kept := reads*each - credit[0]; kept >= connectionCredit {
			t.Errorf("writes of %d: %d bytes of the connection's window were kept", most, kept)
		}
		if kept := reads*each - credit[1]; kept >= streamCredit {
			t.Errorf("writes of %d: %d bytes of the stream's window were kept", most, kept)
		}
		if mostTimes := reads*each/streamCredit + reads*each/connectionCredit; times > mostTimes {
			t.Errorf("writes of %d: credit was given %d times", most, times)
		}
	}
}

func TestCreditOfOneStreamIsGivenOnceAnotherHasSome(t *testing.T) {
	sink := &sinkConn{}
	conn := HoldCredit(sink)
	conn.Write(frame(settingsType, 0, nil))
	conn.Write(creditOf(1, 5000))
	conn.Write(creditOf(3, 6000))
	conn.Write(creditOf(1, 7000))
	if credit, _, _ := frames(t, sink.Bytes()); credit[1] != 5000 || credit[3] != 6000 {
		t.Errorf("credit: %v", credit)
	}
}

func TestWhatIsNotHTTP2IsWrittenAsItIs(t *testing.T) {
	sink := &sinkConn{}
	conn := HoldCredit(sink)
	text := []byte("HTTP/1.1 200 OK\r\n\r\n")
	for _, b := range [][]byte{text, creditOf(1, 1), text[:3]} {
		conn.Write(b)
	}
	if wanted := string(text) + string(creditOf(1, 1)) + string(text[:3]); sink.String() != wanted {
		t.Errorf("%q", sink.String())
	}
}

// countingListener counts what its connections write.
type countingListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &countingConn{conn, l}, err
}

type countingConn struct {
	net.Conn
	of *countingListener
}

func (c *countingConn) Write(p []byte) (int, error) {
	c.of.writes.Add(1)
	return c.Conn.Write(p)
}

func TestInputIsReadWithoutAPacketForEachFrame(t *testing.T) {
	const chunk, chunks = 64 << 10, 256
	s := &quietSession{stdin: make(chan string, 10), end: make(chan struct{}), closed: make(chan struct{})}
	container := &fakeContainer{Unimplemented: Unimplemented{Mode: "a test"}, session: s}
	socket := filepath.Join(t.TempDir(), "s")
	inner, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	listener := &countingListener{Listener: inner}
	server := ForLocal(NewServer(NewHandler(func(context.Context, string) (Container, error) { return container, nil }), slog.New(slog.DiscardHandler)))
	go server.Serve(Buffered(listener))
	t.Cleanup(func() { server.Close() })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	client := agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "http://agent", connect.WithGRPC())

	stream := client.Session(contextFor(t))
	send(t, stream, openAttach)
	before := listener.writes.Load()
	go func() {
		data := string(make([]byte, chunk))
		for n := range chunks {
			if stream.Send(stdin(uint64(n*chunk), data)) != nil {
				return // the test sees that bytes are missing
			}
		}
	}()
	for bytes := 0; bytes < chunk*chunks; {
		select {
		case data := <-s.stdin:
			bytes += len(data)
		case <-s.closed:
			t.Fatalf("the session ended after %d bytes", bytes)
		}
	}
	if writes := listener.writes.Load() - before; writes > chunks/2 {
		t.Errorf("%d writes for %d messages", writes, chunks)
	}
	close(s.end)
	for {
		if _, err := stream.Receive(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
