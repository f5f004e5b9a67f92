package host_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// manyLines are more than the kernel buffers for a client at its maximum.
const manyLines = 3_000_000

// loud is a container that has written them and ended.
func (h *hostProcess) loud(t *testing.T) (*running, *hostv1.LaunchContainerRequest) {
	t.Helper()
	layer := h.unpackImage(t)
	request := sleeper(t, h.create(t, layer), layer, noNetwork())
	request.OciSpec = ociSpec(t, "sh", "-c", fmt.Sprintf("seq %d", manyLines))
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	c.exitCode(t)
	return c, request
}

// slowReader is a client that has taken the first line of a log.
func slowReader(t *testing.T, client agentv1connect.AgentServiceClient, id string) (rest io.Reader) {
	t.Helper()
	logs := &agentv1.LogsRequest{Stdout: true, Form: agentv1.LogForm_LOG_FORM_LINES, HandOver: true}
	stream, err := client.Logs(t.Context(), storedRequest(id, logs))
	assert.NilError(t, err)
	if !stream.Receive() || stream.Msg().GetOffer() == nil {
		t.Fatalf("no offer: %v", stream.Err())
	}
	offer := stream.Msg().GetOffer()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	assert.NilError(t, err)
	reader, err := handover.ConnectionOf(pair[0])
	assert.NilError(t, err)
	t.Cleanup(func() { reader.Close() })
	_ = reader.SetDeadline(time.Now().Add(2 * time.Minute))
	_, err = handover.Send(offer.Socket, offer.Token, pair[1], nil)
	assert.NilError(t, err)
	_ = unix.Close(pair[1])
	body := httputil.NewChunkedReader(bufio.NewReader(reader))
	first := make([]byte, len("1\n"))
	if _, err := io.ReadFull(body, first); err != nil || string(first) != "1\n" {
		t.Fatalf("%q, %v", first, err)
	}
	return body
}

// wantRest reads the remaining output, which must be complete.
func wantRest(t *testing.T, body io.Reader) {
	t.Helper()
	rest, err := io.ReadAll(body)
	assert.NilError(t, err, "after %d bytes", len(rest))
	number := 1
	for line := range strings.Lines(string(rest)) {
		if number++; line != fmt.Sprintln(number) {
			t.Fatalf("line %d is %q", number, line)
		}
	}
	assert.Assert(t, number == manyLines, "the last line is %d", number)
}

func (h *hostProcess) wantRemoved(t *testing.T, id string) {
	t.Helper()
	_, err := h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: id}))
	assert.NilError(t, err)
	if _, err := os.Lstat(filepath.Join(h.stateDir, "containers", id)); !os.IsNotExist(err) {
		t.Errorf("its files: %v", err)
	}
}

func TestARemovalDoesNotCutAClientThatReadsTheLogSlowly(t *testing.T) {
	h := startHost(t)
	c, request := h.loud(t)
	rest := slowReader(t, c.AgentServiceClient, request.ContainerId)
	h.wantRemoved(t, request.ContainerId)
	// Only its shim remains, while its client reads.
	left := h.leftovers(t, request.ContainerId)
	if len(left) != 1 || !strings.HasPrefix(left[0], "process ") || !strings.Contains(left[0], " shim ") {
		t.Errorf("left behind: %v", left)
	}
	h.stop(t)
	wantRest(t, rest)
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, request.ContainerId)) == 0 })
}

func TestARemovalDoesNotCutAClientThatReadsTheLogOfTheHostProcessSlowly(t *testing.T) {
	h := startHost(t)
	_, request := h.loud(t)
	h.release(t, request.ContainerId)
	rest := slowReader(t, h.stored, request.ContainerId)
	h.wantRemoved(t, request.ContainerId)
	wantRest(t, rest)
}

func TestANextRunDoesNotCutAClientThatReadsTheLogSlowly(t *testing.T) {
	h := startHost(t)
	c, request := h.loud(t)
	rest := slowReader(t, c.AgentServiceClient, request.ContainerId)
	h.release(t, request.ContainerId)
	for request.Generation = 2; request.Generation < 4; request.Generation++ { // of the last one the shim is told
		request.OciSpec = ociSpec(t, "sh", "-c", "exit 5")
		next := h.mustLaunch(t, request)
		next.start(t, request.Generation)
		if code := next.exitCode(t); code != 5 {
			t.Errorf("exit code %d", code)
		}
	}
	h.wantRemoved(t, request.ContainerId)
	wantRest(t, rest)
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, request.ContainerId)) == 0 })
}

func TestAReleaseThatIsRepeatedDoesNotCutAClientThatReadsTheLogSlowly(t *testing.T) {
	h := startHost(t)
	c, request := h.loud(t)
	rest := slowReader(t, c.AgentServiceClient, request.ContainerId)
	ready := filepath.Join(filepath.Dir(c.AgentSocket), "ready.json")
	content, err := os.ReadFile(ready)
	assert.NilError(t, err)
	h.release(t, request.ContainerId)
	// As left by a host process that dies after the shim's release.
	assert.NilError(t, os.Mkdir(filepath.Dir(ready), 0o700))
	assert.NilError(t, os.WriteFile(ready, content, 0o600))
	h.kill(t)
	h.start(t)
	if _, err := os.Lstat(ready); !os.IsNotExist(err) {
		t.Errorf("it was not released again: %v", err)
	}
	wantRest(t, rest)
}

func TestALaunchThatComesToNothingDoesNotCutAClientThatReadsTheLastLogSlowly(t *testing.T) {
	h := startHost(t)
	c, request := h.loud(t)
	rest := slowReader(t, c.AgentServiceClient, request.ContainerId)
	run := filepath.Dir(c.AgentSocket)
	h.release(t, request.ContainerId)
	// As left by a host process that dies at the start of the launch.
	assert.NilError(t, os.Mkdir(run, 0o700))
	h.kill(t)
	h.start(t)
	if _, err := os.Lstat(run); !os.IsNotExist(err) {
		t.Errorf("it was not released: %v", err)
	}
	wantRest(t, rest)
}

// slowArchive is a container that has been released, and the archive of a file of it
// that a client has begun to read.
func (h *hostProcess) slowArchive(t *testing.T) (request *hostv1.LaunchContainerRequest, wantRest func()) {
	t.Helper()
	const size = 64 << 20
	layer := h.unpackImage(t)
	request = sleeper(t, h.create(t, layer), layer, noNetwork())
	c := h.mustLaunch(t, request)
	c.start(t, 1)
	assert.NilError(t, os.WriteFile(filepath.Join(h.layout().Container(request.ContainerId).Merged(), "bulk"), make([]byte, size), 0o600))
	stream, err := c.ArchiveGet(t.Context(), connect.NewRequest(&agentv1.ArchiveGetRequest{Path: "/bulk"}))
	assert.NilError(t, err)
	assert.Assert(t, stream.Receive(), "%v", stream.Err())
	h.release(t, request.ContainerId)
	return request, func() {
		t.Helper()
		for stream.Receive() {
			if end := stream.Msg().GetEnd(); end != nil {
				assert.Check(t, end.TotalBytes > size)
				return
			}
		}
		t.Errorf("the archive is cut: %v", stream.Err())
	}
}

func TestANextRunHasTheMountOfAnArchiveThatIsReadSlowly(t *testing.T) {
	h := startHost(t)
	request, wantRest := h.slowArchive(t)
	merged := h.layout().Container(request.ContainerId).Merged()
	before := stat(t, merged).Dev
	request.Generation = 2
	next := h.mustLaunch(t, request)
	next.start(t, 2)
	assert.Check(t, stat(t, merged).Dev == before, "its files are mounted a second time")
	h.release(t, request.ContainerId)
	h.kill(t)
	h.start(t)
	assert.Check(t, stat(t, merged).Dev == before, "its files are not mounted any more")
	wantRest()
	h.wantRemoved(t, request.ContainerId)
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, request.ContainerId)) == 0 })
}

func TestARemovalWaitsForAnArchiveThatIsReadSlowly(t *testing.T) {
	h := startHost(t)
	request, wantRest := h.slowArchive(t)
	merged := h.layout().Container(request.ContainerId).Merged()
	before := stat(t, merged).Dev
	removed := make(chan error, 1)
	go func() {
		_, err := h.RemoveContainer(t.Context(), connect.NewRequest(&hostv1.RemoveContainerRequest{ContainerId: request.ContainerId}))
		removed <- err
	}()
	select {
	case err := <-removed:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(time.Second):
	}
	assert.Check(t, stat(t, merged).Dev == before, "a host process that dies now leaves its files without their mount")
	wantRest()
	assert.NilError(t, <-removed)
	eventually(t, "nothing is left", func() bool { return len(h.leftovers(t, request.ContainerId)) == 0 })
}
