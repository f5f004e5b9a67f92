package containerinit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
)

// none ends the agent at once after the main process.
var none = []string{"--linger", "0", "--drain-timeout", "100ms"}

func TestAProcessRunsFromAnAttachBeforeItsStartToItsExitCode(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "0", "--drain-timeout", "3s"}})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	c := attach(t, client, "reserved")
	started := start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true,
		AwaitAttachIds: []string{"reserved"}, Specification: []byte("spec"), Seal: []byte("seal")})
	assert.Assert(t, started.GetStarted().GetPid() > 1, "start answered %v", started)
	described, err := client.Describe(patience(t), connect.NewRequest(&agentv1.DescribeRequest{}))
	must(t, err)
	if string(described.Msg.Specification) != "spec" || string(described.Msg.Seal) != "seal" {
		t.Errorf("described %v", described.Msg)
	}
	reseal := &agentv1.ResealRequest{Generation: 2, Specification: []byte("renamed"), Seal: []byte("anew")}
	if _, err := client.Reseal(patience(t), connect.NewRequest(reseal)); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("resealing another start answered %v", err)
	}
	reseal.Generation = 1
	_, err = client.Reseal(patience(t), connect.NewRequest(reseal))
	must(t, err)
	described, err = client.Describe(patience(t), connect.NewRequest(&agentv1.DescribeRequest{}))
	must(t, err)
	if string(described.Msg.Specification) != "renamed" || string(described.Msg.Seal) != "anew" {
		t.Errorf("described %v after it was resealed", described.Msg)
	}
	c.write("hello")
	c.until("hello")
	c.closeStdin()
	if code := c.exit(); code != 0 || c.stderr.String() != "5 bytes\n" {
		t.Errorf("code %d, stderr %q", code, c.stderr.String())
	}
	stdout, stderr := logs(t, client, &agentv1.LogsRequest{Stdout: true, Stderr: true})
	if stdout != "hello" || stderr != "5 bytes\n" {
		t.Errorf("log %q and %q", stdout, stderr)
	}
	released := false
	for watch.Receive() {
		released = watch.Msg().GetReleased() != nil
	}
	if watch.Err() != nil || !released {
		t.Errorf("the watch ended with %v, released: %v", watch.Err(), released)
	}
	if code := k.exitCode(); code != 0 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestTheAgentExitsAsTheProcessDid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
	}{
		"a code":        {[]string{"probe", "say", "x", "7"}, 7},
		"a signal":      {[]string{"probe", "die"}, 137},
		"not found":     {[]string{"nowhere"}, 127},
		"not permitted": {[]string{"/noexec"}, 126},
		"no format":     {[]string{"/garbage"}, 126},
		"a directory":   {[]string{"/etc"}, 126},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startTask(t, taskOptions{arguments: none})
			response := start(t, k.client(), &agentv1.StartRequest{Process: nobody(c.args...)})
			if failure := response.GetFailure(); failure != nil && int(failure.ExitCode) != c.code {
				t.Errorf("start answered %v", failure)
			} else if failure == nil && (c.code == 126 || c.code == 127) {
				t.Error("the start succeeded")
			}
			if code := k.exitCode(); code != c.code {
				t.Errorf("the agent exited with %d", code)
			}
		})
	}
}

type watching = connect.ServerStreamForClient[agentv1.WatchResponse]

// startTraps starts a main process that traps signals, watched and attached to.
func startTraps(t *testing.T, k *task) (agentv1connect.AgentServiceClient, *watching, *conversation) {
	t.Helper()
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "traps"), AwaitAttachIds: []string{"a"}})
	c.until("ready\n")
	return client, watch, c
}

// awaitExited receives until the watch's message is the main process's exit.
func awaitExited(watch *watching) {
	for watch.Receive() && watch.Msg().GetExited() == nil {
	}
}

func TestAStopSignalReachesTheProcessAsTheContainersOwn(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: append([]string{"--stop-signal", "SIGINT"}, none...)})
	client, watch, c := startTraps(t, k)
	k.signal(syscall.SIGTERM)
	c.until("got interrupt\n")
	k.signal(syscall.SIGQUIT)
	c.until("got interrupt\ngot interrupt\n")
	_, err := client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(syscall.SIGUSR2)}))
	must(t, err)
	if code := c.exit(); code != 42 {
		t.Errorf("exit code %d", code)
	}
	awaitExited(watch)
	if !watch.Msg().GetExited().GetPlatformStop() {
		t.Errorf("the watch does not tell who ended the process: %v, %v", watch.Msg(), watch.Err())
	}
	watch.Close()
	if code := k.exitCode(); code != 42 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestALogIsThereWhenThePlatformHasEndedItsProcess(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "1h", "--drain-timeout", "30s"}})
	client, watch, c := startTraps(t, k)
	k.signal(syscall.SIGTERM)
	_, err := client.Signal(patience(t), connect.NewRequest(&agentv1.SignalRequest{Signal: int32(syscall.SIGUSR2)}))
	must(t, err)
	c.exit()
	awaitExited(watch)
	watch.Close()
	time.Sleep(500 * time.Millisecond) // Nobody watches: without the linger the agent would leave.
	if stdout, _ := logs(t, client, &agentv1.LogsRequest{Stdout: true}); !strings.HasPrefix(stdout, "ready\n") {
		t.Errorf("the log is %q", stdout)
	}
	must(t, release(t, client, 1))
	if code := k.exitCode(); code != 42 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAProcessThatEndsWellAtThePlatformsStopIsNoSuccessThere(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/busybox"); err != nil {
		t.Skip("needs busybox-static")
	}
	for name, c := range map[string]struct {
		script string
		code   int
	}{
		"by the stop":   {"trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done", 255},
		"by itself":     {"echo ready", 0},
		"with its code": {"trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done", 7},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := startTask(t, taskOptions{arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
			a := attach(t, k.client(), "a")
			process := nobody()
			process.Args = []string{"busybox", "sh", "-c", c.script}
			start(t, k.client(), &agentv1.StartRequest{Process: process, AwaitAttachIds: []string{"a"}})
			a.until("ready\n")
			if name == "by itself" {
				a.exit()
			}
			k.signal(syscall.SIGTERM)
			if code := k.exitCode(); code != c.code {
				t.Errorf("the agent exited with %d", code)
			}
		})
	}
}

func TestACutConnectionKeepsNoAgentThatIsReleasedOrStopped(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*task){
		"released": func(k *task) { must(t, release(t, k.client(), 1)) },
		"stopped":  func(k *task) { k.signal(syscall.SIGTERM) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			joined := freeAddress(t)
			k := startTask(t, taskOptions{arguments: []string{"--joined-listen", joined, "--callback-resume", "1h",
				"--linger", "1h", "--drain-timeout", "100ms"}})
			const opensLink, idSize, offsetSize, frameHead = 1, 16, 8, 12
			conn, err := net.Dial("tcp", joined)
			must(t, err)
			_, err = conn.Write(append([]byte{opensLink}, make([]byte, idSize+offsetSize)...))
			must(t, err)
			_, err = io.ReadFull(conn, make([]byte, frameHead)) // The link is there.
			must(t, err)
			must(t, conn.Close())
			c := attach(t, k.client(), "a")
			start(t, k.client(), &agentv1.StartRequest{Process: nobody("probe", "say", "x", "5"), AwaitAttachIds: []string{"a"}})
			c.exit()
			leave(k)
			if code := k.exitCode(); code != 5 {
				t.Errorf("the agent exited with %d", code)
			}
		})
	}
}

func TestAStopBeforeTheStartEndsTheAgentAndWhoWaits(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
	c := attach(t, k.client(), "a")
	k.signal(syscall.SIGTERM)
	if last := c.end(); last.GetError().GetReason() != agentv1.SessionErrorReason_SESSION_ERROR_REASON_START_FAILED {
		t.Errorf("the attachment ended with %v", last)
	}
	if code := k.exitCode(); code != 143 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestNothingSurvivesTheMainProcess(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
	client := k.client()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "orphan"), AwaitAttachIds: []string{"a"}})
	exit := c.end().GetExit()
	assert.Check(t, exit.GetCode() == 3, "exit %v", exit)
	orphan := strings.TrimSpace(c.stdout.String())
	start(t, client, &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "forever")})
	if out, _ := run(t, client, "look", nobody("probe", "read", "/proc/"+orphan+"/stat")); !strings.Contains(out, "no such file") {
		t.Errorf("the orphan is there: %q", out)
	}
	k.signal(syscall.SIGTERM)
	if code := k.exitCode(); code != 143 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestWithinTheLingerFilesAreThereAndAStartRunsAgain(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "1h", "--drain-timeout", "100ms"}})
	client := k.client()
	c := attach(t, client, "1")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "write", "/data/file"), AwaitAttachIds: []string{"1"}})
	if code := c.exit(); code != 0 {
		t.Fatalf("exit code %d: %s", code, c.stdout.String())
	}
	stat, err := client.ArchiveStat(patience(t), connect.NewRequest(&agentv1.ArchiveStatRequest{Path: "/data/file"}))
	must(t, err)
	if stat.Msg.Stat.Size != 7 {
		t.Errorf("stat %v", stat.Msg)
	}
	c = attach(t, client, "2")
	again := start(t, client, &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "say", "again", "9"), AwaitAttachIds: []string{"2"}})
	assert.Assert(t, again.GetStarted() != nil, "the second start answered %v", again)
	if code := c.exit(); code != 9 || c.stdout.String() != "again" {
		t.Errorf("code %d, %q", code, c.stdout.String())
	}
	k.signal(syscall.SIGTERM)
	if code := k.exitCode(); code != 9 { // it does not wait for the linger
		t.Errorf("the agent exited with %d", code)
	}
}

func TestAStartWhoseCallerLeftKeepsTheAgentAndIsDescribed(t *testing.T) {
	t.Parallel()
	const linger = 3 * time.Second
	k := startTask(t, taskOptions{arguments: []string{"--linger", linger.String(), "--drain-timeout", "100ms"}})
	client := k.client()
	c := attach(t, client, "1")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "say", "first", "9"), AwaitAttachIds: []string{"1"}, Specification: []byte("one")})
	if code := c.exit(); code != 9 {
		t.Fatalf("exit code %d", code)
	}
	ctx, leave := context.WithCancel(patience(t))
	defer leave()
	answered := make(chan error, 1)
	second := &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "forever"),
		AwaitAttachIds: []string{"nobody comes"}, AwaitAttachTimeoutMs: 1000, Specification: []byte("two")}
	go func() {
		_, err := client.Start(ctx, connect.NewRequest(second))
		answered <- err
	}()
	k.await("the second start has begun", func() bool { return state(t, client).Exit == nil })
	leave()
	if err := <-answered; connect.CodeOf(err) != connect.CodeCanceled {
		t.Fatalf("the start answered %v", err)
	}
	time.Sleep(linger + 500*time.Millisecond) // the first run's is over: nothing tells
	assert.Check(t, state(t, client).Started == nil, "the second run has started, which nobody waits for")
	start(t, client, second)
	if out, code := run(t, client, "e", nobody("probe", "say", "here", "0")); out != "here" || code != 0 {
		t.Errorf("%q and %d", out, code)
	}
	described, err := client.Describe(patience(t), connect.NewRequest(&agentv1.DescribeRequest{}))
	must(t, err)
	if string(described.Msg.Specification) != "two" {
		t.Errorf("described %q", described.Msg.Specification)
	}
	k.signal(syscall.SIGTERM)
	if code := k.exitCode(); code != 143 {
		t.Errorf("the agent exited with %d", code)
	}
}

// state is a watcher's first message.
func state(t *testing.T, client agentv1connect.AgentServiceClient) *agentv1.ContainerState {
	t.Helper()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	defer watch.Close()
	if !watch.Receive() {
		t.Fatal(watch.Err())
	}
	return watch.Msg().GetState()
}

func TestTheAgentStaysForAWatcherUntilItLeaves(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "0", "--drain-timeout", "1h"}})
	client := k.client()
	watch, err := client.Watch(patience(t), connect.NewRequest(&agentv1.WatchRequest{}))
	must(t, err)
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "flood", "3000000", "5")})
	awaitExited(watch)
	if exited := watch.Msg().GetExited(); exited.GetCode() != 5 || exited.GetPlatformStop() {
		t.Fatalf("the watch says %v, %v", watch.Msg(), watch.Err())
	}
	stdout, _ := logs(t, client, &agentv1.LogsRequest{Stdout: true})
	assert.Check(t, len(stdout) == 3_000_000, "the drained log has %d bytes", len(stdout))
	watch.Close()
	if code := k.exitCode(); code != 5 {
		t.Errorf("the agent exited with %d", code)
	}
}

func TestEveryByteAndExitCodeOfManyShortExecs(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: none})
	client := k.client()
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "forever")})
	var lanes sync.WaitGroup
	for lane := range 4 {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for i := range 40 {
				text, want := fmt.Sprintf("lane %d, line %d\n", lane, i), i%100
				out, code := run(t, client, fmt.Sprintf("%d-%d", lane, i), nobody("probe", "say", text, fmt.Sprint(want)))
				if out != text || code != want {
					t.Errorf("%q and %d instead of %q and %d", out, code, text, want)
				}
			}
		}()
	}
	lanes.Wait()
	k.signal(syscall.SIGTERM)
	k.exitCode()
}
