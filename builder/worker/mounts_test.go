package worker

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// silentSecrets never answers.
type silentSecrets struct{}

func (silentSecrets) GetSecret(ctx context.Context, _ string) ([]byte, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// sharing is a step's view of builds that share it.
type sharing struct {
	job
	sessions []string
}

func (s *sharing) Session() session.Group { return session.NewGroup(s.sessions...) }

func TestASessionThatNeverAnswersForASecretHoldsUpNoOthersForLong(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sessions, err := session.NewManager()
	assert.NilError(t, err)
	join := func(service session.Attachable) string {
		own, err := session.NewSession(ctx, "")
		assert.NilError(t, err)
		own.Allow(service)
		go own.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			here, there := net.Pipe()
			go sessions.HandleConn(ctx, there, meta)
			return here, nil
		})
		return own.ID()
	}
	silent := join(secretsprovider.NewSecretProvider(silentSecrets{}))
	answers := join(secretsprovider.FromMap(map[string][]byte{"id": []byte("secret")}))
	made := &step{execOp: &execOp{worker: &Worker{silence: 2 * time.Second}, sessions: sessions}, job: &sharing{sessions: []string{silent, answers}}}
	content, isGiven, err := made.secret(ctx, "id", false)
	assert.NilError(t, err)
	assert.Check(t, isGiven && string(content) == "secret")
	made.job = &sharing{sessions: []string{silent}}
	_, _, err = made.secret(ctx, "id", true)
	assert.Check(t, is.Error(err, "the build's client has not answered for 2s"))
}
