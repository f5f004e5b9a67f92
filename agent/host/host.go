// Package host is `sockerless-agent host`: it does the privileged work of one
// machine for the local backend (HostService on R/host.sock), and serves the logs
// and files of stopped containers (AgentService on R/stored.sock).
//
// It lives as long as the process that started it, and leaves when its standard
// input ends. Shims stay. It keeps no state that is lost with it.
package host

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/descriptors"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
)

// Options of the host process.
type Options struct {
	StateDir  string
	RunDir    string // empty: /run/sockerless/<tag>
	AgentPath string // executable that shims are started from
	Runtime   string // OCI runtime, a name or a path; empty: the first that works
	// BlockVolumeSize is the bytes of a block volume that is made without a size.
	BlockVolumeSize int64
}

// Main is `sockerless-agent host`. It returns the process's exit code.
func Main(arguments []string) int {
	var options Options
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	flags.StringVar(&options.StateDir, "state-dir", "", "directory of what must survive a reboot")
	flags.StringVar(&options.RunDir, "run-dir", "", "directory of sockets (default /run/sockerless/<8 hex of the state directory's digest>)")
	flags.StringVar(&options.AgentPath, "agent-path", "/proc/self/exe", "executable that shims are started from")
	flags.StringVar(&options.Runtime, "runtime", "", "OCI runtime, by name or path (default: the first of runc and crun that works)")
	flags.Int64Var(&options.BlockVolumeSize, "block-volume-size", 10<<30, "bytes of a block volume that is made without a size")
	if err := flags.Parse(arguments); err != nil {
		return 2
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	// The backend's database is among them, and no child of this process may have
	// it.
	if err := descriptors.CloseInherited(); err != nil {
		slog.Error("the host process failed", "error", err)
		return 1
	}
	if err := allowThreads(); err != nil {
		slog.Warn("the machine's number of threads is not known", "error", err)
	}
	// Caught instead of ignored, since children inherit ignored signals.
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the process that started this one
		leave()
	}()
	if err := Run(ctx, options); err != nil {
		slog.Error("the host process failed", "error", err)
		return 1
	}
	return 0
}

// defaultThreads is how many threads Go lets a process have: with more it dies.
const defaultThreads = 10_000

// allowThreads lets this process have nine tenths of the machine's threads: each mount
// from a server that is away holds one for minutes.
func allowThreads() error {
	most := math.MaxInt
	for _, limit := range []string{"threads-max", "pid_max"} {
		content, err := os.ReadFile("/proc/sys/kernel/" + limit)
		if err != nil {
			return err
		}
		number, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil {
			return err
		}
		most = min(most, number)
	}
	debug.SetMaxThreads(max(defaultThreads, most/10*9))
	return nil
}

// maxSocketPath is the size of a unix socket's address, final zero included.
const maxSocketPath = 108

// layout creates the directories and returns their real paths.
func (o Options) layout() (layout shimspec.Layout, err error) {
	if o.StateDir == "" {
		return layout, errors.New("--state-dir is missing")
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return layout, err
	}
	if layout.StateDir, err = realPath(o.StateDir); err != nil {
		return layout, err
	}
	if o.RunDir == "" {
		o.RunDir = filepath.Join("/run/sockerless", layout.Tag())
	}
	if err := os.MkdirAll(o.RunDir, 0o700); err != nil {
		return layout, err
	}
	if layout.RunDir, err = realPath(o.RunDir); err != nil {
		return layout, err
	}
	longest := layout.Container("0000000000000000").AgentSocket()
	if len(longest) >= maxSocketPath {
		return layout, fmt.Errorf("the run directory's path is too long by %d characters for sockets in it", len(longest)-maxSocketPath+1)
	}
	return layout, nil
}

func realPath(path string) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(absolute)
}
