package handover

import (
	"context"
	"io"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// recorded is a session whose end is on record.
type recorded struct{ unrecorded }

func (recorded) AwaitRecord(context.Context) error { return nil }

func TestOutputFollowsTheHeaderOnceItIsRead(t *testing.T) {
	defer func(before time.Duration) { headerLead = before }(headerLead)
	headerLead = time.Minute
	for name, c := range map[string]struct{ output, rest string }{
		"output": {"out", "out"},
		"a cut":  {"", "words\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			conns := pairOf(t)
			client, served := conns[0], conns[1]
			_, err := served.Write([]byte("header"))
			assert.NilError(t, err)
			session := recorded{unrecorded{make(chan *agentv1.SessionResponse, 2)}}
			if c.output != "" {
				session.last <- &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Stdout{
					Stdout: &agentv1.Output{Data: []byte(c.output)}}}
				session.last <- &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Exit{Exit: &agentv1.ExitStatus{}}}
			} else {
				session.last <- &agentv1.SessionResponse{Message: &agentv1.SessionResponse_Error{
					Error: &agentv1.SessionError{Message: "words"}}}
			}
			carried := make(chan struct{})
			go func() {
				defer close(carried)
				Carry(Client{Conn: served}, session, Way{})
			}()
			time.Sleep(20 * time.Millisecond) // time to write it too early
			_ = client.SetReadDeadline(time.Now().Add(30 * time.Second))
			all := make([]byte, 100)
			n, err := client.Read(all)
			if err != nil || string(all[:n]) != "header" {
				t.Fatalf("%q, %v", all[:n], err)
			}
			if got, err := io.ReadAll(client); err != nil || string(got) != c.rest {
				t.Fatalf("%q, %v", got, err)
			}
			<-carried
		})
	}
}

func TestAClientThatDoesNotReadIsNotWaitedForForLong(t *testing.T) {
	conns := pairOf(t)
	_, err := conns[1].Write([]byte("header"))
	assert.NilError(t, err)
	AwaitRead(conns[1], time.Millisecond)
}

func TestAClientThatIsGoneIsNotWaitedFor(t *testing.T) {
	conns := pairOf(t)
	_, err := conns[1].Write([]byte("header"))
	assert.NilError(t, err)
	conns[0].Close()
	AwaitRead(conns[1], time.Hour)
}
