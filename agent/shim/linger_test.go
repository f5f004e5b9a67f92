package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// manyLines are more than the kernel buffers for a client at its maximum.
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

// release does the host process's part, and waits until the shim has released the
// container.
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

func TestClientsThatTakeNothingAreCut(t *testing.T) {
	t.Setenv(slowVariable, "100ms")
	c := ended(t)
	_, body := c.handedLog()
	// Over a call, which nobody reads either.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stream, err := c.client.Logs(ctx, connect.NewRequest(&agentv1.LogsRequest{Stdout: true, Form: agentv1.LogForm_LOG_FORM_LINES}))
	must(t, err)
	stopped := c.attach(&agentv1.OpenAttach{AttachId: "a", ReplayLog: true, HandOver: &agentv1.HandOver{}}).handed(nil)
	_, err = io.ReadFull(stopped, make([]byte, 2)) // it has begun: one that has nothing yet is cut with nothing
	must(t, err)
	c.release()
	<-c.dead
	_, err = io.ReadAll(body)
	assert.Check(t, is.ErrorIs(err, io.ErrUnexpectedEOF))
	if rest := all(t, stopped); len(rest) == 0 {
		t.Error("what the kernel had for it is lost")
	}
	for stream.Receive() {
		assert.Check(t, stream.Msg().GetEnd() == nil, "it is whole")
	}
	assert.Check(t, stream.Err() != nil, "it is whole")
}

func TestACallThatDoesNotEndIsCutAloneAtARelease(t *testing.T) {
	for name, call := range map[string]func(*container){
		"an offer that nobody takes": func(c *container) { c.get("/etc") },
		"an archive that does not come": func(c *container) {
			call := c.client.ArchiveTake(contextFor(c.t))
			must(c.t, call.Send(&agentv1.ArchiveTakeRequest{Open: &agentv1.ArchivePutOpen{Path: "/"}}))
			response, err := call.Receive()
			must(c.t, err)
			_, fd := pair(c.t)
			must(c.t, send(response.GetOffer(), fd, nil))
			must(c.t, unix.Close(fd))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(drainVariable, "100ms")
			word := "tmp/" + rand.Text()
			c := launch(t, launchOptions{args: sh("while [ ! -e /%s ]; do sleep 0.1; done; seq %d", word, manyLines)})
			events := c.recording()
			c.mustRun()
			call(c)
			name := filepath.Join(c.spec.Rootfs, word)
			must(t, os.WriteFile(name, nil, 0o600))
			defer os.Remove(name)
			await(t, events, exitedEvent)
			_, body := c.handedLog()
			c.release()
			rest, err := io.ReadAll(body)
			must(t, err)
			wantLines(t, rest)
			<-c.dead
		})
	}
}

func TestAnArchiveThatIsReadSlowlyIsWholeAfterTheReleaseUnlessItsFilesAreGone(t *testing.T) {
	t.Setenv(drainVariable, "100ms")
	for _, isRemoved := range []bool{false, true} {
		c := launch(t, launchOptions{args: sleeper, spec: func(spec *shimspec.Spec) { spec.Upper = spec.Rootfs }})
		events := c.recording()
		c.mustRun()
		path, content := c.withFile(64 << 20)
		client := c.get(path).handed(t)
		stream, err := c.client.ArchiveGet(contextFor(t), connect.NewRequest(&agentv1.ArchiveGetRequest{Path: path}))
		must(t, err)
		assert.Assert(t, stream.Receive(), "%v", stream.Err())
		export, err := c.client.Export(contextFor(t), connect.NewRequest(&agentv1.ExportRequest{}))
		must(t, err)
		assert.Assert(t, export.Receive(), "%v", export.Err())
		must(t, killPID(c.ready.PID))
		await(t, events, exitedEvent)
		c.release()
		if isRemoved {
			directory := filepath.Dir(c.spec.ExitRecord)
			must(t, os.Rename(directory, directory+"-gone"))
			defer os.RemoveAll(directory + "-gone")
			sent, err := io.Copy(io.Discard, httputil.NewChunkedReader(bufio.NewReader(client)))
			assert.Check(t, is.ErrorIs(err, io.ErrUnexpectedEOF))
			assert.Check(t, sent < 32<<20, "it is not cut, but fails at its end")
		} else {
			assert.Check(t, theFile(t, client) == content, "other bytes came")
		}
		isWhole := false
		for stream.Receive() {
			isWhole = isWhole || stream.Msg().GetEnd() != nil
		}
		assert.Check(t, isWhole != isRemoved, "%v", stream.Err())
		isWhole = false
		for export.Receive() {
			isWhole = isWhole || export.Msg().GetEnd() != nil
		}
		assert.Check(t, isWhole != isRemoved, "%v", export.Err())
		<-c.dead
	}
}

func TestASecondSIGTERMCutsTheShimsClients(t *testing.T) {
	c := ended(t)
	_, body := c.handedLog()
	c.release()
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	<-c.dead
	_, err := io.ReadAll(body)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}
