package backend

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// restartPatience is how long a restarting backend may take before pending work fails.
const restartPatience = 30 * time.Second

// restartPoll is how often a restarting backend is asked.
const restartPoll = 200 * time.Millisecond

// patiently repeats a call until the backend answers or has been away for too long.
func patiently(ctx context.Context, call func() error) error {
	var deadline time.Time
	for {
		began := time.Now()
		err := call()
		if !isAway(err) || ctx.Err() != nil {
			return err
		}
		// A long call shows that the backend was there; but the same answer is not requested for ever.
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

// isAway reports a failure of the connection, or of a starting or stopping backend: the call may or may not have been
// executed.
func isAway(err error) bool {
	if failure := new(connect.Error); errors.As(err, &failure) {
		return !connect.IsWireError(err) || failure.Code() == connect.CodeUnavailable
	}
	return errors.Is(err, errCut)
}

// errAway replaces the connection's error by the meaning of the lost response; the backend's own errors stay.
func errAway(meaning string, err error) error {
	if connect.IsWireError(err) {
		return err
	}
	return fmt.Errorf("%s: %s", meaning, Plain(err))
}

// waitingForRestarts repeats calls whose responses were lost.
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

// mayRepeat reports whether the backend's contract allows repeating a call of the builder: those that would do
// something twice have a token.
func mayRepeat(message any) bool {
	if start, ok := message.(*backendv1.StartContainerRequest); ok {
		// A restarted backend resumes a start without its secrets.
		return len(start.Secrets) == 0 && len(start.SecretEnv) == 0
	}
	return true
}
