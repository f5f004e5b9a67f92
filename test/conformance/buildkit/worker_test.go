// The worker that BuildKit's tests of Dockerfiles ask, in place of its own: the daemon of the cell by `/grpc`, or a new
// buildkitd for each test.
package dockerfile

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/moby/buildkit/client"
	dockerclient "github.com/moby/buildkit/util/testutil/dockerd/client"
	"github.com/moby/buildkit/util/testutil/integration"
	"github.com/moby/buildkit/util/testutil/workers"
)

func init() {
	os.Setenv("PATH", os.Getenv("BUILDKIT_PROGRAMS")+":"+os.Getenv("PATH"))
	if os.Getenv("CONFORMANCE_DAEMON") == "sockerless" {
		// Hosts' networks are granted to builds as by dockerd, which has no entitlement for them.
		os.Setenv("TEST_DOCKERD", "1")
		integration.Register(&daemon{})
	} else {
		integration.Register(&buildkitd{OCI: workers.OCI{ID: "cell"}, filled: map[string]bool{}})
	}
}

// buildkitd is BuildKit's own, with the cell's images in its mirror.
type buildkitd struct {
	workers.OCI
	mutex  sync.Mutex
	filled map[string]bool
}

var mirrorLine = regexp.MustCompile(`mirrors=\["([^"]+)"\]`)

func (b *buildkitd) New(ctx context.Context, config *integration.BackendConfig) (integration.Backend, func() error, error) {
	if err := b.fillMirror(config); err != nil {
		return nil, nil, err
	}
	return b.OCI.New(ctx, config)
}

// fillMirror pushes the images, once to each mirror: every group of tests has one of its own.
func (b *buildkitd) fillMirror(config *integration.BackendConfig) error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	for _, each := range config.DaemonConfig {
		text, _ := each.UpdateConfigFile("")
		found := mirrorLine.FindStringSubmatch(text)
		if found == nil || b.filled[found[1]] {
			continue
		}
		for image := range strings.FieldsSeq(os.Getenv("BUILDKIT_IMAGES")) {
			name := found[1] + "/library/" + image
			for _, args := range [][]string{{"tag", image, name}, {"push", "--quiet", name}} {
				if output, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
					return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, output)
				}
			}
		}
		b.filled[found[1]] = true
	}
	return nil
}

// daemon is one for all tests, which run one after the other: each begins with an empty cache.
type daemon struct {
	once    sync.Once
	address string
	err     error
}

func (d *daemon) Name() string        { return "cell" }
func (d *daemon) Rootless() bool      { return false }
func (d *daemon) NetNSDetached() bool { return false }
func (d *daemon) Close() error        { return nil }

func (d *daemon) New(ctx context.Context, _ *integration.BackendConfig) (integration.Backend, func() error, error) {
	d.once.Do(func() { d.address, d.err = serveControl(os.Getenv("DOCKER_HOST")) })
	if d.err != nil {
		return nil, nil, d.err
	}
	control, err := client.New(ctx, d.address)
	if err != nil {
		return nil, nil, err
	}
	defer control.Close()
	if err := control.Prune(ctx, nil, client.PruneAll); err != nil {
		return nil, nil, err
	}
	// Cache mounts are volumes.
	if output, err := exec.Command("docker", "volume", "prune", "--all", "--force").CombinedOutput(); err != nil {
		return nil, nil, fmt.Errorf("docker volume prune: %w: %s", err, output)
	}
	return backend{address: d.address}, func() error { return nil }, nil
}

// serveControl listens at an address whose connections are those of a daemon's `/grpc`.
func serveControl(host string) (string, error) {
	api, err := dockerclient.NewClientWithOpts(dockerclient.WithHost(host))
	if err != nil {
		return "", err
	}
	directory, err := os.MkdirTemp("", "control")
	if err != nil {
		return "", err
	}
	listener, err := net.Listen("unix", filepath.Join(directory, "socket"))
	if err != nil {
		return "", err
	}
	go func() {
		for {
			ours, err := listener.Accept()
			if err != nil {
				return
			}
			theirs, err := api.DialHijack(context.Background(), "/grpc", "h2c", nil)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				ours.Close()
				continue
			}
			go func() { io.Copy(ours, theirs); ours.Close() }()
			go func() { io.Copy(theirs, ours); theirs.Close() }()
		}
	}()
	return "unix://" + listener.Addr().String(), nil
}

type backend struct {
	address string
}

func (b backend) Address() string           { return b.address }
func (b backend) DockerAddress() string     { return "" }
func (b backend) ContainerdAddress() string { return "" }
func (b backend) DebugAddress() string      { return "" }
func (b backend) Rootless() bool            { return false }
func (b backend) NetNSDetached() bool       { return false }
func (b backend) Snapshotter() string       { return "" }
func (b backend) ExtraEnv() []string        { return nil }

func (b backend) Supports(feature string) bool {
	return !slices.Contains(strings.Fields(os.Getenv("BUILDKIT_UNSUPPORTED")), feature)
}
