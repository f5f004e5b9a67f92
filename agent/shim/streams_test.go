package shim_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math/rand"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/server/servertest"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const bulk = 64 << 20

// pour sends bulk random bytes as stdin in uneven pieces, closes stdin, and
// returns their hash.
func pour(s *testSession) (sum func() string) {
	done := make(chan string, 1)
	go func() {
		random, hashed := rand.New(rand.NewSource(1)), sha256.New()
		for left := bulk; left > 0; {
			piece := make([]byte, min(left, 1+random.Intn(256<<10)))
			random.Read(piece)
			hashed.Write(piece)
			s.write(piece)
			left -= len(piece)
		}
		s.closeStdin()
		done <- hex.EncodeToString(hashed.Sum(nil))
	}()
	return func() string { return <-done }
}

// hashed takes a session to its end and hashes stdout instead of keeping it.
func hashed(s *testSession) string {
	s.t.Helper()
	sum, offset := sha256.New(), uint64(0)
	for {
		response, err := s.stream.Receive()
		must(s.t, err)
		if output := response.GetStdout(); output != nil {
			if output.Offset != offset {
				s.t.Fatalf("offset %d, expected %d", output.Offset, offset)
			}
			offset += uint64(len(output.Data))
			sum.Write(output.Data)
		}
		if response.GetExit() != nil {
			s.exit = response.GetExit()
			return hexSum(sum)
		}
		if response.GetError() != nil {
			s.t.Fatal(response.GetError())
		}
	}
}

func hexSum(sum hash.Hash) string { return hex.EncodeToString(sum.Sum(nil)) }

func TestStdinOfAnAttachmentComesBackWhole(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"cat"}, spec: openStdin})
	s := c.attach(&agentv1.OpenAttach{AttachId: "a", Stdin: true})
	c.mustRun("a")
	sent := pour(s)
	got := hashed(s)
	s.expectExit(0)
	if want := sent(); got != want {
		t.Fatal("what came back differs")
	}
}

func TestStdinOfAnExecComesBackWhole(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: []string{"cat"}}, withStdin)
	sent := pour(s)
	got := hashed(s)
	s.expectExit(0)
	if want := sent(); got != want {
		t.Fatal("what came back differs")
	}
}

func TestAnExecsOutputIsWhole(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("head -c %d /proc/self/exe /dev/zero 2>/dev/null; dd if=/dev/zero bs=64k count=1024 2>/dev/null | tr '\\0' x", 0)})
	s.finish().expectExit(0)
	if s.stdout.Len() < bulk || strings.Trim(s.stdout.String()[s.stdout.Len()-bulk:], "x") != "" {
		t.Fatalf("%d bytes came", s.stdout.Len())
	}
}

func TestSeveralAttachersShareTheProcess(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"cat"}, spec: openStdin})
	first := c.attach(&agentv1.OpenAttach{AttachId: "a", Stdin: true})
	second := c.attach(&agentv1.OpenAttach{AttachId: "b", Stdin: true})
	c.mustRun("a", "b")
	first.write([]byte("one\n"))
	first.until("one\n")
	second.write([]byte("two\n"))
	first.until("two\n")
	second.until("one\ntwo\n")
	first.closeStdin()
	first.finish().expectExit(0)
	second.finish().expectExit(0)
}

func TestStdinStaysOpenForOthersUnlessItIsForOne(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"cat"}, spec: func(s *spec) { s.OpenStdin = true }})
	c.mustRun()
	first := c.attach(&agentv1.OpenAttach{Stdin: true})
	first.write([]byte("one\n"))
	first.until("one\n")
	first.closeStdin()
	first.vanish()
	second := c.attach(&agentv1.OpenAttach{Stdin: true})
	second.write([]byte("two\n"))
	second.until("two\n")
	c.signal("", 9)
	second.finish().expectExit(137)
}

func TestStdinOfOneAttacherEndsWhenItVanishes(t *testing.T) {
	c := launch(t, launchOptions{args: []string{"cat"}, spec: openStdin})
	s := c.attach(&agentv1.OpenAttach{AttachId: "a", Stdin: true})
	events := c.watch()
	c.mustRun("a")
	s.write([]byte("x\n"))
	s.until("x\n")
	s.vanish()
	if exit := await(t, events, exitedEvent).GetExited(); exit.Code != 0 {
		t.Fatalf("exit %v", exit)
	}
}

func TestAReplayGoesOverIntoLiveOutputWithoutGapOrRepetition(t *testing.T) {
	c := launch(t, launchOptions{args: sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"), spec: openStdin})
	c.mustRun()
	var want bytes.Buffer
	for i := range 20000 {
		want.WriteString("line " + itoa(i) + "\n")
	}
	for range 20 {
		s := c.attach(&agentv1.OpenAttach{ReplayLog: true})
		s.finish().expectExit(0)
		if !bytes.Equal(s.stdout.Bytes(), want.Bytes()) {
			t.Fatalf("%d bytes came, %d were written", s.stdout.Len(), want.Len())
		}
	}
}

func TestASlowReaderHoldsTheProcessAndAVanishedOneDoesNot(t *testing.T) {
	c := launch(t, launchOptions{args: sh("head -c %d /dev/zero; echo done >&2", bulk)})
	events := c.watch()
	slow := c.attach(&agentv1.OpenAttach{AttachId: "a"})
	must(t, second(slow.stream.Receive())) // started; nothing more is read
	c.mustRun("a")
	logs := c.follow()
	// The process cannot have finished: its output far exceeds all queues.
	assert.Assert(t, !bytes.Contains(logs.untilQuiet(), []byte("done")), "nobody waited for the slow reader")
	slow.vanish()
	assert.Assert(t, bytes.Contains(logs.finish(), []byte("done\n")), "the process did not go on")
	await(t, events, exitedEvent)
}

func TestABackgroundProcessDoesNotHoldTheExecsExit(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("sleep 1000 & echo out; exit 5")})
	s.finish().expectExit(5)
	if s.stdout.String() != "out\n" {
		t.Fatalf("stdout %q", s.stdout.String())
	}
}

func TestLogsFollowToTheEnd(t *testing.T) {
	c := launch(t, launchOptions{args: sh("echo one; echo two >&2; printf three")})
	logs := c.follow()
	c.mustRun()
	if got := string(logs.finish()); !strings.Contains(got, "one\n") || !strings.Contains(got, "two\n") || !strings.Contains(got, "three") {
		t.Fatalf("log %q", got)
	}
}

// There are thousands of them, each of which may send to a process that does not read.
func TestAClientsUnreadInputTakesLittle(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	window := servertest.StreamWindow(t, c.spec.AgentSocket)
	assert.Check(t, window <= 256<<10, "a shim holds %d bytes", window)
}
