package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/buildid"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/identity"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// hijacked is a connection whose first bytes were read with the answer.
type hijacked struct {
	net.Conn
	read *bufio.Reader
}

func (h *hijacked) Read(into []byte) (int, error) { return h.read.Read(into) }

// dialer connects as clients of the Docker API do.
func dialer(address, path string, headers http.Header) (net.Conn, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodPost, "http://builder"+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header = headers.Clone()
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "h2c")
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	made := &hijacked{conn, bufio.NewReader(conn)}
	answer, err := http.ReadResponse(made.read, request)
	if err == nil && answer.StatusCode != http.StatusSwitchingProtocols {
		err = errors.New(answer.Status)
	}
	return made, err
}

// served starts the server's HTTP, and returns a function that makes clients of BuildKit.
func served(t *testing.T, s *Server) (address string, connect func() *client.Client) {
	t.Helper()
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	address = web.Listener.Addr().String()
	return address, func() *client.Client {
		t.Helper()
		made, err := client.New(t.Context(), "", client.WithGRPCDialOption(grpc.WithStaticStreamWindowSize(1<<16)), // what is not read stays unsent
			client.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialer(address, "/grpc", http.Header{}) }),
			client.WithSessionDialer(func(_ context.Context, _ string, headers map[string][]string) (net.Conn, error) {
				return dialer(address, "/session", headers)
			}))
		assert.NilError(t, err)
		t.Cleanup(func() { made.Close() })
		return made
	}
}

// listed are the records of the history.
func listed(t *testing.T, of *client.Client) []*controlapi.BuildHistoryRecord {
	t.Helper()
	events, err := of.ControlClient().ListenBuildHistory(t.Context(), &controlapi.BuildHistoryRequest{EarlyExit: true})
	assert.NilError(t, err)
	var records []*controlapi.BuildHistoryRecord
	for {
		event, err := events.Recv()
		if err == io.EOF {
			return records
		}
		assert.NilError(t, err)
		records = append(records, event.Record)
	}
}

func TestWhoListsTheHistoryCannotWorkOnABuildUnderWay(t *testing.T) {
	s, _ := running(t)
	address, connect := served(t, s)
	dir := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(dir, "private"), []byte("content"), 0o600))
	files, err := fsutil.NewFS(dir)
	assert.NilError(t, err)
	definition, err := llb.Local("context").Marshal(t.Context())
	assert.NilError(t, err)
	other := connect()
	raw, err := grpc.NewClient("passthrough:builder", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return dialer(address, "/grpc", http.Header{}) }))
	assert.NilError(t, err)
	defer raw.Close()
	_, err = connect().Build(t.Context(), client.SolveOpt{LocalMounts: map[string]fsutil.FS{"context": files}}, "", func(ctx context.Context, own gateway.Client) (*gateway.Result, error) {
		records := listed(t, other)
		for len(records) == 0 && ctx.Err() == nil { // The build is recorded beside its beginning.
			records = listed(t, other)
		}
		if len(records) != 1 {
			return nil, fmt.Errorf("the history has %v", records)
		}
		named := buildid.AppendToOutgoingContext(t.Context(), records[0].Ref)
		foreign := gatewaypb.NewLLBBridgeClient(raw)
		if _, err := foreign.Solve(named, &gatewaypb.SolveRequest{Definition: definition.ToPB()}); status.Code(err) != codes.PermissionDenied {
			return nil, fmt.Errorf("another client's solve was answered %v", err)
		}
		containers, err := foreign.ExecProcess(named)
		if err == nil {
			_, err = containers.Recv()
		}
		assert.Check(t, status.Code(err) == codes.PermissionDenied, "another client's process was answered %v", err)
		solved, err := own.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB()})
		if err != nil {
			return nil, err
		}
		content, err := solved.Ref.ReadFile(ctx, gateway.ReadRequest{Filename: "private"})
		assert.Check(t, string(content) == "content", "the build itself reads %q, %v", content, err)
		return gateway.NewResult(), nil
	}, nil)
	assert.Check(t, err)
	_, isLeft := s.owners.of.Value(listed(t, other)[0].Ref)
	assert.Check(t, !isLeft)
}

func TestTheHistoryNamesNoSession(t *testing.T) {
	s, _ := running(t)
	_, connect := served(t, s)
	attributes := map[string]string{"local-sessionid:context": "a-session", "context": "another"}
	_, err := connect().ControlClient().Solve(t.Context(), &controlapi.SolveRequest{Ref: identity.NewID(), Frontend: "unknown", FrontendAttrs: attributes})
	assert.Check(t, is.ErrorContains(err, "unknown"))
	records := listed(t, connect())
	if len(records) != 1 || records[0].FrontendAttrs["context"] != "another" || records[0].FrontendAttrs["local-sessionid:context"] == "a-session" {
		t.Errorf("the history has %v", records)
	}
	forget := s.sessionNames.hide(attributes, "of the build")
	if resolved := s.sessionNames.resolve(attributes, "of the build"); resolved["local-sessionid:context"] != "a-session" || attributes["local-sessionid:context"] == "a-session" {
		t.Errorf("resolved are %v of %v", resolved, attributes)
	}
	// Another build that says the name, which the history shows, has nothing by it, and one without a session neither.
	for _, other := range []string{"of another", ""} {
		said := maps.Clone(attributes)
		forgetOther := s.sessionNames.hide(said, other)
		for _, options := range []map[string]string{attributes, said} {
			if resolved := s.sessionNames.resolve(options, other); resolved["local-sessionid:context"] == "a-session" {
				t.Errorf("a build %q resolves %v", other, options)
			}
		}
		forgetOther()
	}
	forget()
	if len(s.sessionNames.ids) != 0 {
		t.Errorf("left are %v", s.sessionNames.ids)
	}
}

func TestASessionMoreGivesAClientNoMoreToDoAtOnce(t *testing.T) {
	s, backend := running(t)
	_, connect := served(t, s)
	under, goOn := make(chan string, 1000), make(chan struct{})
	backend.Before = func(procedure string) {
		if procedure == "LoadImage" || procedure == "InspectImage" {
			under <- procedure
			<-goOn
		}
	}
	solve := func(control controlapi.ControlClient, state llb.State) {
		definition, err := definitionOf(t.Context(), state)
		assert.Check(t, err)
		_, _ = control.Solve(t.Context(), &controlapi.SolveRequest{Ref: identity.NewID(), Session: identity.NewID(), Definition: definition})
	}
	control := connect().ControlClient()
	const sessions = 30
	for at := range sessions {
		go solve(control, llb.Scratch().File(llb.Mkfile(fmt.Sprint("/", at), 0o644, nil)))
		go solve(control, llb.Image(fmt.Sprint("docker.io/library/base:", at)))
	}
	defer close(goOn)
	counts := map[string]int{}
	// It counts until nothing has happened for a while after these have.
	count := func(wanted map[string]int) {
		for {
			most := 200 * time.Millisecond
			for procedure := range wanted {
				if counts[procedure] < wanted[procedure] {
					most = time.Minute
				}
			}
			select {
			case procedure := <-under:
				counts[procedure]++
			case <-time.After(most):
				return
			}
		}
	}
	all := map[string]int{"LoadImage": 8, "InspectImage": 4}
	count(all)
	assert.Check(t, is.DeepEqual(counts, all))
	other := connect().ControlClient()
	go solve(other, llb.Scratch().File(llb.Mkfile("/another client's", 0o644, nil)))
	all["LoadImage"]++
	count(all)
	assert.Check(t, is.DeepEqual(counts, all))
}

func TestASessionCannotBeNamedLikeAClient(t *testing.T) {
	s, backend := running(t)
	_, connect := served(t, s)
	under, goOn := make(chan struct{}, 1000), make(chan struct{})
	backend.Before = func(procedure string) {
		if procedure == "LoadImage" {
			under <- struct{}{}
			<-goOn
		}
	}
	var builds sync.WaitGroup
	defer builds.Wait()
	defer close(goOn)
	control := connect().ControlClient()
	file := func(name string) llb.State { return llb.Scratch().File(llb.Mkfile(name, 0o644, nil)) }
	build := func(name string) {
		definition, err := definitionOf(t.Context(), file(name))
		assert.NilError(t, err)
		builds.Go(func() {
			_, _ = control.Solve(context.Background(), &controlapi.SolveRequest{Ref: name, Session: identity.NewID(), Definition: definition})
		})
	}
	build("/first")
	<-under
	first, _ := s.owners.of.Value("/first")
	likeIt := fmt.Sprintf("%p", first.by)
	for at := range 7 {
		builds.Go(func() { _ = solvedState(context.Background(), s, likeIt, file(fmt.Sprint("/", at))) })
	}
	for range 7 {
		<-under
	}
	build("/second")
	select {
	case <-under:
	case <-time.After(10 * time.Second):
		t.Error("the client has no slot left")
	}
}
