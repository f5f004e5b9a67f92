package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httputil"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// offeredLog is a call for a log, whose offer has come.
func (c *container) offeredLog() (offer *agentv1.HandOverOffer, vanish context.CancelFunc) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.t.Cleanup(cancel)
	request := &agentv1.LogsRequest{Stdout: true, Form: agentv1.LogForm_LOG_FORM_LINES, HandOver: true}
	stream, err := c.client.Logs(ctx, connect.NewRequest(request))
	must(c.t, err)
	if !stream.Receive() || stream.Msg().GetOffer() == nil {
		c.t.Fatalf("no offer: %v", stream.Err())
	}
	return stream.Msg().GetOffer(), cancel
}

// handedLog has a container count and end, and a client that was handed its log read
// the first line.
func handedLog(t *testing.T, lines int) (c *container, first []byte, body io.Reader, vanish context.CancelFunc) {
	t.Helper()
	c = launch(t, launchOptions{args: sh("seq %d", lines)})
	events := c.recording()
	c.mustRun()
	await(t, events, exitedEvent)
	offer, vanish := c.offeredLog()
	client, fd := pair(t)
	must(t, send(offer, fd, nil))
	must(t, unix.Close(fd))
	body = httputil.NewChunkedReader(bufio.NewReader(client))
	first = make([]byte, 2)
	_, err := io.ReadFull(body, first)
	must(t, err)
	return c, first, body, vanish
}

func TestALogGoesToItsClientItselfThoughCallerAndContainerAreGoneMeanwhile(t *testing.T) {
	const lines = 200_000 // more than a socket takes at once
	c, first, body, vanish := handedLog(t, lines)
	vanish()
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	rest, err := io.ReadAll(body)
	must(t, err) // its last chunk has come
	want := new(bytes.Buffer)
	for n := range lines {
		fmt.Fprintln(want, n+1)
	}
	if !bytes.Equal(append(first, rest...), want.Bytes()) {
		t.Fatalf("%d bytes in place of %d, or others", len(first)+len(rest), want.Len())
	}
	<-c.dead
}

func TestALogThatAClientHasNotReadOutlivesTheShim(t *testing.T) {
	const lines = 600_000 // more than a socket takes unless it is told to, and less than it is told to
	c, first, body, _ := handedLog(t, lines)
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	<-c.dead
	rest, err := io.ReadAll(body)
	must(t, err) // its last chunk has come
	if last := fmt.Sprintf("\n%d\n", lines); string(first) != "1\n" || !bytes.HasSuffix(rest, []byte(last)) {
		t.Fatalf("%d bytes, %q", len(rest), rest[max(0, len(rest)-20):])
	}
}

func TestALogWhoseClientDoesNotComeLeavesNothingOpen(t *testing.T) {
	c := launch(t, launchOptions{args: sh("seq 20000; exec sleep 1000")})
	c.mustRun()
	c.recording()
	written := c.follow()
	written.untilQuiet()
	written.cancel()
	before := c.oneBefore()
	_, vanish := c.offeredLog()
	vanish()
	untilAtMost(t, func() int { return openDescriptors(t, c.shim.Process.Pid) }, before)
}
