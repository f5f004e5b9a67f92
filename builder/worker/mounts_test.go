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

// shared is a step of builds with these sessions.
func shared(sessions *session.Manager, silence time.Duration, ids ...string) *step {
	return &step{execOp: &execOp{worker: &Worker{silence: silence}, sessions: sessions}, job: &sharing{sessions: ids}}
}

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
	content, isGiven, err := shared(sessions, 2*time.Second, ids[0], ids[2]).secret(t.Context(), "id", false)
	assert.NilError(t, err)
	assert.Check(t, isGiven && string(content) == "secret")
	_, _, err = shared(sessions, 200*time.Millisecond, ids[:2]...).secret(t.Context(), "id", true)
	assert.Check(t, is.Error(err, "the build's client has not answered for 200ms"))
}

func TestABuildThatSharesItsStepWithNobodyWaitsForASlowSecret(t *testing.T) {
	slow := make(slowSecrets)
	sessions, ids := joined(t, secretsprovider.NewSecretProvider(slow))
	time.AfterFunc(500*time.Millisecond, func() { close(slow) })
	// A step that its build reaches in two ways has the build's session twice.
	content, _, err := shared(sessions, time.Millisecond, ids[0], ids[0]).secret(t.Context(), "id", false)
	assert.NilError(t, err)
	assert.Equal(t, string(content), "slow")
}
