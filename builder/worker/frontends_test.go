package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend/gateway/container"
	"github.com/moby/buildkit/session"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestAContainerOfAFrontendMayHaveNoStreams(t *testing.T) {
	w, _ := workerOf(t)
	w.talking = slots{size: 1}
	made, err := (&manager{Worker: w}).New(t.Context(), nil, nil)
	must(t, err)
	defer made.Release(t.Context())
	process := executor.ProcessInfo{Meta: executor.Meta{Args: []string{"true"}}}
	_, err = frontends{w}.Run(t.Context(), "", container.MountWithSession(made, nil), nil, process, nil)
	must(t, err)
}

func TestAFrontendWhoseContainerCannotBeRemovedHasEnded(t *testing.T) {
	for name, isCancelled := range map[string]bool{"ended": false, "cancelled": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, server := workerOf(t)
			w.talking = slots{size: 1}
			made, err := (&manager{Worker: w}).New(t.Context(), nil, nil)
			must(t, err)
			defer made.Release(context.Background())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			server.Before = func(called string) {
				if isCancelled && called == "CreateContainer" {
					cancel()
				}
			}
			var tries atomic.Int32
			server.RemoveContainerError = func() error {
				if tries.Add(1) == 1 {
					return connect.NewError(connect.CodeInternal, errors.New("the cloud is busy"))
				}
				return nil
			}
			process := executor.ProcessInfo{Meta: executor.Meta{Args: []string{"true"}}}
			_, err = frontends{w}.Run(ctx, "", container.MountWithSession(made, session.NewGroup("one")), nil, process, nil)
			assert.Check(t, is.ErrorIs(err, ctx.Err()))
			w.WaitForRemovals(t.Context(), "one")
			for end := time.Now().Add(10 * time.Second); len(server.Containers()) > 0; time.Sleep(100 * time.Millisecond) {
				assert.Assert(t, time.Now().Before(end), "left after %d tries", tries.Load())
			}
		})
	}
}

func TestTheBeginningOfWhatAFrontendPrintsIsKept(t *testing.T) {
	printed := &beginning{limit: 5}
	for _, text := range []string{"abc", "defg", "h"} {
		if n, err := printed.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if printed.kept.String() != "abcde" {
		t.Errorf("kept %q", printed.kept.String())
	}
}
