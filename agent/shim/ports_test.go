package shim_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"

	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// newNamespace creates a network namespace with its loopback, like the host
// process, and returns its path.
func newNamespace(t testing.TB) string {
	t.Helper()
	needRuntime(t)
	name := filepath.Join(t.TempDir(), "netns")
	must(t, os.WriteFile(name, nil, 0o600))
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = exec.Command("/bin/busybox", "ifconfig", "lo", "up").Run() // forked from this thread
		}
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", name, "", unix.MS_BIND, "")
		}
		made <- err
	}()
	must(t, <-made)
	t.Cleanup(func() { must(t, unix.Unmount(name, unix.MNT_DETACH)) })
	return name
}

func publishing(namespace string, ports ...shimspec.PublishedPort) func(*spec) {
	return func(s *spec) {
		s.NetworkNamespace = namespace
		s.Ports = ports
	}
}

func (c *container) bound(protocol, hostIP string) shimspec.BoundPort {
	c.t.Helper()
	for _, port := range c.ready.BoundPorts {
		if port.Protocol == protocol && port.HostIP == hostIP {
			return port
		}
	}
	c.t.Fatalf("not bound: %s %s in %v", protocol, hostIP, c.ready.BoundPorts)
	return shimspec.BoundPort{}
}

func TestAPortIsFreeOnceTheEndIsReported(t *testing.T) {
	namespace := newNamespace(t)
	var port uint32 // any at first, then always the same
	for range 10 {
		c := launch(t, launchOptions{
			args: sh("exit 3"),
			spec: publishing(namespace, shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, ContainerPort: 80}),
		})
		port = c.bound("tcp", "127.0.0.1").HostPort
		events := c.watch()
		c.mustRun()
		await(t, events, exitedEvent)
	}
}

func address(ip string, port uint32) string { return net.JoinHostPort(ip, itoa(int(port))) }

func TestAPublishedTCPPortKeepsHalfCloses(t *testing.T) {
	namespace := newNamespace(t)
	c := launch(t, launchOptions{
		args: sleeper,
		spec: publishing(namespace, shimspec.PublishedPort{Protocol: "tcp", ContainerPort: 80}),
	})
	four, six := c.bound("tcp", "0.0.0.0"), c.bound("tcp", "::")
	if four.HostPort == 0 || four.HostPort != six.HostPort || four.ContainerPort != 80 {
		t.Fatalf("bound %v", c.ready.BoundPorts)
	}
	countInNamespace(t, namespace, 80)
	// A connection before the start waits for it.
	early, err := net.Dial("tcp", address("127.0.0.1", four.HostPort))
	must(t, err)
	c.mustRun()
	late, err := net.Dial("tcp", address("::1", four.HostPort))
	must(t, err)
	for _, conn := range []net.Conn{early, late} {
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(limit)))
		must(t, second(conn.Write(bytes.Repeat([]byte("x"), 1_000_000))))
		must(t, conn.(*net.TCPConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		must(t, err)
		assert.Assert(t, string(answer) == "1000000 bytes", "answer %q", answer)
	}
}

// openInNamespace opens a socket there; the socket stays there.
func openInNamespace[S io.Closer](t testing.TB, namespace string, open func() (S, error)) S {
	t.Helper()
	var socket S
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with this goroutine
		file, err := os.Open(namespace)
		if err == nil {
			defer file.Close()
			err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			socket, err = open()
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { socket.Close() })
	return socket
}

// countInNamespace sends each connection, after the sender's half-close, the
// number of received bytes.
func countInNamespace(t testing.TB, namespace string, port int) {
	t.Helper()
	listener := openInNamespace(t, namespace, func() (net.Listener, error) { return net.Listen("tcp4", address("0.0.0.0", uint32(port))) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // one that waits for its bytes does not hold up the next
				n, _ := io.Copy(io.Discard, conn)
				fmt.Fprintf(conn, "%d bytes", n)
				conn.Close()
			}()
		}
	}()
}

// echoInNamespace replies to each datagram on a port there with its content and
// its sender's number.
func echoInNamespace(t testing.TB, namespace string, port int) {
	t.Helper()
	socket := openInNamespace(t, namespace, func() (*net.UDPConn, error) { return net.ListenUDP("udp4", &net.UDPAddr{Port: port}) })
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, from, err := socket.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			socket.WriteToUDPAddrPort(fmt.Appendf(nil, "%s from %d", buffer[:n], from.Port()), from)
		}
	}()
}

func TestAPublishedUDPPortAnswersEachClient(t *testing.T) {
	namespace := newNamespace(t)
	c := launch(t, launchOptions{
		args: sleeper,
		spec: publishing(namespace, shimspec.PublishedPort{Protocol: "udp", ContainerPort: 53}),
	})
	echoInNamespace(t, namespace, 53)
	c.mustRun()
	port := c.bound("udp", "0.0.0.0")
	seen := map[string]bool{}
	// 127.0.0.2 is the machine too: replies must come from there, or a connected
	// socket discards them.
	for _, ip := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		conn, err := net.Dial("udp", address(ip, port.HostPort))
		must(t, err)
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(limit)))
		for range 3 {
			must(t, second(conn.Write([]byte("ping "+ip))))
			answer := make([]byte, 100)
			n, err := conn.Read(answer)
			must(t, err)
			if !bytes.HasPrefix(answer[:n], []byte("ping "+ip+" from ")) {
				t.Fatalf("answer %q", answer[:n])
			}
			seen[string(answer[:n])] = true
		}
	}
	assert.Assert(t, is.Len(seen, 3), "three clients became")
}

func TestAPortThatIsTakenFailsTheLaunchInDockersWords(t *testing.T) {
	needRuntime(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	port := uint32(taken.Addr().(*net.TCPAddr).Port)
	c := start(t, launchOptions{args: sleeper, spec: publishing("",
		shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, ContainerPort: 80})})
	want := "Bind for 127.0.0.1:" + itoa(int(port)) + " failed: port is already allocated"
	if c.ready.Error == nil || c.ready.Error.Code != "resource_exhausted" || c.ready.Error.Message != want {
		t.Fatalf("readiness %+v", c.ready.Error)
	}
	<-c.dead
	if _, err := os.Stat(c.spec.ReadyRecord); !os.IsNotExist(err) {
		t.Fatal("a refused launch left a readiness record")
	}
}

func TestARangeGivesItsFirstFreePort(t *testing.T) {
	needRuntime(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer taken.Close()
	port := uint32(taken.Addr().(*net.TCPAddr).Port)
	c := launch(t, launchOptions{args: sleeper, spec: publishing("",
		shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: port, HostPortEnd: port + 20, ContainerPort: 80})})
	if got := c.bound("tcp", "127.0.0.1").HostPort; got <= port || got > port+20 {
		t.Fatalf("bound %d", got)
	}
}

func TestPortsAreFreeOnceTheContainerHasEnded(t *testing.T) {
	c := launch(t, launchOptions{args: sh("exit 0"), spec: publishing("",
		shimspec.PublishedPort{Protocol: "tcp", HostIP: "127.0.0.1", ContainerPort: 80})})
	port := c.bound("tcp", "127.0.0.1").HostPort
	c.mustRun()
	eventually(t, "the port is free", func() bool {
		listener, err := net.Listen("tcp", address("127.0.0.1", port))
		if err == nil {
			listener.Close()
		}
		return err == nil
	})
}

func TestADockerSocketLeadsToTheFrontendOfTheMoment(t *testing.T) {
	needRuntime(t)
	dir := t.TempDir()
	frontend := filepath.Join(dir, "frontend.sock")
	// Replies with the received data after the client's half-close.
	serve := func() net.Listener {
		listener, err := net.Listen("unix", frontend)
		must(t, err)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				got, _ := io.ReadAll(conn)
				conn.Write(append([]byte("got "), got...))
				conn.Close()
			}
		}()
		return listener
	}
	listen := filepath.Join(dir, "docker.sock")
	serving := serve()
	c := launch(t, launchOptions{args: sleeper, spec: func(s *spec) {
		s.DockerSockets = []shimspec.DockerSocket{{Listen: listen, Forward: frontend}}
	}, config: func(config map[string]any) {
		mount := map[string]any{"destination": "/dev/docker.sock", "type": "bind", "source": listen, "options": []string{"bind"}}
		config["mounts"] = append(config["mounts"].([]map[string]any), mount)
	}})
	c.mustRun()
	info, err := os.Stat(listen)
	must(t, err)
	if info.Mode().Perm() != 0o660 {
		t.Fatalf("mode %v", info.Mode())
	}
	for range 2 {
		conn, err := net.Dial("unix", listen)
		must(t, err)
		conn.Write([]byte("hello"))
		must(t, conn.(*net.UnixConn).CloseWrite())
		answer, err := io.ReadAll(conn)
		must(t, err)
		assert.Assert(t, string(answer) == "got hello", "answer %q", answer)
		serving.Close() // another frontend takes over
		serving = serve()
	}
	serving.Close()
	s := c.exec("e", &agentv1.ProcessSpec{Args: sh("test -S /dev/docker.sock")}).finish()
	s.expectExit(0)
}
