// Package handover moves a client's connection from the process that has answered
// the client to the agent that has the bytes. The connection is a descriptor in a
// message to a unix socket (SCM_RIGHTS): the sender keeps a copy or closes it,
// the receiver owns it, and each side requires the other to run as its own user.
// The frontend's forwarder sends (Send); a shim receives (Offers) and carries the
// client's bytes from then on (Carry).
package handover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// patience bounds one message from a peer on this machine.
	patience = 30 * time.Second
	// earlyLimit bounds what was read from a connection before its hand-over.
	earlyLimit = 4 << 20
	// kernelRoom is what a client may leave unread when a shim leaves, and
	// kernelRoomOfAll what all of its clients may together: it outlives the shim, and
	// the kernel takes twice as much.
	kernelRoom      = 8 << 20
	kernelRoomOfAll = 2 * kernelRoom
	// headLimit bounds the line sent with a descriptor.
	headLimit = 1 << 10
)

// head is the JSON line sent with a descriptor, before the early bytes.
type head struct {
	Token string `json:"token"`
	Early int    `json:"early"`
}

// Client is a client's connection.
type Client struct {
	Conn *net.UnixConn
	// Early are the bytes already read from it.
	Early []byte
	// Leaving is closed when output must soon be in the kernel's buffer.
	Leaving <-chan struct{}
	offers  *Offers // that have received it; nil: none
}

// Send passes the descriptor of a client's connection, and the bytes already read
// from it, to the process that made an offer. The caller still has to close its
// descriptor. An error with sent means that the other process may have the
// connection.
func Send(socket, token string, fd int, early []byte) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dialled, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return false, err
	}
	conn := dialled.(*net.UnixConn)
	defer conn.Close()
	if err := demandOwnUser(conn); err != nil {
		return false, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	line, err := json.Marshal(head{Token: token, Early: len(early)})
	if err != nil {
		return false, err
	}
	if _, _, err := conn.WriteMsgUnix(append(line, '\n'), unix.UnixRights(fd), nil); err != nil {
		return false, err
	}
	if len(early) > 0 { // otherwise the receiver may have closed its end already
		_, err = conn.Write(early)
	}
	return true, err
}

// demandOwnUser refuses a peer that runs as another user.
func demandOwnUser(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) {
		peer, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if failure != nil {
		return failure
	}
	if int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("the peer is of user %d", peer.Uid)
	}
	return nil
}

// OneDescriptor takes the descriptor from a message's control data. With more or
// fewer it fails and closes all of them.
func OneDescriptor(control []byte, flags int) (int, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1, err
	}
	var all []int
	for _, message := range messages {
		if fds, err := unix.ParseUnixRights(&message); err == nil {
			all = append(all, fds...)
		}
	}
	if len(all) == 1 && flags&unix.MSG_CTRUNC == 0 {
		return all[0], nil
	}
	for _, fd := range all {
		_ = unix.Close(fd)
	}
	return -1, errors.New("a message has one descriptor")
}

// ControlSpace has room for more descriptors than a message may have, so that
// surplus ones are noticed.
var ControlSpace = unix.CmsgSpace(8 * 4)

// takeMore enlarges the kernel's buffer for what a client has not read, so that
// it stays readable after this process has ended, unless others have taken all the
// room: then this process has to stay. Pending writes continue.
func (c *Client) takeMore() error {
	if !c.offers.takeRoom() {
		return nil
	}
	raw, err := c.Conn.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	if err := raw.Control(func(fd uintptr) {
		failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, kernelRoom)
		if failure != nil { // only root may exceed the system's limit
			failure = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, kernelRoom)
		}
	}); err != nil {
		return err
	}
	return failure
}

// AwaitRead waits until the other end has read everything written to it, or is
// closed, for a limited time.
func AwaitRead(conn *net.UnixConn, limit time.Duration) {
	// Polled, as there is no notification; most clients have read by now.
	pause := 50 * time.Microsecond
	for end := time.Now().Add(limit); unread(conn) > 0 && time.Now().Before(end); pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
	}
}

// ConnectionOf converts a descriptor, which it takes over, to a connection.
func ConnectionOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	client, isUnix := conn.(*net.UnixConn)
	if !isUnix {
		conn.Close()
		return nil, errors.New("the client's connection is no unix socket")
	}
	return client, nil
}
