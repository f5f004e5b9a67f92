package shim_test

import (
	"bytes"
	"errors"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// waiting makes a script wait until it is released.
const waiting = "until [ -e /go ]; do usleep 1000; done; "

func (c *container) letGo() {
	c.t.Helper()
	must(c.t, os.WriteFile(filepath.Join(c.spec.Rootfs, "go"), nil, 0o644))
}

func noise(length int) []byte {
	data := make([]byte, length)
	rand.New(rand.NewSource(int64(length))).Read(data)
	return data
}

// sendAll sends a client's input, and its end.
func sendAll(client *net.UnixConn, data []byte) error {
	_, err := client.Write(data)
	return errors.Join(err, client.CloseWrite())
}

func TestInputIsCountedAndTakenThoughTheProcessClosesItsStdinMidway(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	data := noise(8 << 20)
	for i, early := range []int{0, 10, 300_000} {
		for j, script := range []string{
			"exec 0<&-; ",
			"head -c 1 > /dev/null; exec 0<&-; ",
			"head -c 1000000 > /dev/null; exec 0<&-; ",
		} {
			s := c.exec(itoa(i)+"-"+itoa(j), &agentv1.ProcessSpec{Args: sh("%s%secho out; exit 3", script, waiting)}, overConnection(false, ""))
			client := s.handed(data[:early])
			must(t, sendAll(client, data[early:]))
			handover.AwaitRead(client, limit)
			c.letGo()
			if got := all(t, client); got != "out\n" {
				t.Fatalf("%q", got)
			}
			s.finish().expectExit(3)
			if s.carried.GetInputBytes() != uint64(len(data)) {
				t.Errorf("%d bytes read before, then %q: %d counted of %d", early, script, s.carried.GetInputBytes(), len(data))
			}
			must(t, os.Remove(filepath.Join(c.spec.Rootfs, "go")))
		}
	}
}

func TestWhatWasReadEarlyComesBeforeBulk(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	data := noise(3 << 20)
	for _, early := range []int{1, 100_000, 1 << 20} {
		s := c.exec("early"+strconv.Itoa(early), &agentv1.ProcessSpec{Args: []string{"cat"}}, overConnection(false, ""))
		client, fd := pair(t)
		go sendAll(client, data[early:])
		s.handOn(fd, data[:early])
		if got := all(t, client); got != string(data) {
			t.Fatalf("%d bytes came back, or others", len(got))
		}
		if s.finish().expectExit(0); s.carried.GetInputBytes() != uint64(len(data)) {
			t.Fatalf("%d counted", s.carried.GetInputBytes())
		}
	}
}

func TestInputOfAClientThatHasLeftReachesAProcessThatReadsLater(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	told := c.recording()
	data := noise(300_000)
	s := c.exec("later", &agentv1.ProcessSpec{Args: sh("%scat > /got", waiting)}, overConnection(false, ""))
	client := s.handed(nil)
	_, err := client.Write(data)
	must(t, err)
	must(t, client.Close())
	s.vanish()
	c.letGo()
	await(t, told, func(w *agentv1.WatchResponse) bool { return w.GetExecEnded().GetExecId() == "later" })
	got, err := os.ReadFile(filepath.Join(c.spec.Rootfs, "got"))
	must(t, err)
	assert.Assert(t, bytes.Equal(got, data), "%d bytes came, or others", len(got))
}

// Spliced pieces soon occupy all slots of a pipe.
func TestAProcessThatDoesNotReadHoldsUpNobodyWhoSendsManySmallPieces(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	c.recording()
	s := c.exec("small", &agentv1.ProcessSpec{Args: sh("%scat", waiting)}, overConnection(false, ""))
	client := s.handed(nil)
	data := noise(120_000)
	for piece := range slices.Chunk(data, 60) {
		_, err := client.Write(piece)
		must(t, err)
	}
	must(t, client.CloseWrite())
	c.letGo()
	if got := all(t, client); got != string(data) {
		t.Fatalf("%d bytes came back, or others", len(got))
	}
	s.finish().expectExit(0)
}

func TestClientsWhoseConnectionsWereHandedOnShareTheMainProcessesInput(t *testing.T) {
	const each = 2_000_000
	c := launch(t, launchOptions{
		args: sh("head -c %d > /got; tr -d a < /got | wc -c", 2*each),
		spec: func(s *spec) { s.OpenStdin = true },
	})
	var clients []*net.UnixConn
	for _, id := range []string{"a", "b"} {
		s := c.attach(&agentv1.OpenAttach{AttachId: id, Stdin: true, HandOver: &agentv1.HandOver{}})
		client := s.handed([]byte(id))
		go sendAll(client, bytes.Repeat([]byte(id), each-1))
		clients = append(clients, client)
	}
	c.mustRun("a", "b")
	for _, client := range clients {
		if got := all(t, client); got != itoa(each)+"\n" {
			t.Fatalf("%q", got)
		}
	}
}
