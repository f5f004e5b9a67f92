package shim

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// consoleTimeout bounds the wait for the master that the runtime must have sent
// before it ended.
const consoleTimeout = 5 * time.Second

// consoleSocket receives the master of a pseudo-terminal that the OCI runtime
// opened inside the container.
type consoleSocket struct {
	path     string
	listener *net.UnixListener
}

func listenForConsole(path string) (*consoleSocket, error) {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for the console: %w", err)
	}
	return &consoleSocket{path: path, listener: listener}, nil
}

func (c *consoleSocket) close() { c.listener.Close() }

// receive waits for the master.
func (c *consoleSocket) receive() (*os.File, error) {
	deadline := time.Now().Add(consoleTimeout)
	if err := c.listener.SetDeadline(deadline); err != nil {
		return nil, err
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("receive the console: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	return receiveMaster(conn)
}

func receiveMaster(conn *net.UnixConn) (*os.File, error) {
	name, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, control)
	if err != nil {
		return nil, fmt.Errorf("receive the console: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return nil, errors.New("receive the console: no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("receive the console: no descriptor came")
	}
	unix.CloseOnExec(fds[0])
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, errors.Join(err, unix.Close(fds[0]))
	}
	return os.NewFile(uintptr(fds[0]), "console"), nil
}

// consolePair receives the master of a terminal that an entering process opened
// in the container.
type consolePair struct {
	ours   *net.UnixConn
	theirs *os.File
}

func newConsolePair() (*consolePair, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket for the console: %w", err)
	}
	own := os.NewFile(uintptr(fds[0]), "console")
	defer own.Close()
	p := &consolePair{theirs: os.NewFile(uintptr(fds[1]), "console")}
	conn, err := net.FileConn(own)
	if err != nil {
		p.theirs.Close()
		return nil, fmt.Errorf("make a socket for the console: %w", err)
	}
	p.ours = conn.(*net.UnixConn)
	return p, nil
}

func (p *consolePair) close() {
	p.ours.Close()
	p.theirs.Close()
}

// receive takes the master, which has already been sent.
func (p *consolePair) receive() (*os.File, error) {
	if err := p.ours.SetDeadline(time.Now().Add(consoleTimeout)); err != nil {
		return nil, err
	}
	return receiveMaster(p.ours)
}
