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

// slowSecrets answers when it is told to.
type slowSecrets chan struct{}

func (s slowSecrets) GetSecret(ctx context.Context, _ string) ([]byte, error) {
	select {
	case <-s:
		return []byte("slow"), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// sharing is a step's view of builds that share it.
type sharing struct {
	job
	sessions []string
}

func (s *sharing) Session() session.Group { return session.NewGroup(s.sessions...) }

// joined has a session join for each of the services.
func joined(t *testing.T, services ...session.Attachable) (*session.Manager, []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	sessions, err := session.NewManager()
	assert.NilError(t, err)
	var ids []string
	for _, service := range services {
		own, err := session.NewSession(ctx, "")
		assert.NilError(t, err)
		own.Allow(service)
		go own.Run(ctx, func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
			here, there := net.Pipe()
			go sessions.HandleConn(ctx, there, meta)
			return here, nil
		})
		ids = append(ids, own.ID())
	}
	return sessions, ids
}

func TestASessionThatNeverAnswersForASecretHoldsUpNoOthersForLong(t *testing.T) {
	silent := secretsprovider.NewSecretProvider(make(slowSecrets))
	sessions, ids := joined(t, silent, silent, secretsprovider.FromMap(map[string][]byte{"id": []byte("secret")}))
	made := &step{execOp: &execOp{worker: &Worker{silence: 2 * time.Second}, sessions: sessions}, job: &sharing{sessions: []string{ids[0], ids[2]}}}
	content, isGiven, err := made.secret(t.Context(), "id", false)
	assert.NilError(t, err)
	assert.Check(t, isGiven && string(content) == "secret")
	made.worker = &Worker{silence: 200 * time.Millisecond}
	made.job = &sharing{sessions: ids[:2]}
	_, _, err = made.secret(t.Context(), "id", true)
	assert.Check(t, is.Error(err, "the build's client has not answered for 200ms"))
}

func TestABuildThatSharesItsStepWithNobodyWaitsForASlowSecret(t *testing.T) {
	slow := make(slowSecrets)
	sessions, ids := joined(t, secretsprovider.NewSecretProvider(slow))
	// A step that its build reaches in two ways has the build's session twice.
	made := &step{execOp: &execOp{worker: &Worker{silence: time.Millisecond}, sessions: sessions}, job: &sharing{sessions: []string{ids[0], ids[0]}}}
	time.AfterFunc(500*time.Millisecond, func() { close(slow) })
	content, _, err := made.secret(t.Context(), "id", false)
	assert.NilError(t, err)
	assert.Equal(t, string(content), "slow")
}
