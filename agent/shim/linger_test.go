package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// manyLines are more than the kernel holds for a client, however much it is asked to.
const manyLines = 3_000_000

func wantLines(t *testing.T, got []byte) {
	t.Helper()
	want := new(bytes.Buffer)
	for n := range manyLines {
		fmt.Fprintln(want, n+1)
	}
	if !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("%d bytes in place of %d, or others", len(got), want.Len())
	}
}

// ended is a container that has written its lines and ended.
func ended(t *testing.T) *container {
	t.Helper()
	c := launch(t, launchOptions{args: sh("seq %d", manyLines)})
	events := c.recording()
	c.mustRun()
	await(t, events, exitedEvent)
	return c
}

// handedLog is a client to whom the log is written, and what it reads of it.
func (c *container) handedLog() (client *net.UnixConn, body io.Reader) {
	c.t.Helper()
	offer, _ := c.offeredLog()
	client, fd := pair(c.t)
	must(c.t, send(offer, fd, nil))
	must(c.t, unix.Close(fd))
	return client, httputil.NewChunkedReader(bufio.NewReader(client))
}

// release does what the host process does, and waits until the shim has let go.
func (c *container) release() {
	c.t.Helper()
	must(c.t, c.shim.Process.Signal(unix.SIGTERM))
	eventually(c.t, "the release", func() bool {
		conn, err := net.Dial("unix", c.spec.AgentSocket)
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, unix.ECONNREFUSED)
	})
}

func TestAClientThatReadsALogSlowlyHasAllOfItAfterTheRelease(t *testing.T) {
	c := ended(t)
	_, body := c.handedLog()
	first := make([]byte, 2)
	_, err := io.ReadFull(body, first)
	must(t, err)
	c.release()
	rest, err := io.ReadAll(body)
	must(t, err) // its last chunk has come
	wantLines(t, append(first, rest...))
	<-c.dead
}

func TestACallerThatReadsALogSlowlyHasAllOfItAfterTheRelease(t *testing.T) {
	c := ended(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	request := &agentv1.LogsRequest{Stdout: true, Form: agentv1.LogForm_LOG_FORM_LINES}
	stream, err := c.client.Logs(ctx, connect.NewRequest(request))
	must(t, err)
	var got []byte
	isReleased := false
	for stream.Receive() {
		got = append(got, stream.Msg().GetChunk().GetData()...)
		if !isReleased {
			isReleased = true
			c.release()
		}
	}
	must(t, stream.Err())
	wantLines(t, got)
	<-c.dead
}

func TestASessionThatReplaysALogSlowlyHasAllOfItAfterTheRelease(t *testing.T) {
	c := ended(t)
	s := c.attach(&agentv1.OpenAttach{AttachId: "a", ReplayLog: true, HandOver: &agentv1.HandOver{}})
	client := s.handed(nil)
	first := make([]byte, 2)
	_, err := io.ReadFull(client, first)
	must(t, err)
	c.release()
	wantLines(t, append(first, all(t, client)...))
	s.finish().expectExit(0)
	<-c.dead
}

func TestAClientThatGoesOnReadingIsNotCutAndOneThatDoesNotIs(t *testing.T) {
	const slow = 3 * time.Second
	t.Setenv(slowVariable, slow.String())
	c := ended(t)
	client, body := c.handedLog()
	c.release()
	piece := make([]byte, 256<<10)
	got := 0
	for begin := time.Now(); time.Since(begin) < 2*slow; time.Sleep(slow / 20) {
		n, err := io.ReadFull(body, piece)
		must(t, err)
		got += n
	}
	<-c.dead // once it takes nothing any more
	rest, err := io.ReadAll(body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("after %d and %d bytes: %v", got, len(rest), err)
	}
	client.Close()
}

func TestAShimThatIsToldTwiceCutsItsClients(t *testing.T) {
	c := ended(t)
	_, body := c.handedLog()
	c.release()
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	<-c.dead
	if _, err := io.ReadAll(body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}
