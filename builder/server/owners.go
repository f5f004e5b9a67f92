package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"maps"
	"strings"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/buildid"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	"github.com/sockerless/sockerless/builder/worker"
)

// owners are the connections to which builds belong. A frontend in a client works on its build by the build's reference,
// which everybody reads in the history: the calls of another connection are refused.
type owners struct{ of worker.RefCounted[*owned] }

// owned is the owner of a reference while it has calls under way.
type owned struct {
	by *connection
	mu sync.Mutex
	// session of the build, once it is solved.
	session string
}

// enter begins a call for a build, whose session a solve names, and returns that session and a function that ends the call.
func (o *owners) enter(ctx context.Context, ref, session string) (string, func(), error) {
	by := connectionOf(ctx)
	known, leave := o.of.Acquire(ref, &owned{by: by})
	if known.by != by {
		leave()
		return "", nil, status.Errorf(codes.PermissionDenied, "build %s is another client's", ref)
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	known.session = cmp.Or(session, known.session)
	return known.session, leave, nil
}

// gatewayMethods is the prefix of the methods by which a frontend in a client works on its build.
var gatewayMethods = "/" + gatewaypb.LLBBridge_ServiceDesc.ServiceName + "/"

// enterBuild begins a call that works on a build, with the names of sessions in its attributes, and returns a function that
// ends it. Other calls are everybody's.
func (s *Server) enterBuild(ctx context.Context, method string, request any) (func(), error) {
	// Answers are counted as they were marshalled.
	if err := grpc.SetSendCompressor(ctx, encoding.Identity); err != nil {
		return nil, err
	}
	var ref, session string
	var attributes map[string]string
	var imports int
	var definition *pb.Definition
	switch solve, isSolve := request.(*controlapi.SolveRequest); {
	case isSolve:
		ref, session, attributes = solve.Ref, solve.Session, solve.FrontendAttrs
		definition = solve.Definition
		imports = len(solve.GetCache().GetImports()) + len(solve.GetCache().GetImportRefsDeprecated())
	case strings.HasPrefix(method, gatewayMethods):
		ref = buildid.FromIncomingContext(ctx)
		if solve, ok := request.(*gatewaypb.SolveRequest); ok {
			attributes, definition, imports = solve.FrontendOpt, solve.Definition, len(solve.CacheImports)
		}
	default:
		return func() {}, nil
	}
	if err := worker.BoundSolve(imports, definition); err != nil {
		return nil, err
	}
	session, leave, err := s.owners.enter(ctx, ref, session)
	if err != nil {
		return nil, err
	}
	leaveClient := func() {}
	if by := connectionOf(ctx); by != nil {
		leaveClient = s.worker.OfClient(session, by.name)
	}
	forget := s.sessionNames.hide(attributes, session)
	return func() {
		leaveClient()
		forget()
		leave()
	}, nil
}

func (s *Server) ownBuilds(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	leave, err := s.enterBuild(ctx, info.FullMethod, request)
	if err != nil {
		return nil, err
	}
	defer leave()
	return handle(ctx, request)
}

func (s *Server) ownStreams(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	leave, err := s.enterBuild(stream.Context(), info.FullMethod, nil)
	if err != nil {
		return err
	}
	defer leave()
	return handle(server, stream)
}

// sessionAttribute is the prefix of attributes that name the session of a context.
const sessionAttribute = "local-sessionid:"

// sessionNames stand for the IDs of sessions in builds' attributes: the history and the provenance show these to
// everybody, and whoever knows a session's ID can have its files. A name is good for the build that has it alone.
type sessionNames struct {
	mu  sync.Mutex
	ids map[string]hidden
}

// hidden is the ID of a session, and the session of the build that names it.
type hidden struct{ id, build string }

// hide replaces IDs by names for a build, by its session, until the returned function is called.
func (n *sessionNames) hide(attributes map[string]string, build string) func() {
	var given []string
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, id := range attributes {
		if known, isName := n.ids[id]; isName && known.build == build || !strings.HasPrefix(key, sessionAttribute) {
			continue
		}
		if n.ids == nil {
			n.ids = map[string]hidden{}
		}
		name := "hidden-" + rand.Text()
		n.ids[name] = hidden{id, build}
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

// resolve returns options of a build, by its session, with the IDs in place of its names. A build without a session has none.
func (n *sessionNames) resolve(options map[string]string, build string) map[string]string {
	resolved := maps.Clone(options)
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, name := range resolved {
		if known, ok := n.ids[name]; ok && known.build == build && build != "" && strings.HasPrefix(key, sessionAttribute) {
			resolved[key] = known.id
		}
	}
	return resolved
}
