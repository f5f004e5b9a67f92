package containerinit_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

func tarOf(t *testing.T, name, content string, uid int) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o4755, Uid: uid, Gid: uid, Size: int64(len(content))}))
	_, err := io.WriteString(w, content)
	must(t, err)
	must(t, w.Close())
	return out.Bytes()
}

func put(t *testing.T, client agentv1connect.AgentServiceClient, path string, stream []byte) error {
	t.Helper()
	call := client.ArchivePut(patience(t))
	length := uint64(len(stream))
	_ = call.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{Path: path}}})
	_ = call.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_Chunk{Chunk: &agentv1.ArchiveChunk{Data: stream}}})
	_ = call.Send(&agentv1.ArchivePutRequest{Message: &agentv1.ArchivePutRequest_End{End: &agentv1.ArchiveEnd{TotalBytes: length}}})
	_, err := call.CloseAndReceive()
	return err
}

func get(t *testing.T, client agentv1connect.AgentServiceClient, path string) []byte {
	t.Helper()
	call, err := client.ArchiveGet(patience(t), connect.NewRequest(&agentv1.ArchiveGetRequest{Path: path}))
	must(t, err)
	defer call.Close()
	var out bytes.Buffer
	ended := false
	for call.Receive() {
		out.Write(call.Msg().GetChunk().GetData())
		ended = call.Msg().GetEnd() != nil
	}
	must(t, call.Err())
	assert.Assert(t, ended, "the archive was cut")
	return out.Bytes()
}

func only(t *testing.T, stream []byte) (*tar.Header, string) {
	t.Helper()
	in := tar.NewReader(bytes.NewReader(stream))
	header, err := in.Next()
	must(t, err)
	content, err := io.ReadAll(in)
	must(t, err)
	return header, string(content)
}

func TestFilesGoInAndOutBesideARunningProcess(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{})
	client := k.client()
	must(t, put(t, client, "/data", tarOf(t, "before", "put before the start", 1000)))
	startForever(t, k, nobody())
	header, content := only(t, get(t, client, "/data/before"))
	if header.Name != "before" || content != "put before the start" || header.Uid != 1000 || header.Mode != 0o4755 {
		t.Errorf("%+v, %q", header, content)
	}
	if err := put(t, client, "/etc", tarOf(t, "x", "", 0)); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("writing to a read-only root: %v", err)
	}
	if _, content := only(t, get(t, client, "/etc/group")); !strings.Contains(content, "audio") {
		t.Errorf("reading from a read-only root: %q", content)
	}
	if _, err := client.ArchiveStat(patience(t), connect.NewRequest(&agentv1.ArchiveStatRequest{Path: "/none"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a missing path: %v", err)
	}
}

func TestAnAgentThatIsNotRootSaysWhatItCannotDoAndDoesTheRest(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{uid: 65534, arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
	client := k.client()
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	said := strings.Join(hello.Msg.Limitations, "\n")
	for _, limit := range []string{"cannot switch users", "cannot change owners", "cannot make devices", "cannot take capabilities away", "not root",
		"cannot add host names", "cannot change the resolver's configuration", "cannot answer the names of other containers"} {
		if !strings.Contains(said, limit) {
			t.Errorf("limitations lack %q:\n%s", limit, said)
		}
	}

	c := attach(t, client, "a")
	response := start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	assert.Assert(t, response.GetStarted() != nil, "start answered %v", response)
	c.write("input")
	c.until("input")

	last := execute(t, client, "root", &agentv1.ProcessSpec{Args: []string{"probe", "who"}, User: "root"}).end()
	if failure := last.GetError(); failure == nil || !strings.Contains(failure.Message, `cannot run as "root": the agent runs as user 65534`) {
		t.Errorf("an exec as root: %v", last)
	}
	out, code := run(t, client, "who", &agentv1.ProcessSpec{Args: []string{"probe", "who"}})
	assert.Check(t, code == 0, "exec: exit code %d", code)
	expect(t, facts(out), map[string]string{"Uid": "65534 65534 65534 65534", "CapEff": noCapabilities, "CapBnd": dockerSet, "Leader": "true", "OOM": "100"})
	terminal := execute(t, client, "tty", &agentv1.ProcessSpec{Args: []string{"probe", "say", "on a terminal", "4"}, Tty: true})
	if code := terminal.exit(); code != 4 || terminal.stdout.String() != "on a terminal" {
		t.Errorf("terminal: %d, %q", code, terminal.stdout.String())
	}
	_, err = client.Pause(patience(t), connect.NewRequest(&agentv1.PauseRequest{}))
	must(t, err)
	if states := column(t, client, "s", "cat"); len(states) != 1 || states[0] != "T" {
		t.Errorf("paused: %q", states)
	}
	_, err = client.Resume(patience(t), connect.NewRequest(&agentv1.ResumeRequest{}))
	must(t, err)
	must(t, put(t, client, "/data", tarOf(t, "file", "content", 1000)))
	assert.Check(t, is.Len(changes(t, client), 0))
	header, content := only(t, get(t, client, "/data/file"))
	if content != "content" || header.Uid != 65534 || header.Mode != 0o755 {
		t.Errorf("%+v, %q", header, content)
	}

	c.closeStdin()
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if stdout, stderr := logs(t, client, &agentv1.LogsRequest{Stdout: true, Stderr: true}); stdout != "input" || stderr != "5 bytes\n" {
		t.Errorf("log %q and %q", stdout, stderr)
	}
	if response := start(t, client, &agentv1.StartRequest{Generation: 2, Process: &agentv1.ProcessSpec{Args: []string{"probe", "who"}, User: "alice", Capabilities: dockerCapabilities}}); !strings.Contains(response.GetFailure().GetMessage(), "cannot run as") {
		t.Errorf("a start as another user answered %v", response)
	}
	k.signal(syscall.SIGTERM)
	k.exitCode()
}

func TestWithoutAnyWritablePlaceTheLogIsInMemory(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{noVolume: true, arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
	client := k.client()
	hello, err := client.Hello(patience(t), connect.NewRequest(&agentv1.HelloRequest{}))
	must(t, err)
	if said := strings.Join(hello.Msg.Limitations, "\n"); !strings.Contains(said, "keeps at most 8 MiB of output") {
		t.Errorf("limitations:\n%s", said)
	}
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "flood", "20000000", "0"), AwaitAttachIds: []string{"a"}})
	if code := c.exit(); code != 0 || c.stdout.Len() != 20_000_000 {
		t.Errorf("code %d, %d bytes", code, c.stdout.Len())
	}
	if stdout, _ := logs(t, client, &agentv1.LogsRequest{Stdout: true}); len(stdout) < 4_000_000 || len(stdout) > 8<<20 || !strings.HasSuffix(c.stdout.String(), stdout) {
		t.Errorf("the log has %d bytes", len(stdout))
	}
}

func TestTheAgentCopiesItselfWhole(t *testing.T) {
	t.Parallel()
	built, err := binaries()
	must(t, err)
	agent := filepath.Join(built, "sockerless-agent")
	want, err := os.ReadFile(agent)
	must(t, err)
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777)) // as a pod's emptyDir
	for _, dest := range []string{dir, filepath.Join(dir, "named"), filepath.Join(dir, "named")} {
		if output, err := exec.Command(agent, "cp", dest).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, output)
		}
	}
	for _, name := range []string{"sockerless-agent", "named"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		info, err := os.Stat(filepath.Join(dir, name))
		must(t, err)
		if !bytes.Equal(got, want) || info.Mode() != 0o755 {
			t.Errorf("%s: mode %v, %d bytes", name, info.Mode(), len(got))
		}
	}
	entries, _ := os.ReadDir(dir)
	assert.Check(t, is.Len(entries, 2), "left behind")
	info, err := os.Stat(dir)
	must(t, err)
	if info.Mode().Perm() != 0o755 {
		t.Errorf("others may write beside the copy: %v", info.Mode())
	}
	if err := exec.Command(agent, "cp", filepath.Join(dir, "none", "x")).Run(); err == nil {
		t.Error("a copy into nowhere succeeded")
	}
}
