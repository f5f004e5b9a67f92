package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// restartPatience is how long a backend that restarts may take before what it should have done is given up.
const restartPatience = 30 * time.Second

// restartPoll is how often such a backend is asked.
const restartPoll = 200 * time.Millisecond

// patiently makes a call that may be repeated until the backend has answered it, or has been away for too long.
func patiently(ctx context.Context, call func() error) error {
	var deadline time.Time
	for {
		began := time.Now()
		err := call()
		if !isAway(err) || ctx.Err() != nil {
			return err
		}
		// A call that has lasted was one that the backend was there for; but what it answers is not asked for without an end.
		hasLasted := time.Since(began) > restartPatience && !connect.IsWireError(err)
		if now := time.Now(); deadline.IsZero() || hasLasted {
			deadline = now.Add(restartPatience)
		} else if now.After(deadline) {
			return errAway(fmt.Sprintf("the backend has not answered for %s", restartPatience), err)
		}
		select {
		case <-time.After(restartPoll):
		case <-ctx.Done():
			return err
		}
	}
}

// isAway tells a failure of the connection, or of a backend that begins or ends: the call may have been done or not.
func isAway(err error) bool {
	if failure := new(connect.Error); errors.As(err, &failure) {
		return !connect.IsWireError(err) || failure.Code() == connect.CodeUnavailable
	}
	return errors.Is(err, errCut)
}

// errAway tells what a lost answer means, in the place of what the connection says of it; what the backend says stays.
func errAway(meaning string, err error) error {
	if connect.IsWireError(err) {
		return err
	}
	return fmt.Errorf("%s: %s", meaning, Plain(err))
}

// waitingForRestarts repeats calls whose answers were lost.
func waitingForRestarts(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (response connect.AnyResponse, err error) {
		call := func() error {
			response, err = next(ctx, request)
			return err
		}
		if !mayRepeat(request.Any()) {
			return response, call()
		}
		err = patiently(ctx, call)
		return response, err
	}
}

// mayRepeat tells what the backend's contract does of the calls that a builder makes: those that would do something twice
// have a token.
func mayRepeat(message any) bool {
	if start, ok := message.(*backendv1.StartContainerRequest); ok {
		// The backend that comes back takes up a start without its secrets.
		return len(start.Secrets) == 0 && len(start.SecretEnv) == 0
	}
	return true
}
