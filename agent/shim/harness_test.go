package shim_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/shim"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// limit bounds waits; on an idle machine nothing here takes a second.
const limit = 2 * time.Minute

// The test binary is its own shim: the real one, in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		shim.SetEnterProgram(os.Getenv(enterVariable))
		shim.SetLimits(limitOf(slowVariable), limitOf(keptVariable), limitOf(drainVariable))
		os.Exit(shim.Main(os.Args[2:]))
	}
	code := m.Run()
	if rootfs != "" {
		os.RemoveAll(rootfs)
	}
	os.Exit(code)
}

// enterVariable holds the name of the program for execs, beside the test binary;
// empty: the test binary itself.
const enterVariable = "SOCKERLESS_TEST_ENTER"

// Variables that shorten a shim's limits; empty: unchanged.
const (
	slowVariable  = "SOCKERLESS_TEST_SLOW_LIMIT"
	keptVariable  = "SOCKERLESS_TEST_KEPT_LIMIT"
	drainVariable = "SOCKERLESS_TEST_DRAIN_LIMIT"
)

func limitOf(variable string) time.Duration {
	limit, _ := time.ParseDuration(os.Getenv(variable)) // empty: 0
	return limit
}

// enterProgram builds the program for execs once, and returns its path.
var enterProgram = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "sockerless-enter-of-tests")
	build := exec.Command("go", "build", "-o", path, "../cmd/sockerless-enter")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, os.Setenv(enterVariable, filepath.Base(path))
})

func needRuntime(t testing.TB) string {
	t.Helper()
	runtime, err := exec.LookPath("runc")
	if err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and runc")
	}
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	_, err = enterProgram()
	must(t, err)
	return runtime
}

var rootfs string

// busyboxRoot makes a root file system of one static binary and its links.
func busyboxRoot(t testing.TB) string {
	t.Helper()
	if rootfs != "" {
		return rootfs
	}
	dir, err := os.MkdirTemp("", "sockerless-rootfs-")
	must(t, err)
	rootfs = dir
	must(t, os.Chmod(dir, 0o755))
	for _, sub := range []string{"bin", "etc", "proc", "dev", "sys", "tmp", "home"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	content, err := os.ReadFile("/bin/busybox")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), content, 0o755))
	applets, err := exec.Command("/bin/busybox", "--list").Output()
	must(t, err)
	for _, applet := range strings.Fields(string(applets)) {
		_ = os.Symlink("busybox", filepath.Join(dir, "bin", applet))
	}
	must(t, os.WriteFile(filepath.Join(dir, "bin/notexec"), []byte("x"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nalice:x:1234:1235::/home:/bin/sh\n"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nstaff:x:50:alice\n"), 0o644))
	return dir
}

// container is a launched container and a client of its shim.
type container struct {
	t      testing.TB
	spec   *shimspec.Spec
	ready  shimspec.Readiness
	client agentv1connect.AgentServiceClient
	shim   *exec.Cmd
	dead   chan struct{} // closed when the shim has exited
}

type launchOptions struct {
	args   []string
	spec   func(*shimspec.Spec)
	config func(map[string]any)
}

// launch starts a shim and waits for its readiness. The test's end removes
// everything.
func launch(t testing.TB, options launchOptions) *container {
	t.Helper()
	c := start(t, options)
	if c.ready.Error != nil {
		t.Fatalf("launch: %s: %s", c.ready.Error.Code, c.ready.Error.Message)
	}
	return c
}

func start(t testing.TB, options launchOptions) *container {
	t.Helper()
	runtime := needRuntime(t)
	dir, err := os.MkdirTemp("", "skl-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	random := make([]byte, 32)
	rand.Read(random)
	id := hex.EncodeToString(random)
	spec := &shimspec.Spec{
		Version: shimspec.Version, ContainerID: id, Generation: 1,
		Runtime: runtime, RuntimeRoot: filepath.Join(dir, "runc"),
		Bundle: filepath.Join(dir, "bundle"), Rootfs: busyboxRoot(t),
		AgentSocket: filepath.Join(dir, "run/agent.sock"), ReadyRecord: filepath.Join(dir, "run/ready.json"),
		ExitRecord: filepath.Join(dir, "exit.json"), LogDir: filepath.Join(dir, "log"),
	}
	for _, sub := range []string{"bundle", "run", "log"} {
		must(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	if options.spec != nil {
		options.spec(spec)
	}
	config := ociConfig(spec, options.args)
	if options.config != nil {
		options.config(config)
	}
	writeJSON(t, filepath.Join(spec.Bundle, "config.json"), config)
	writeJSON(t, filepath.Join(dir, "shim.json"), spec)

	c := &container{t: t, spec: spec, dead: make(chan struct{})}
	c.startShim(filepath.Join(dir, "shim.json"))
	c.client = clientOf(t, spec.AgentSocket)
	return c
}

// startShim does the host process's part.
func (c *container) startShim(specFile string) {
	c.t.Helper()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.spec.AgentSocket, Net: "unix"})
	must(c.t, err)
	listener.SetUnlinkOnClose(false)
	socket, err := listener.File()
	must(c.t, err)
	listener.Close()
	reader, writer, err := os.Pipe()
	must(c.t, err)
	waiting, specified, err := os.Pipe()
	must(c.t, err)
	c.shim = exec.Command("/proc/self/exe", "shim", "--spec", specFile)
	c.shim.ExtraFiles = []*os.File{socket, writer, waiting}
	c.shim.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	must(c.t, c.shim.Start())
	socket.Close()
	writer.Close()
	waiting.Close()
	_, err = specified.Write([]byte{1})
	must(c.t, err)
	specified.Close()
	go func() {
		c.shim.Wait()
		close(c.dead)
	}()
	c.t.Cleanup(c.end)
	line, err := bufio.NewReader(reader).ReadBytes('\n')
	reader.Close()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(c.spec.ExitRecord), "shim.log"))
		c.t.Fatalf("the shim is not ready: %v\n%s", err, log)
	}
	must(c.t, json.Unmarshal(line, &c.ready))
}

// end releases the container like the host process, and checks that the shim
// leaves.
func (c *container) end() {
	exec.Command(c.spec.Runtime, "--root", c.spec.RuntimeRoot, "delete", "--force", c.spec.ContainerID).Run()
	c.shim.Process.Signal(unix.SIGTERM)
	select {
	case <-c.dead:
	case <-time.After(limit):
		c.t.Errorf("the shim does not leave")
		c.shim.Process.Kill()
		<-c.dead
	}
	if code := c.shim.ProcessState.ExitCode(); c.ready.Error == nil && code != 0 {
		c.t.Errorf("the shim exited with %d", code) // 66: the race detector found something
	}
	if c.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(c.spec.ExitRecord), "shim.log"))
		c.t.Logf("shim.log:\n%s", log)
	}
	for _, controllers := range []string{"*", "*/*"} {
		groups, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", controllers, "sockerless-shim-test"))
		for _, group := range groups {
			os.Remove(group) // other containers' may still be in it
		}
	}
}

func ociConfig(spec *shimspec.Spec, args []string) map[string]any {
	capabilities := []string{"CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_NET_ADMIN", "CAP_DAC_OVERRIDE"}
	namespaces := []map[string]string{{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}
	network := map[string]string{"type": "network"}
	if spec.NetworkNamespace != "" {
		network["path"] = spec.NetworkNamespace
	}
	return map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"terminal": spec.TTY, "user": map[string]any{"uid": 0, "gid": 0},
			"args": args, "env": []string{"PATH=/bin", "FROM=main"}, "cwd": "/",
			"capabilities": map[string]any{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root": map[string]any{"path": spec.Rootfs},
		"mounts": []map[string]any{
			{"destination": "/proc", "type": "proc", "source": "proc"},
			{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
			{"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": []string{"newinstance", "ptmxmode=0666"}},
		},
		"linux": map[string]any{
			"namespaces":  append(namespaces, network),
			"cgroupsPath": "/sockerless-shim-test/" + spec.ContainerID,
			"resources":   map[string]any{},
		},
	}
}

func writeJSON(t testing.TB, name string, value any) {
	t.Helper()
	content, err := json.Marshal(value)
	must(t, err)
	must(t, os.WriteFile(name, content, 0o600))
}

func clientOf(t testing.TB, socket string) agentv1connect.AgentServiceClient {
	client, _ := connectTo(t, socket)
	return client
}

// connectTo returns a client, and a function that cuts its connections like a
// kill of the client's process.
func connectTo(t testing.TB, socket string) (client agentv1connect.AgentServiceClient, cut func()) {
	var mu sync.Mutex
	var connections []net.Conn
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: protocols,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			connection, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				connections = append(connections, connection)
			}
			return connection, err
		},
		HTTP2: &http.HTTP2Config{MaxReadFrameSize: 1 << 20, MaxReceiveBufferPerConnection: 4<<20 - 1, MaxReceiveBufferPerStream: 2 << 20},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return agentv1connect.NewAgentServiceClient(&http.Client{Transport: transport}, "http://agent", connect.WithGRPC()), func() {
		mu.Lock()
		defer mu.Unlock()
		for _, connection := range connections {
			connection.Close()
		}
	}
}

func contextFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// run starts the main process, and returns Start's response.
func (c *container) run(attachIDs ...string) *agentv1.StartResponse {
	c.t.Helper()
	response, err := c.client.Start(contextFor(c.t), connect.NewRequest(&agentv1.StartRequest{
		Generation: c.spec.Generation, AwaitAttachIds: attachIDs,
	}))
	must(c.t, err)
	return response.Msg
}

// mustRun is run for a command that can be executed.
func (c *container) mustRun(attachIDs ...string) {
	c.t.Helper()
	if failure := c.run(attachIDs...).GetFailure(); failure != nil {
		c.t.Fatalf("start: %s", failure.Message)
	}
}

// testSession is a session and its output.
type testSession struct {
	t      testing.TB
	stream *connect.BidiStreamForClient[agentv1.SessionRequest, agentv1.SessionResponse]
	vanish func() // the client is killed
	sent   uint64

	stdout, stderr bytes.Buffer
	started        *agentv1.SessionStarted
	carried        *agentv1.SessionCarried
	exit           *agentv1.ExitStatus
	failure        *agentv1.SessionError
	detached       bool
}

// open uses its own connection, like different clients: the streams of one
// connection share its flow control window.
func (c *container) open(request *agentv1.SessionRequest) *testSession {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.t.Cleanup(cancel)
	client, cut := connectTo(c.t, c.spec.AgentSocket)
	s := &testSession{t: c.t, stream: client.Session(ctx), vanish: cut}
	must(c.t, s.stream.Send(request))
	return s
}

func (c *container) attach(open *agentv1.OpenAttach) *testSession {
	c.t.Helper()
	open.Stdout, open.Stderr, open.Stream = true, true, true
	return c.open(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenAttach{OpenAttach: open}})
}

func (c *container) exec(id string, process *agentv1.ProcessSpec, change ...func(*agentv1.OpenExec)) *testSession {
	c.t.Helper()
	open := &agentv1.OpenExec{ExecId: id, Process: process, AttachStdout: true, AttachStderr: true}
	for _, change := range change {
		change(open)
	}
	return c.open(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_OpenExec{OpenExec: open}})
}

func withStdin(open *agentv1.OpenExec) { open.AttachStdin = true }

func (s *testSession) write(data []byte) {
	s.t.Helper()
	must(s.t, s.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Stdin{Stdin: &agentv1.Stdin{Offset: s.sent, Data: data}}}))
	s.sent += uint64(len(data))
}

func (s *testSession) closeStdin() {
	s.t.Helper()
	must(s.t, s.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_CloseStdin{CloseStdin: &agentv1.CloseStdin{}}}))
}

// next takes one message; false after the last.
func (s *testSession) next() bool {
	s.t.Helper()
	response, err := s.stream.Receive()
	if errors.Is(err, io.EOF) {
		if s.exit == nil && s.failure == nil && !s.detached {
			s.t.Fatal("the stream ended without its last message")
		}
		return false
	}
	must(s.t, err)
	switch message := response.Message.(type) {
	case *agentv1.SessionResponse_Started:
		s.started = message.Started
	case *agentv1.SessionResponse_Stdout:
		s.take(&s.stdout, message.Stdout)
	case *agentv1.SessionResponse_Stderr:
		s.take(&s.stderr, message.Stderr)
	case *agentv1.SessionResponse_Carried:
		s.carried = message.Carried
	case *agentv1.SessionResponse_Exit:
		s.exit = message.Exit
	case *agentv1.SessionResponse_Error:
		s.failure = message.Error
	case *agentv1.SessionResponse_Detached:
		s.detached = true
	}
	return true
}

func (s *testSession) take(buffer *bytes.Buffer, output *agentv1.Output) {
	s.t.Helper()
	if output.Offset != uint64(buffer.Len()) || len(output.Data) == 0 {
		s.t.Fatalf("output at offset %d with %d bytes, expected offset %d", output.Offset, len(output.Data), buffer.Len())
	}
	buffer.Write(output.Data)
}

// finish takes everything to the end.
func (s *testSession) finish() *testSession {
	s.t.Helper()
	for s.next() {
	}
	return s
}

// until takes messages until stdout holds text.
func (s *testSession) until(text string) {
	s.t.Helper()
	for !strings.Contains(s.stdout.String(), text) {
		if !s.next() {
			s.t.Fatalf("the session ended before %q: stdout %q, stderr %q", text, s.stdout.String(), s.stderr.String())
		}
	}
}

func (s *testSession) expectExit(code int32) {
	s.t.Helper()
	if s.exit == nil || s.exit.Code != code {
		s.t.Fatalf("exit %v, error %v, expected code %d; stderr %q", s.exit, s.failure, code, s.stderr.String())
	}
}

// watch gives the events of a watch, as they come.
func (c *container) watch() <-chan *agentv1.WatchResponse {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.t.Cleanup(cancel)
	stream, err := c.client.Watch(ctx, connect.NewRequest(&agentv1.WatchRequest{}))
	must(c.t, err)
	events := make(chan *agentv1.WatchResponse, 1024)
	go func() {
		defer close(events)
		for stream.Receive() {
			events <- stream.Msg()
		}
	}()
	return events
}

// await takes events until one matches.
func await[E any](t testing.TB, events <-chan E, wanted func(E) bool) E {
	t.Helper()
	timeout := time.After(limit)
	for {
		select {
		case event, open := <-events:
			assert.Assert(t, open, "the events ended")
			if wanted(event) {
				return event
			}
		case <-timeout:
			t.Fatal("the event did not come")
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	assert.NilError(t, err)
}

func sh(script string, args ...any) []string {
	return []string{"/bin/sh", "-c", fmt.Sprintf(script, args...)}
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// recorded reads the exit record's state.
func (c *container) recorded() *agentv1.ContainerState {
	c.t.Helper()
	content, err := os.ReadFile(c.spec.ExitRecord)
	must(c.t, err)
	var record shimspec.ExitRecord
	must(c.t, json.Unmarshal(content, &record))
	if record.ContainerID != c.spec.ContainerID || record.Generation != c.spec.Generation {
		c.t.Fatalf("record %s", content)
	}
	state := &agentv1.ContainerState{}
	must(c.t, protojson.Unmarshal(record.State, state))
	return state
}
