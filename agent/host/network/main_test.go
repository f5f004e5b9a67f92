package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

// TestMain runs the tests in their own network namespace, isolated from the
// machine.
func TestMain(m *testing.M) {
	const marker = "SOCKERLESS_TEST_NETNS"
	if os.Geteuid() != 0 {
		fmt.Println("network tests need root")
		os.Exit(0)
	}
	if os.Getenv(marker) == "" {
		inside := exec.Command("/proc/self/exe", os.Args[1:]...)
		inside.Env = append(os.Environ(), marker+"=1")
		inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
		inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
		err := inside.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode())
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// lab is an instance, its bridges and containers' namespaces, and a namespace
// that represents the outside world: 10.214.9.2, behind our 10.214.9.1.
type lab struct {
	*Instance
	t   testing.TB
	dir string
}

const outsideAddress, machineAddress = "10.214.9.2", "10.214.9.1"

func newLab(t testing.TB) *lab {
	t.Helper()
	dir := t.TempDir()
	instance, err := NewInstance("0123abcd", filepath.Join(dir, "netns"))
	assert.NilError(t, err)
	l := &lab{instance, t, dir}
	t.Cleanup(l.wantNothingLeft)
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) outside() string {
	l.t.Helper()
	path := filepath.Join(l.dir, "outside")
	l.must(createNamespace(path, prepareNamespace))
	file, err := os.Open(path)
	l.must(err)
	defer file.Close()
	attributes := netlink.NewLinkAttrs()
	attributes.Name = "uplink"
	link := &netlink.Veth{LinkAttrs: attributes, PeerName: "eth0", PeerNamespace: netlink.NsFd(file.Fd())}
	l.must(netlink.LinkAdd(link))
	l.t.Cleanup(func() {
		l.must(netlink.LinkDel(link))
		l.must(deleteNamespace(path))
	})
	address, _ := netlink.ParseAddr(machineAddress + "/24")
	l.must(netlink.AddrAdd(link, address))
	l.must(netlink.LinkSetUp(link))
	l.must(onThreadIn(int(file.Fd()), func(handle *netlink.Handle) error {
		_, subnet, _ := net.ParseCIDR("10.214.9.0/24")
		inside, err := handle.LinkByName("eth0")
		if err != nil {
			return err
		}
		return configure(handle, inside, leg{
			name: "eth0", address: &net.IPNet{IP: net.ParseIP(outsideAddress), Mask: subnet.Mask}, gateway: net.ParseIP(machineAddress),
		})
	}))
	return path
}

func (l *lab) bridge(bridge Bridge) {
	l.t.Helper()
	l.must(l.Ensure(bridge))
	l.t.Cleanup(func() { l.must(l.Remove(bridge.Name)) })
}

// container makes a namespace on a bridge whose gateway ends in .1.
func (l *lab) container(name, bridge, address string) string {
	l.t.Helper()
	ip := net.ParseIP(address).To4()
	gateway := net.IPv4(ip[0], ip[1], ip[2], 1).String()
	namespace := Namespace{
		ContainerID: name, Generation: 1, Path: filepath.Join(l.netnsDir, name),
		Interfaces: []Interface{{Bridge: bridge, Address: address + "/24", Gateway: gateway}},
	}
	l.must(l.Create(namespace))
	l.t.Cleanup(func() { l.must(l.Delete(name, 1, namespace.Path)) })
	return namespace.Path
}

// listen sends each connection in the namespace its peer's address.
func (l *lab) listen(path, address string) string {
	l.t.Helper()
	var listener net.Listener
	l.in(path, func() (err error) {
		listener, err = net.Listen("tcp", address+":0")
		return err
	})
	l.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			io.WriteString(conn, host)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

func (l *lab) in(path string, work func() error) {
	l.t.Helper()
	file, err := os.Open(path)
	l.must(err)
	defer file.Close()
	l.must(onThreadIn(int(file.Fd()), func(*netlink.Handle) error { return work() }))
}

// patience covers the kernel's second attempt, one second after the first: a
// bridge port forwards packets only a moment after it has come up.
const patience = 2500 * time.Millisecond

// limit is far longer than a way takes to open on a machine that does other work.
const limit = 2 * time.Minute

// dial returns our address as the listener sees it, once there is a way to it.
func (l *lab) dial(path, address string) string {
	l.t.Helper()
	for deadline := time.Now().Add(limit); ; {
		if seen := l.dialOnce(path, address); seen != "" || time.Now().After(deadline) {
			return seen
		}
	}
}

// dialOnce returns our address as the listener sees it, or "" if nothing comes
// back in time.
func (l *lab) dialOnce(path, address string) (seen string) {
	l.t.Helper()
	l.in(path, func() error {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return nil
		}
		defer conn.Close()
		content, _ := io.ReadAll(conn)
		seen = string(content)
		return nil
	})
	return seen
}

func (l *lab) wantNothingLeft() {
	links, err := netlink.LinkList()
	l.must(err)
	for _, link := range links {
		if link.Attrs().Index != 1 {
			l.t.Errorf("a link is left: %s", link.Attrs().Name)
		}
	}
	if rules := nft(l.t, "list", "ruleset"); rules != "" {
		l.t.Errorf("rules are left: %s", rules)
	}
	if left, _ := os.ReadDir(l.netnsDir); len(left) > 0 {
		l.t.Errorf("namespaces are left: %v", left)
	}
}

func nft(t testing.TB, arguments ...string) string {
	t.Helper()
	output, err := exec.Command("nft", arguments...).CombinedOutput()
	assert.NilError(t, err, "nft %v: %s", arguments, output)
	return string(output)
}
