package server

import (
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/buildid"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// connection is a connection of a BuildKit client; a pointer to one identifies it.
type connection struct{ _ byte }

type connectionKey struct{}

// owners are the connections to which builds belong. A frontend in a client works on its build by the build's reference,
// which everybody reads in the history: the calls of another connection are refused.
type owners struct {
	mu sync.Mutex
	of map[string]*owned
}

// owned is the owner of a reference while it has calls under way.
type owned struct {
	by    *connection
	calls int
}

// enter begins a call for a build, and returns a function that ends it.
func (o *owners) enter(ctx context.Context, ref string) (func(), error) {
	by, _ := ctx.Value(connectionKey{}).(*connection)
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.of[ref]
	if known == nil {
		if o.of == nil {
			o.of = map[string]*owned{}
		}
		known = &owned{by: by}
		o.of[ref] = known
	}
	if known.by != by {
		return nil, status.Errorf(codes.PermissionDenied, "build %s is another client's", ref)
	}
	known.calls++
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		known.calls--
		if known.calls == 0 {
			delete(o.of, ref)
		}
	}, nil
}

// refOf returns the reference of the build that a call works on.
func refOf(ctx context.Context, method string, request any) (string, bool) {
	if solve, ok := request.(*controlapi.SolveRequest); ok {
		return solve.Ref, true
	}
	return buildid.FromIncomingContext(ctx), strings.HasPrefix(method, "/"+gatewaypb.LLBBridge_ServiceDesc.ServiceName+"/")
}

func (s *Server) ownBuilds(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if ref, ok := refOf(ctx, info.FullMethod, request); ok {
		leave, err := s.owners.enter(ctx, ref)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	switch solve := request.(type) {
	case *controlapi.SolveRequest:
		defer s.sessionNames.hide(solve.FrontendAttrs)()
	case *gatewaypb.SolveRequest:
		defer s.sessionNames.hide(solve.FrontendOpt)()
	}
	return handle(ctx, request)
}

func (s *Server) ownStreams(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if ref, ok := refOf(stream.Context(), info.FullMethod, nil); ok {
		leave, err := s.owners.enter(stream.Context(), ref)
		if err != nil {
			return err
		}
		defer leave()
	}
	return handle(server, stream)
}

// sessionAttribute is the prefix of attributes that name the session of a context.
const sessionAttribute = "local-sessionid:"

// sessionNames stand for the IDs of sessions in builds' attributes: the history and the provenance show these to
// everybody, and whoever knows a session's ID can have its files.
type sessionNames struct {
	mu  sync.Mutex
	ids map[string]string
}

// hide replaces IDs by names, until the returned function is called.
func (n *sessionNames) hide(attributes map[string]string) func() {
	var given []string
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, id := range attributes {
		if _, isName := n.ids[id]; isName || !strings.HasPrefix(key, sessionAttribute) {
			continue
		}
		if n.ids == nil {
			n.ids = map[string]string{}
		}
		name := "hidden-" + rand.Text()
		n.ids[name] = id
		attributes[key] = name
		given = append(given, name)
	}
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, name := range given {
			delete(n.ids, name)
		}
	}
}

// resolve returns options with the IDs in place of names.
func (n *sessionNames) resolve(options map[string]string) map[string]string {
	resolved := maps.Clone(options)
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, name := range resolved {
		if id, ok := n.ids[name]; ok && strings.HasPrefix(key, sessionAttribute) {
			resolved[key] = id
		}
	}
	return resolved
}
