package worker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/executor"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/bklog"
	pkgerrors "github.com/pkg/errors"

	"github.com/sockerless/sockerless/builder/backend"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// frontends runs the containers of external frontends, which communicate with the builder through their standard
// streams.
type frontends struct{ *Worker }

var _ executor.Executor = frontends{}

// errExec refuses requests that only debuggers and few frontends make.
var errExec = errors.New("sockerless: further processes in a container of a frontend are not implemented by the builder")

func (frontends) Exec(context.Context, string, executor.ProcessInfo) error { return errExec }

// Run runs a process in a container of the backend, made from a state; its changes are discarded.
func (f frontends) Run(ctx context.Context, _ string, root executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (_ resourcestypes.Recorder, err error) {
	defer Recovered(&err)
	if process.Meta.Tty {
		return nil, errors.New("sockerless: a terminal in a container of a frontend is not implemented by the builder")
	}
	image, session, release, err := f.imageOf(ctx, root)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, release(context.WithoutCancel(ctx))) }()
	leave, err := f.talking.take(ctx, session)
	if err != nil {
		return nil, err
	}
	defer leave()
	// A client opens only the streams that it uses; the others are nil.
	if process.Stdin == nil {
		process.Stdin = io.NopCloser(strings.NewReader(""))
	}
	for _, each := range []*io.WriteCloser{&process.Stdout, &process.Stderr} {
		if *each == nil {
			*each = &beginning{}
		}
	}
	if process.Stderr == os.Stderr {
		printed := &beginning{limit: maxPrinted}
		process.Stderr = printed
		defer func() {
			if text := printed.kept.String(); text != "" {
				bklog.G(ctx).WithField("image", image).Warnf("a frontend in an image printed: %s", text)
			}
		}()
	}
	files, err := filesOf(ctx, mounts)
	if err != nil {
		return nil, err
	}
	config, host := configOf(process.Meta)
	config.Image = image
	// Stops copying input that the container no longer reads.
	defer process.Stdin.Close()
	stdio := backend.Stdio{Stdin: process.Stdin, Stdout: process.Stdout, Stderr: process.Stderr}
	code, err := f.backend.RunAttached(ctx, config, host, backend.Secrets{Files: files}, stdio, func() {
		if started != nil {
			close(started)
		}
	}, func(id string) { f.removeBehind([]string{session}, id) })
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	command := strings.Join(process.Meta.Args, " ")
	if err != nil {
		return nil, pkgerrors.Wrapf(backend.Plain(err), "process %q did not complete successfully", command)
	}
	if code != 0 {
		return nil, pkgerrors.Wrapf(&gatewaypb.ExitError{ExitCode: uint32(code)}, "process %q did not complete successfully", command)
	}
	return nil, nil
}

// maxPrinted bounds what is logged of a frontend's errors: it comes from an image.
const maxPrinted = 16 << 10

// beginning keeps what is written first.
type beginning struct {
	kept  bytes.Buffer
	limit int
}

func (b *beginning) Write(data []byte) (int, error) {
	b.kept.Write(data[:min(len(data), b.limit-b.kept.Len())])
	return len(data), nil
}

func (b *beginning) Close() error { return nil }

func configOf(meta executor.Meta) (*backendv1.ContainerConfig, *backendv1.HostConfig) {
	config := &backendv1.ContainerConfig{
		User: meta.User, WorkingDir: meta.Cwd, Hostname: cmp.Or(meta.Hostname, defaultHostname), Env: meta.Env,
		Entrypoint:  &backendv1.StringList{Values: meta.Args[:1]},
		Cmd:         &backendv1.StringList{Values: meta.Args[1:]},
		Healthcheck: &backendv1.HealthConfig{Test: []string{"NONE"}},
	}
	host := &backendv1.HostConfig{ReadonlyRootfs: meta.ReadonlyRootFS, Resources: resourcesOf(meta.LinuxResources, meta.Ulimit, meta.CgroupParent)}
	switch meta.NetMode {
	case pb.NetMode_NONE:
		host.NetworkMode = "none"
	case pb.NetMode_HOST:
		host.NetworkMode = "host"
	}
	for _, each := range meta.ExtraHosts {
		host.ExtraHosts = append(host.ExtraHosts, extraHost(each.Host, each.IP.String()))
	}
	return config, host
}

// imageOf returns the image of the container's initial state, the build's session, and a function that releases the image.
func (f frontends) imageOf(ctx context.Context, root executor.Mount) (image, session string, release func(context.Context) error, err error) {
	mounted, err := root.Src.Mount(ctx, false)
	if err != nil {
		return "", "", nil, err
	}
	on, ok := mounted.(skeletonOf)
	if !ok {
		return "", "", nil, fmt.Errorf("sockerless: a container of a frontend on a %T is not implemented by the builder", mounted)
	}
	session = SessionsOf(on.group)[0]
	if on.base != nil {
		return on.base.id, session, func(context.Context) error { return nil }, nil
	}
	empty, err := f.states.install(ctx, nil, nil, origin{description: "scratch", kind: client.UsageRecordTypeInternal})
	if err != nil {
		return "", "", nil, err
	}
	scratch := f.stateRef(empty)
	return scratch.id, session, scratch.Release, nil
}

// maxMounted bounds the size of files given to a container.
const maxMounted = 1 << 20

// filesOf reads the directories of this machine that BuildKit mounts into containers of frontends, which describe the
// build. Mounts of states are refused.
func filesOf(ctx context.Context, mounts []executor.Mount) ([]*backendv1.SecretFile, error) {
	var files []*backendv1.SecretFile
	for _, each := range mounts {
		mounted, err := each.Src.Mount(ctx, true)
		if err != nil {
			return nil, err
		}
		switch mounted.(type) {
		case directory, skeletonOf:
			return nil, fmt.Errorf("sockerless: the mount at %s of a frontend's container is not implemented by the builder", each.Dest)
		}
		specs, release, err := mounted.Mount()
		if err != nil {
			return nil, err
		}
		for _, spec := range specs {
			read, err := filesBeneath(spec.Source, each.Dest)
			if err != nil {
				return nil, errors.Join(err, release())
			}
			files = append(files, read...)
		}
		if err := release(); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func filesBeneath(source, dest string) ([]*backendv1.SecretFile, error) {
	var files []*backendv1.SecretFile
	err := filepath.WalkDir(source, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > maxMounted {
			return fmt.Errorf("sockerless: %s: only small files are shown to a container of a frontend", name)
		}
		content, err := os.ReadFile(name)
		files = append(files, &backendv1.SecretFile{
			Path: path.Join(dest, strings.TrimPrefix(name, source)), Content: content, Mode: uint32(info.Mode().Perm()),
		})
		return err
	})
	return files, err
}
