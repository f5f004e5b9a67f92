package shim_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// archiveCall is a call for an archive, whose client's connection may be handed on.
type archiveCall struct {
	*connect.ServerStreamForClient[agentv1.ArchiveGetResponse]
	offer  *agentv1.HandOverOffer
	vanish context.CancelFunc
}

func (c *container) get(path string) *archiveCall {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.t.Cleanup(cancel)
	stream, err := c.client.ArchiveGet(ctx, connect.NewRequest(&agentv1.ArchiveGetRequest{Path: path, HandOver: true}))
	must(c.t, err)
	call := &archiveCall{ServerStreamForClient: stream, vanish: cancel}
	for call.Receive() {
		if offer := call.Msg().GetOffer(); offer != nil {
			call.offer = offer
		}
		if call.Msg().GetStat() != nil {
			return call
		}
	}
	c.t.Fatalf("no archive: %v", call.Err())
	return nil
}

// handed is the client whose connection the archive goes to.
func (a *archiveCall) handed(t testing.TB) *net.UnixConn {
	t.Helper()
	client, fd := pair(t)
	must(t, send(a.offer, fd, nil))
	must(t, unix.Close(fd))
	return client
}

// end has the call's last word.
func (a *archiveCall) end() (total uint64, err error) {
	for a.Receive() {
		if end := a.Msg().GetEnd(); end != nil {
			return end.TotalBytes, nil
		}
	}
	return 0, a.Err()
}

// withFile puts a file of random bytes into the container.
func (c *container) withFile(size int) (path string, content [32]byte) {
	c.t.Helper()
	random, err := os.Open("/dev/urandom")
	must(c.t, err)
	defer random.Close()
	data := make([]byte, size)
	_, err = io.ReadFull(random, data)
	must(c.t, err)
	must(c.t, os.WriteFile(filepath.Join(c.spec.Rootfs, "bulk"), data, 0o644))
	return "/bulk", sha256.Sum256(data)
}

// theFile reads HTTP's chunks, in which there is a tar of one file, to the end of the
// connection.
func theFile(t testing.TB, from io.Reader) [32]byte {
	t.Helper()
	plain := bufio.NewReader(from)
	body := httputil.NewChunkedReader(plain)
	archive := tar.NewReader(body)
	_, err := archive.Next()
	must(t, err)
	content := sha256.New()
	_, err = io.Copy(content, archive)
	must(t, err)
	if _, err := archive.Next(); err != io.EOF {
		t.Fatalf("behind the file: %v", err)
	}
	_, err = io.Copy(io.Discard, body)
	must(t, err) // its last chunk has come
	if end := all(t, plain); end != "\r\n" {
		t.Fatalf("the body does not end there: %q", end)
	}
	return [32]byte(content.Sum(nil))
}

func TestAnArchiveGoesToItsClientItselfWhoeverHasAskedForItIsGone(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	path, content := c.withFile(bulk)
	for _, vanishes := range []bool{false, true} {
		call := c.get(path)
		client := call.handed(t)
		if vanishes {
			call.vanish()
		}
		assert.Assert(t, theFile(t, client) == content, "other bytes came")
		if total, err := call.end(); !vanishes && (err != nil || total <= bulk) {
			t.Fatalf("%d bytes, %v", total, err)
		}
	}
}

func TestAnArchiveWhoseClientLeavesIsOverAndLeavesNothingOpen(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	path, _ := c.withFile(bulk)
	before := c.oneBefore()
	for _, leave := range []func(*net.UnixConn) error{(*net.UnixConn).Close, (*net.UnixConn).CloseWrite} {
		call := c.get(path)
		client := call.handed(t)
		must(t, leave(client))
		if total, err := call.end(); err == nil {
			t.Fatalf("%d bytes went nowhere", total)
		}
		client.Close()
	}
	untilAtMost(t, func() int { return openDescriptors(t, c.shim.Process.Pid) }, before)
}

func TestAnArchiveGoesIntoTheVolumeThoughCallerAndContainerAreGoneMeanwhile(t *testing.T) {
	volume := t.TempDir()
	c := launch(t, launchOptions{args: sleeper, config: func(config map[string]any) {
		mount := map[string]any{"destination": "/home", "type": "bind", "source": volume, "options": []string{"bind"}}
		config["mounts"] = append(config["mounts"].([]map[string]any), mount)
	}})
	c.mustRun()
	events := c.recording()
	content := new(bytes.Buffer)
	archive := tar.NewWriter(content)
	for _, name := range []string{"tmp/first", "home/second"} {
		must(t, archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: 1}))
		_, err := archive.Write([]byte("x"))
		must(t, err)
	}
	must(t, archive.Close())
	length := uint64(content.Len())

	client, cut := connectTo(t, c.spec.AgentSocket)
	call := client.ArchiveTake(contextFor(t))
	must(t, call.Send(&agentv1.ArchiveTakeRequest{Open: &agentv1.ArchivePutOpen{Path: "/"}, Length: &length}))
	response, err := call.Receive()
	must(t, err)
	conn, fd := pair(t)
	must(t, send(response.GetOffer(), fd, content.Next(1024))) // the first file
	must(t, unix.Close(fd))
	first := filepath.Join(c.spec.Rootfs, "tmp/first")
	defer os.Remove(first)
	untilAtMost(t, func() int { return missing(first) }, 0)
	cut()
	must(t, killPID(c.ready.PID))
	await(t, events, exitedEvent)
	_, err = content.WriteTo(conn)
	must(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK || missing(filepath.Join(volume, "second")) != 0 {
		t.Fatalf("%d, and the volume has not all of it", answer.StatusCode)
	}
}

// missing is 1 for a path at which nothing is.
func missing(path string) int {
	if _, err := os.Lstat(path); err != nil {
		return 1
	}
	return 0
}
