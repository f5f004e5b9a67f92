package handover_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
)

const otherUser = 65534

// asOtherUser runs a function whose calls are another user's: of its thread alone.
func asOtherUser(t *testing.T, do func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may become another user")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with this
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, otherUser, otherUser, otherUser); errno != 0 {
			done <- errno
			return
		}
		done <- do()
	}()
	assert.NilError(t, <-done)
}

// opened is a directory in which anybody may make sockets and find them, as the
// runtime directory is not: what is left is what the two ask of each other.
func opened(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	for _, each := range []string{filepath.Dir(directory), directory} {
		assert.NilError(t, os.Chmod(each, 0o777))
	}
	return directory
}

func TestAConnectionOfAnotherUserIsNotTaken(t *testing.T) {
	path := filepath.Join(opened(t), "hand.sock")
	offers := handover.NewOffers(path, slog.Default())
	defer offers.Close()
	offer, err := offers.Make()
	if err == nil {
		err = os.Chmod(path, 0o777)
	}
	assert.NilError(t, err)
	client, fd := ends(t)
	asOtherUser(t, func() error {
		socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(socket)
		if err := unix.Connect(socket, &unix.SockaddrUnix{Name: path}); err != nil {
			return err
		}
		line := `{"token":"` + offer.Token + `","early":0}` + "\n"
		_ = unix.Sendmsg(socket, []byte(line), unix.UnixRights(fd), nil, 0) // it may be closed already
		_ = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 30})
		_, _ = unix.Read(socket, make([]byte, 1)) // until it is closed
		return unix.Close(fd)
	})
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Fatalf("somebody has the connection: %v", err)
	}
	if _, taken := offer.Withdraw(); taken {
		t.Fatal("it was taken")
	}
}

func TestNoConnectionIsGivenToAnotherUser(t *testing.T) {
	path := filepath.Join(opened(t), "hand.sock")
	var listener int
	asOtherUser(t, func() (err error) {
		listener, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(listener, &unix.SockaddrUnix{Name: path})
		}
		if err == nil {
			err = unix.Listen(listener, 1)
		}
		return err
	})
	defer unix.Close(listener)
	_, fd := ends(t)
	defer unix.Close(fd)
	sent, err := handover.Send(path, "token", fd, nil)
	if sent || err == nil || !strings.Contains(err.Error(), "the peer is of user 65534") {
		t.Fatalf("%v, %v", sent, err)
	}
}

// ends answers both ends of a connection. The second is a descriptor.
func ends(t *testing.T) (*net.UnixConn, int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	conn, err := handover.ConnectionOf(pair[0])
	assert.NilError(t, err)
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetReadDeadline(time.Now().Add(30 * time.Second))
	return conn, pair[1]
}
