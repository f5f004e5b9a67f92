package handover

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// unrecorded is a session whose end no backend puts on record.
type unrecorded struct{ last chan *agentv1.SessionResponse }

func (s unrecorded) Next(ctx context.Context) (*agentv1.SessionResponse, error) {
	select {
	case last := <-s.last:
		return last, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s unrecorded) WriteStdin(context.Context, []byte) error            { return nil }
func (s unrecorded) SpliceStdin(context.Context, int) (int, bool, error) { return 0, false, nil }
func (s unrecorded) CloseStdin()                                         {}
func (s unrecorded) Leave()                                              {}
func (s unrecorded) Close()                                              {}

func (s unrecorded) AwaitRecord(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func (s unrecorded) TellDetached(ctx context.Context) error { return s.AwaitRecord(ctx) }

// pairOf are the two ends of a connection.
func pairOf(t *testing.T) (conns [2]*net.UnixConn) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	assert.NilError(t, err)
	for i, fd := range pair {
		if conns[i], err = ConnectionOf(fd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns
}

func TestAStreamWhoseEndNobodyRecordsInTimeIsCut(t *testing.T) {
	defer func(before time.Duration) { recordLimit = before }(recordLimit)
	recordLimit = time.Millisecond
	exit := &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Exit{Exit: &agentv1.ExitStatus{}}}
	for name, end := range map[string]func(unrecorded, *net.UnixConn) error{
		"exit": func(s unrecorded, _ *net.UnixConn) error {
			s.last <- exit
			return nil
		},
		"detach": func(_ unrecorded, client *net.UnixConn) error {
			_, err := client.Write([]byte("\x10"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			conns := pairOf(t)
			client := conns[0]
			session := unrecorded{make(chan *agentv1.SessionResponse, 1)}
			assert.NilError(t, end(session, client))
			_, last := Carry(Client{Conn: conns[1]}, session, Way{DetachKeys: []byte("\x10"), Stdin: true})
			const told = "the backend has not recorded the end of the stream in time"
			assert.Assert(t, last.GetError().GetMessage() == told, "%v", last)
			_ = client.SetDeadline(time.Now().Add(30 * time.Second))
			if got, err := io.ReadAll(client); err != nil || string(got) != told+"\r\n" {
				t.Fatalf("%q, %v", got, err)
			}
			// Neither way is open, as after an end that is heard of.
			if _, err := client.Write([]byte("x")); err == nil || os.IsTimeout(err) {
				t.Fatalf("the client may still write: %v", err)
			}
		})
	}
}
