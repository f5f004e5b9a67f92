package forwarder

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/nodechannel"
)

// ends answers both ends of a connection. The first is a descriptor.
func ends(t *testing.T) (int, *net.UnixConn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	file := os.NewFile(uintptr(pair[1]), "end")
	defer file.Close()
	conn, err := net.FileConn(file)
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	return pair[0], conn.(*net.UnixConn)
}

// started is a forwarder, and the frontend's end of its channel.
func started(t *testing.T, f *forwarder) (*net.UnixConn, *bufio.Reader) {
	t.Helper()
	fd, frontend := ends(t)
	file := os.NewFile(uintptr(fd), "channel")
	defer file.Close()
	conn, err := net.FileConn(file)
	assert.NilError(t, err)
	f.channel, f.transport = nodechannel.New(conn.(*net.UnixConn)), newTransport()
	go func() { _ = f.run() }()
	return frontend, bufio.NewReader(frontend)
}

func send(t *testing.T, frontend *net.UnixConn, id, fd int) {
	t.Helper()
	sendTo(t, frontend, fd, handedOn{ID: id, Socket: "/nowhere"})
}

func sendTo(t *testing.T, frontend *net.UnixConn, fd int, to handedOn) {
	t.Helper()
	message, err := json.Marshal(to)
	assert.NilError(t, err)
	line, err := json.Marshal(nodechannel.Envelope{Command: nodechannel.WithHandle, Message: message})
	if err == nil {
		_, _, err = frontend.WriteMsgUnix(append(line, '\n'), unix.UnixRights(fd), nil)
	}
	assert.NilError(t, err)
}

// told answers what comes after the next acknowledgement.
func told(t *testing.T, lines *bufio.Reader) (a answer) {
	t.Helper()
	acknowledge(t, lines)
	next(t, lines, &a)
	return a
}

func acknowledge(t *testing.T, lines *bufio.Reader) {
	t.Helper()
	var m nodechannel.Envelope
	if next(t, lines, &m); m.Command != nodechannel.Acknowledged {
		t.Fatalf("%+v", m)
	}
}

func next(t *testing.T, lines *bufio.Reader, into any) {
	t.Helper()
	line, err := lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, into)
	}
	assert.NilError(t, err)
}

func TestAHelperWithoutDescriptorsLeavesConnectionsToTheFrontend(t *testing.T) {
	frontend, lines := started(t, &forwarder{})
	fd, _ := ends(t)
	defer unix.Close(fd)
	var before unix.Rlimit
	assert.NilError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	defer func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) }()
	assert.NilError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: before.Max}))
	send(t, frontend, 1, fd)
	if a := told(t, lines); a.ID != 1 || a.Error == "" || a.Sent {
		t.Fatalf("%+v", a)
	}
	assert.NilError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before))
	send(t, frontend, 2, fd)
	if a := told(t, lines); a.ID != 2 || a.Error == "" || a.Sent {
		t.Fatalf("%+v", a)
	}
}

func TestAHelperThatServesNoMoreLeavesItsChannelWhileClientsWait(t *testing.T) {
	f := new(forwarder)
	f.passing.Add(1)
	defer f.passing.Done()
	frontend, lines := started(t, f)
	_, err := io.WriteString(frontend, "no JSON\n")
	assert.NilError(t, err)
	if _, err := lines.ReadByte(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestAFrontendIsToldOnceAClientHasReadItsHeader(t *testing.T) {
	frontend, lines := started(t, &forwarder{headerLead: time.Minute})
	fd, client := ends(t)
	defer unix.Close(fd)
	write := func(text string) {
		t.Helper()
		_, err := unix.Write(fd, []byte(text))
		assert.NilError(t, err)
	}
	write("header")
	sendTo(t, frontend, fd, handedOn{ID: 1, Read: true})
	acknowledge(t, lines)
	read := make(chan struct{})
	go func() {
		defer close(read)
		time.Sleep(20 * time.Millisecond) // time to tell it too early
		header := make([]byte, 100)
		if n, err := client.Read(header); err != nil || string(header[:n]) != "header" {
			t.Errorf("%q, %v", header[:n], err)
		}
	}()
	var a answer
	if next(t, lines, &a); a.ID != 1 || a.Error != "" || a.Sent {
		t.Fatalf("%+v", a)
	}
	if unread, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err != nil || unread != 0 {
		t.Fatalf("it was told while %d were unread: %v", unread, err)
	}
	<-read
	write("more") // The frontend's end is as it was.
	_ = unix.Close(fd)
	if rest, err := io.ReadAll(client); err != nil || string(rest) != "more" {
		t.Fatalf("%q, %v", rest, err)
	}
}

func TestAConnectionOfAnotherKindIsToldToBeNone(t *testing.T) {
	frontend, lines := started(t, &forwarder{})
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	assert.NilError(t, err)
	defer unix.Close(null)
	sendTo(t, frontend, null, handedOn{ID: 1, Read: true})
	if a := told(t, lines); a.ID != 1 || a.Error == "" {
		t.Fatalf("%+v", a)
	}
}
