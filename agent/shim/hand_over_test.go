package shim_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// offered has a session's `started` with its offer.
func (s *testSession) offered() *agentv1.HandOverOffer {
	s.t.Helper()
	for s.started == nil {
		s.next()
	}
	if s.started.Offer == nil {
		s.t.Fatal("no offer was made")
	}
	return s.started.Offer
}

// pair is a client and the descriptor of the connection at its other end.
func pair(t testing.TB) (*net.UnixConn, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	file := os.NewFile(uintptr(fds[0]), "client")
	defer file.Close()
	conn, err := net.FileConn(file)
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	must(t, conn.SetDeadline(time.Now().Add(limit)))
	return conn.(*net.UnixConn), fds[1]
}

func send(offer *agentv1.HandOverOffer, fd int, early []byte) error {
	_, err := handover.Send(offer.Socket, offer.Token, fd, early)
	return err
}

// handOn gives a session's offer a client, of which some bytes were read before.
func (s *testSession) handOn(fd int, early []byte) {
	s.t.Helper()
	offer := s.offered()
	must(s.t, send(offer, fd, early))
	must(s.t, unix.Close(fd))
}

// handed is a client whose connection is the session's.
func (s *testSession) handed(early []byte) *net.UnixConn {
	s.t.Helper()
	client, fd := pair(s.t)
	s.handOn(fd, early)
	return client
}

func overConnection(multiplexed bool, keys string) func(*agentv1.OpenExec) {
	return func(open *agentv1.OpenExec) {
		open.AttachStdin = true
		open.HandOver = &agentv1.HandOver{Multiplexed: multiplexed, DetachKeys: []byte(keys)}
	}
}

// recording acknowledges what it is told to, as the backend does.
func (c *container) recording() <-chan *agentv1.WatchResponse {
	c.t.Helper()
	told, events := make(chan *agentv1.WatchResponse, 1024), c.watch()
	go func() {
		defer close(told)
		for event := range events {
			if event.Acknowledge {
				_ = c.tryAcknowledge(event.Sequence) // the test may be over
			}
			told <- event
		}
	}()
	return told
}

func (c *container) acknowledge(sequence uint64) {
	c.t.Helper()
	must(c.t, c.tryAcknowledge(sequence))
}

func (c *container) tryAcknowledge(sequence uint64) error {
	_, err := c.client.Acknowledge(context.Background(), connect.NewRequest(&agentv1.AcknowledgeRequest{Sequence: sequence}))
	return err
}

// oneBefore has a first stream handed on and ended: what that leaves open stays.
func (c *container) oneBefore() (descriptors int) {
	c.t.Helper()
	s := c.exec("before", &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(false, ""))
	client := s.handed(nil)
	must(c.t, client.CloseWrite())
	all(c.t, client)
	s.finish().expectExit(0)
	s.vanish()
	last := -1
	for now := -2; now != last; time.Sleep(20 * time.Millisecond) {
		last, now = now, openDescriptors(c.t, c.shim.Process.Pid)
	}
	return last
}

func all(t testing.TB, conn io.Reader) string {
	t.Helper()
	content, err := io.ReadAll(conn)
	must(t, err)
	return string(content)
}

// unframed takes Docker's headers away: one stream after the other.
func unframed(t testing.TB, content string) (streams [3]string) {
	t.Helper()
	for rest := []byte(content); len(rest) > 0; {
		length := int(binary.BigEndian.Uint32(rest[4:]))
		streams[rest[0]] += string(rest[8 : 8+length])
		rest = rest[8+length:]
	}
	return streams
}

func TestInputCutAnywhereAroundTheHandOverComesWhole(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	const text = "all of it\n"
	for cut := range len(text) + 1 {
		for _, closes := range []string{"before", "behind"} {
			s := c.exec("cut"+strconv.Itoa(cut)+closes, &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(true, ""))
			client, fd := pair(t)
			end := func() {
				_, err := client.Write([]byte(text[cut:]))
				must(t, errors.Join(err, client.CloseWrite()))
			}
			if closes == "before" {
				end()
			}
			s.handOn(fd, []byte(text[:cut]))
			if closes == "behind" {
				end()
			}
			if got := unframed(t, all(t, client)); got != [3]string{1: text} {
				t.Fatalf("cut at %d, closed %s: %q", cut, closes, got)
			}
			s.finish().expectExit(0)
		}
	}
}

func TestAHandedConnectionCarriesBulkBothWaysAndOutlivesItsCaller(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	s := c.exec("bulk", &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(false, ""))
	client := s.handed(nil)
	sent := sha256.New()
	go func() {
		random := rand.New(rand.NewSource(1))
		for left := bulk; left > 0; {
			piece := make([]byte, min(left, 1+random.Intn(256<<10)))
			random.Read(piece)
			sent.Write(piece)
			if left == bulk {
				s.vanish() // nothing that it does matters any more
			}
			if _, err := client.Write(piece); err != nil {
				return
			}
			left -= len(piece)
		}
		client.CloseWrite()
	}()
	got := sha256.New()
	n, err := io.Copy(got, client)
	must(t, err)
	if n != bulk || !bytes.Equal(got.Sum(nil), sent.Sum(nil)) {
		t.Fatalf("%d bytes came back, or others", n)
	}
}

func TestAConnectionOnItsWayIsTakenThoughTheCallerIsGone(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	s := c.exec("gone", &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(false, ""))
	offer := s.offered()
	s.vanish()
	client, fd := pair(t)
	must(t, send(offer, fd, []byte("x")))
	must(t, unix.Close(fd))
	must(t, client.CloseWrite())
	if got := all(t, client); got != "x" {
		t.Fatalf("%q", got)
	}
}

func TestAnOfferWhoseCallerIsGoneIsGivenUpBeforeOneThatWasMadeEarlier(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	told := c.recording()
	cat := &agentv1.ProcessSpec{Args: []string{"cat"}}
	waits := c.exec("waits", cat, overConnection(false, ""))
	waits.offered()
	orphan := c.exec("orphan", cat, overConnection(false, ""))
	orphan.offered()
	orphan.vanish()
	await(t, told, func(w *agentv1.WatchResponse) bool { return w.GetExecEnded().GetExecId() == "orphan" })
	client := waits.handed([]byte("still good"))
	must(t, client.CloseWrite())
	if got := all(t, client); got != "still good" {
		t.Fatalf("%q", got)
	}
}

func TestAClientHearsOfTheEndOnceItIsRecordedByWhicheverBackend(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("end", &agentv1.ProcessSpec{Args: sh("echo out; echo err >&2; exit 7")}, overConnection(true, ""))
	client := s.handed(nil)
	ended := func(w *agentv1.WatchResponse) bool {
		return w.GetExecEnded() != nil || len(w.GetState().GetEndedExecs()) > 0
	}
	first := await(t, c.watch(), ended) // and dies without a word
	second := await(t, c.watch(), ended)
	if !first.Acknowledge || !second.Acknowledge || second.GetState().GetEndedExecs()[0].Exit.Code != 7 {
		t.Fatalf("%v, %v", first, second)
	}
	output := make([]byte, 2*8+8)
	_, err := io.ReadFull(client, output)
	must(t, err)
	must(t, client.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = client.Read(make([]byte, 1))
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded, "the client heard of the end before it was recorded")
	must(t, client.SetReadDeadline(time.Now().Add(limit)))
	c.acknowledge(second.Sequence)
	if rest := all(t, client); rest != "" {
		t.Fatalf("%q", rest)
	}
	if got := unframed(t, string(output)); got != [3]string{1: "out\n", 2: "err\n"} {
		t.Fatalf("%q", got)
	}
	s.finish().expectExit(7)
}

func TestDetachKeysAreRecordedBeforeTheClientHearsOfIt(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	process := &agentv1.ProcessSpec{Args: sh("echo ready; exec cat"), Tty: true}
	s := c.exec("keys", process, overConnection(false, "\x10\x11"))
	client := s.handed([]byte("a\x10"))
	_, err := client.Write([]byte("\x11b"))
	must(t, err)
	told := await(t, c.watch(), func(w *agentv1.WatchResponse) bool {
		return w.GetStreamDetached() != nil || len(w.GetState().GetDetachedStreams()) > 0
	})
	again := await(t, c.watch(), func(w *agentv1.WatchResponse) bool { return len(w.GetState().GetDetachedStreams()) > 0 })
	if !told.Acknowledge || !again.Acknowledge || again.GetState().DetachedStreams[0].ExecId != "keys" {
		t.Fatalf("%v, %v", told, again)
	}
	c.acknowledge(again.Sequence)
	all(t, client)
	if s.finish(); !s.detached {
		t.Fatalf("%v", s.exit)
	}
	state := await(t, c.watch(), func(w *agentv1.WatchResponse) bool { return w.GetState() != nil })
	if state.Acknowledge || len(state.GetState().DetachedStreams) > 0 || len(state.GetState().RunningExecs) != 1 {
		t.Fatalf("%v", state)
	}
}

func TestDetachKeysAreHeardThoughTheProcessPrintsAndTheClientDoesNotRead(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	told := c.recording()
	s := c.exec("chatty", &agentv1.ProcessSpec{Args: []string{"yes"}}, overConnection(false, "\x10\x11"))
	client, fd := pair(t)
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1)) // the least there is
	s.handOn(fd, nil)
	_, err := io.ReadFull(client, make([]byte, 1<<20)) // from here on there is always more
	must(t, err)
	_, err = client.Write([]byte("\x10\x11"))
	must(t, err)
	await(t, told, func(w *agentv1.WatchResponse) bool { return w.GetStreamDetached().GetExecId() == "chatty" })
	all(t, client)
	if s.finish(); !s.detached {
		t.Fatalf("%v", s.exit)
	}
}

func TestOutputThatAClientHasNotReadOutlivesTheShim(t *testing.T) {
	c := launch(t, launchOptions{args: sh("yes | head -c 1000000")})
	events := c.watch()
	s := c.attach(&agentv1.OpenAttach{AttachId: "paused", HandOver: &agentv1.HandOver{}})
	c.mustRun("paused")
	client := s.handed(nil)
	await(t, events, exitedEvent)
	must(t, c.shim.Process.Signal(unix.SIGTERM))
	s.finish().expectExit(0)
	<-c.dead
	if got := all(t, client); got != strings.Repeat("y\n", 500_000) {
		t.Fatalf("%d bytes came, or others", len(got))
	}
}

func TestASessionThatKeepsItsCallGoesOnOverIt(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("kept", &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(true, ""))
	offer := s.offered()
	must(t, s.stream.Send(&agentv1.SessionRequest{Message: &agentv1.SessionRequest_Keep{Keep: &agentv1.KeepStream{}}}))
	s.write([]byte("over the call"))
	s.closeStdin()
	s.until("over the call")
	client, fd := pair(t)
	must(t, send(offer, fd, nil))
	must(t, unix.Close(fd))
	if got := all(t, client); got != "" {
		t.Fatalf("a withdrawn offer was good for %q", got)
	}
	c.acknowledge(await(t, c.watch(), func(w *agentv1.WatchResponse) bool { return w.Acknowledge }).Sequence)
	s.finish().expectExit(0)
}

func TestOnlyOneDescriptorForAnOpenStreamIsTaken(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	before := c.oneBefore()
	s := c.exec("one", &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(false, ""))
	offer := s.offered()
	info, err := os.Stat(offer.Socket)
	must(t, err)
	if mode := info.Mode().Perm(); mode != 0o600 || filepath.Dir(offer.Socket) != filepath.Dir(c.spec.AgentSocket) {
		t.Fatalf("%s has the mode %o", offer.Socket, mode)
	}
	refused := func(what string, line string, descriptors int) {
		t.Helper()
		var fds []int
		var clients []*net.UnixConn
		for range descriptors {
			client, fd := pair(t)
			fds, clients = append(fds, fd), append(clients, client)
		}
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: offer.Socket, Net: "unix"})
		must(t, err)
		defer conn.Close()
		_, _, err = conn.WriteMsgUnix([]byte(line), unix.UnixRights(fds...), nil)
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(limit)))
		_, _ = io.ReadAll(conn)
		for i, client := range clients {
			must(t, unix.Close(fds[i]))
			if got := all(t, client); got != "" {
				t.Fatalf("%s: %q", what, got)
			}
		}
	}
	mine := `{"token":"` + offer.Token + `","early":0}` + "\n"
	refused("no descriptor", mine, 0)
	refused("two descriptors", mine, 2)
	refused("more than there is room for", mine, 20)
	refused("a token of nobody", `{"token":"no","early":0}`+"\n", 1)
	refused("more than was ever read", `{"token":"`+offer.Token+`","early":999999999}`+"\n", 1)
	client := s.handed([]byte("once"))
	for taken := false; !taken; {
		response, err := s.stream.Receive()
		must(t, err)
		taken = response.GetHanded() != nil
	}
	refused("a token that was used", mine, 1)
	must(t, client.CloseWrite())
	if got := all(t, client); got != "once" {
		t.Fatalf("%q", got)
	}
	s.finish().expectExit(0)
	s.vanish()
	untilAtMost(t, func() int { return openDescriptors(t, c.shim.Process.Pid) }, before)
}

func TestThirtyTwoHandedStreamsLeaveNoDescriptorAnywhere(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	count := func() int { return openDescriptors(t, c.shim.Process.Pid) }
	begin := func(i int) (*testSession, *net.UnixConn) {
		s := c.exec(strconv.Itoa(i), &agentv1.ProcessSpec{Args: sh("ls /proc/self/fd 2> /dev/null | wc -l; cat")}, overConnection(false, ""))
		return s, s.handed(nil)
	}
	finish := func(s *testSession, client *net.UnixConn, want string) string {
		must(t, client.CloseWrite())
		got := all(t, client)
		s.finish().expectExit(0)
		if want != "" && got != want {
			t.Fatalf("an exec beside handed connections has %q open, alone %q", got, want)
		}
		s.vanish()
		return got
	}
	before := c.oneBefore()
	s, client := begin(0)
	alone := finish(s, client, "")
	var sessions []*testSession
	var clients []*net.UnixConn
	for i := range 32 {
		s, client := begin(i + 1)
		sessions, clients = append(sessions, s), append(clients, client)
	}
	for i, s := range sessions {
		finish(s, clients[i], alone)
	}
	untilAtMost(t, count, before)
}

func openDescriptors(t testing.TB, pid int) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	must(t, err)
	return len(entries)
}

// untilAtMost waits until a number is no higher than another.
func untilAtMost(t testing.TB, number func() int, most int) {
	t.Helper()
	for deadline := time.Now().Add(limit); number() > most; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d, not at most %d", number(), most)
		}
	}
}
