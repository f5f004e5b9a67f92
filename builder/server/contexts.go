package server

import (
	"context"
	"strings"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver/pb"
)

// localFrontend is a frontend that fetches no archive as a context: it would be unpacked without bounds.
type localFrontend struct{ frontend.Frontend }

func (f *localFrontend) Solve(ctx context.Context, bridge frontend.FrontendLLBBridge, ex executor.Executor, options map[string]string, inputs map[string]*pb.Definition, sessionID string, sessions *session.Manager) (*frontend.Result, error) {
	if err := refuseRemote(options); err != nil {
		return nil, err
	}
	return f.Frontend.Solve(ctx, bridge, ex, options, inputs, sessionID, sessions)
}

// refuseRemote refuses options of a build whose context, or a named one, is neither a session's directory nor a git
// repository nor an image.
func refuseRemote(options map[string]string) error {
	own := "context"
	if name, ok := options["contextkey"]; ok {
		own = name
	}
	for name, value := range options {
		scheme, _, _ := strings.Cut(value, ":")
		isNamed := strings.HasPrefix(name, "context:") && (scheme == "http" || scheme == "https")
		_, isGit, _ := dockerui.DetectGitContext(value, nil)
		_, _, isWeb := dockerui.DetectHTTPContext(value)
		switch {
		case isGit, !isNamed && (name != own || !isWeb):
		case strings.HasPrefix(value, "http://buildkit-session/"):
			return unbuilt("by buildx of an archive on standard input")
		default:
			return unbuilt("by buildx of a file at a web address as its context")
		}
	}
	return nil
}
