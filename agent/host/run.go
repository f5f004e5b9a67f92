package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/anybytes"
	"github.com/sockerless/sockerless/agent/core/errortext"
	"github.com/sockerless/sockerless/agent/core/filelock"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/host/containers"
	"github.com/sockerless/sockerless/agent/host/disk"
	"github.com/sockerless/sockerless/agent/host/jsonfile"
	"github.com/sockerless/sockerless/agent/host/layers"
	"github.com/sockerless/sockerless/agent/host/network"
	"github.com/sockerless/sockerless/agent/host/ociruntime"
	"github.com/sockerless/sockerless/agent/host/trash"
	"github.com/sockerless/sockerless/agent/host/userpaths"
	"github.com/sockerless/sockerless/agent/host/volumes"
	"github.com/sockerless/sockerless/agent/host/volumes/block"
	"github.com/sockerless/sockerless/agent/host/volumes/driver"
	"github.com/sockerless/sockerless/agent/host/volumes/local"
	"github.com/sockerless/sockerless/agent/host/volumes/tmpfs"
	shimspec "github.com/sockerless/sockerless/agent/shim/spec"
	"github.com/sockerless/sockerless/proto/gen/sockerless/host/v1/hostv1connect"
)

const (
	// maxMessage bounds a request: an OCI configuration with its seccomp list, and up to
	// 16 MiB of secrets.
	maxMessage = 32 << 20
	// lockPatience bounds the wait for a predecessor's exit.
	lockPatience = 10 * time.Second
	// unreadLimit is how long files that a client does not read keep others from theirs.
	// It covers the largest step in which progress is visible, at 4 KiB/s: a call's
	// HTTP/2 window opens by a MiB.
	unreadLimit = 5 * time.Minute
	// farewell bounds the wait for pending calls at our exit.
	farewell = 5 * time.Second
)

// Run serves until ctx is done.
func Run(ctx context.Context, options Options) error {
	unix.Umask(0o022)
	layout, err := options.layout()
	if err != nil {
		return err
	}
	release, err := claimInstance(ctx, layout)
	if err != nil {
		return err
	}
	defer release()
	instance, err := assemble(ctx, options, layout)
	if err != nil {
		return err
	}
	defer instance.close()
	if err := instance.containers.RequireHere(); err != nil {
		return err
	}
	if err := instance.containers.Reclaim(ctx); err != nil {
		// Leftovers of earlier containers must not prevent serving.
		slog.Error("something orphaned is left", "error", err)
	}
	return instance.serve(ctx, layout)
}

// claimInstance ensures that only one host process works on a run directory. A
// predecessor whose backend has died may still be exiting.
func claimInstance(ctx context.Context, layout shimspec.Layout) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(layout.RunDir, "host.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeoutCause(ctx, lockPatience, unix.EWOULDBLOCK)
	defer cancel()
	err = filelock.Lock(patience, lock)
	switch {
	case err == nil:
		return func() { lock.Close() }, nil
	case ctx.Err() != nil:
		return nil, errors.Join(context.Cause(ctx), lock.Close())
	default:
		return nil, errors.Join(fmt.Errorf("another host process works on %s: %w", layout.RunDir, err), lock.Close())
	}
}

// instance holds the parts of the host process.
type instance struct {
	service
	trash *trash.Can
}

func assemble(ctx context.Context, options Options, layout shimspec.Layout) (*instance, error) {
	i := &instance{}
	i.paths, i.layerMeter, i.volumeMeter = userpaths.New(), disk.NewMeter(), disk.NewMeter()
	i.storedSocket = layout.StoredSocket()
	var err error
	if i.network, err = network.NewInstance(layout.Tag(), layout.NetworkNamespaces()); err != nil {
		return nil, err
	}
	if i.trash, err = trash.Open(filepath.Join(layout.StateDir, "trash")); err != nil {
		return nil, err
	}
	if i.layers, err = layers.Open(filepath.Join(layout.StateDir, "layers"), i.trash); err != nil {
		i.trash.Close()
		return nil, err
	}
	i.runtime = startProbe(ctx, func(ctx context.Context) (ociruntime.Probed, error) {
		wanted := ociruntime.Wanted{Name: options.Runtime, Root: layout.RuntimeRoot(), Scratch: layout.RunDir, CgroupOf: layout.Cgroup}
		return wanted.Probe(ctx, options.AgentPath, "version")
	})
	if i.volumes, err = volumes.Open(volumes.Options{
		Dir: filepath.Join(layout.StateDir, "volumes"), RunDir: layout.RunDir, Trash: i.trash, UserPaths: i.paths,
		Drivers: []driver.Driver{local.Driver{}, block.Driver{DefaultSize: options.BlockVolumeSize}, tmpfs.Driver{}},
	}); err == nil {
		i.containers, err = containers.New(containers.Options{
			Layout: layout, Layers: i.layers, Network: i.network, Trash: i.trash, Volumes: i.volumes,
			UserPaths: i.paths, AgentPath: options.AgentPath, Runtime: i.runtime.runtime,
		})
	}
	if err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

func (i *instance) close() {
	i.runtime.end()
	i.layers.Close()
	i.trash.Close()
	jsonfile.Settle()
}

// serve serves on both sockets until ctx is done, then lets calls finish.
func (i *instance) serve(ctx context.Context, layout shimspec.Layout) error {
	hostServer := server.NewServer(i.handler(), slog.Default())
	offers := handover.NewOffers(layout.HandOverSocket(), slog.Default())
	defer func() {
		offers.Close()
		// Ours, or that of a killed predecessor: a successor waits for our lock.
		_ = os.Remove(layout.HandOverSocket())
	}()
	stored := server.NewGateOfFiles(unreadLimit).Wrap(server.NewHandler(resolveStored(i.containers, i.layers, offers)))
	storedServer := server.ForLocal(server.NewServer(stored, slog.Default()))
	failed := make(chan error, 2)
	for socket, s := range map[string]*http.Server{layout.StoredSocket(): storedServer, layout.HostSocket(): hostServer} {
		listener, err := listenPrivately(socket)
		if err != nil {
			return errors.Join(err, hostServer.Close(), storedServer.Close())
		}
		go func() { failed <- s.Serve(listener) }()
	}
	memory.GiveBackSoon()
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	for _, s := range []*http.Server{hostServer, storedServer} {
		if s.Shutdown(limit) != nil {
			_ = s.Close()
		}
	}
	return err
}

func (i *instance) handler() http.Handler {
	options := []connect.HandlerOption{connect.WithReadMaxBytes(maxMessage), errortext.Option(), anybytes.Option(), connect.WithCompression("gzip", nil, nil)}
	mux := http.NewServeMux()
	mux.Handle(hostv1connect.NewHostServiceHandler(&i.service, options...))
	mux.Handle(grpchealth.NewHandler(grpchealth.NewStaticChecker(hostv1connect.HostServiceName), options...))
	return mux
}

// listenPrivately creates a socket to which only our own user may connect. It
// replaces an earlier process's socket: the instance is ours.
func listenPrivately(socket string) (net.Listener, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	// Nobody else may write to the directory, so nobody can have connected
	// before.
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}
