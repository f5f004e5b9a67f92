package worker

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// silentAgent never answers. It tells how many connections it has, and had at once.
type silentAgent struct {
	sshforward.UnimplementedSSHServer
	begun chan struct{}

	mu        sync.Mutex
	now, most int
}

func (a *silentAgent) ForwardAgent(stream grpc.BidiStreamingServer[sshforward.BytesMessage, sshforward.BytesMessage]) error {
	a.count(1)
	a.begun <- struct{}{}
	for {
		if _, err := stream.Recv(); err != nil {
			a.count(-1)
			return nil
		}
	}
}

func (a *silentAgent) count(more int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now += more
	a.most = max(a.most, a.now)
}

// clientOfAgent is a client's session with an SSH agent.
type clientOfAgent struct {
	session.Caller
	conn *grpc.ClientConn
}

func (clientOfAgent) Context(ctx context.Context) context.Context { return ctx }
func (c clientOfAgent) Conn() *grpc.ClientConn                    { return c.conn }

func serveAgent(t *testing.T) (*silentAgent, clientOfAgent) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	must(t, err)
	agent, server := &silentAgent{begun: make(chan struct{}, 1000)}, grpc.NewServer()
	sshforward.RegisterSSHServer(server, agent)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return agent, clientOfAgent{conn: conn}
}

func TestAStepHasABoundedNumberOfConnectionsToAnAgent(t *testing.T) {
	const tried = 3 * maxSSHConnections
	agent, client := serveAgent(t)
	w, _ := workerOf(t)
	socket, err := w.forwardSSH(t.Context(), client, "default", &pb.SSHOpt{Mode: 0o600})
	must(t, err)
	var opened []net.Conn
	for range tried {
		conn, err := net.Dial("unix", socket.path)
		must(t, err)
		opened = append(opened, conn)
	}
	for range maxSSHConnections {
		<-agent.begun
	}
	// Each that is closed lets the next in.
	for at, conn := range opened {
		must(t, conn.Close())
		if at < tried-maxSSHConnections {
			<-agent.begun
		}
	}
	must(t, socket.close())
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if agent.most > maxSSHConnections {
		t.Errorf("%d connections at once", agent.most)
	}
	// Those that have ended count no longer.
	must(t, agentConnections.Acquire(t.Context(), maxAgentConnections))
	agentConnections.Release(maxAgentConnections)
}

func TestConnectionsInContainersCountAmongThoseOfAllSteps(t *testing.T) {
	agent, client := serveAgent(t)
	must(t, agentConnections.Acquire(t.Context(), maxAgentConnections-1))
	ctx, stop := context.WithCancel(t.Context())
	accepted, ended := make(chan net.Conn), make(chan struct{})
	go func() {
		defer close(ended)
		sshAgent{client: client}.forward(ctx, func() (io.ReadWriteCloser, error) {
			here, there := net.Pipe()
			select {
			case accepted <- there:
				return here, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	}()
	first := <-accepted
	<-agent.begun
	<-accepted // and waits for the first one's place
	select {
	case <-accepted:
		t.Error("a third is accepted")
	case <-agent.begun:
		t.Error("the second is forwarded")
	case <-time.After(50 * time.Millisecond):
	}
	must(t, first.Close())
	<-agent.begun
	stop()
	<-ended
	agentConnections.Release(maxAgentConnections - 1)
	must(t, agentConnections.Acquire(context.Background(), maxAgentConnections))
	agentConnections.Release(maxAgentConnections)
}

// scarce is a listener that has no descriptor at first.
type scarce struct {
	net.Listener
	failed bool
}

func (s *scarce) Accept() (net.Conn, error) {
	if !s.failed {
		s.failed = true
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

func TestAnAgentsSocketOutlivesALackOfDescriptors(t *testing.T) {
	agent, client := serveAgent(t)
	path := filepath.Join(t.TempDir(), "agent")
	listener, err := net.Listen("unix", path)
	must(t, err)
	ctx, cut := context.WithCancel(t.Context())
	socket := &agentSocket{path: path, listener: &scarce{Listener: listener}, cut: cut, ended: make(chan struct{})}
	go socket.serve(ctx, client, "default")
	conn, err := net.Dial("unix", path)
	must(t, err)
	defer conn.Close()
	select {
	case <-agent.begun:
	case <-socket.ended:
		t.Error("the socket has ended")
	}
	must(t, socket.close())
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection at the end: %v", err)
	}
}
