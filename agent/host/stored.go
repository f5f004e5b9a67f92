package host

import (
	"context"
	"errors"
	"io"
	"os"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/log"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/core/version"
	"github.com/sockerless/sockerless/agent/host/containers"
	"github.com/sockerless/sockerless/agent/host/layers"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// stored is the agent of a stopped container: it serves its log and files.
type stored struct {
	server.Unimplemented
	containers *containers.Containers
	id         string
	offers     *handover.Offers
}

// LogHandOvers accepts clients' connections.
func (s *stored) LogHandOvers() *handover.Offers { return s.offers }

// resolveStored returns the upload, image archive or container that the call's
// metadata key names. Uploads and archives accept clients' connections for
// everything, a container only for its log.
func resolveStored(all *containers.Containers, images *layers.Store, offers *handover.Offers) server.Resolver {
	return func(_ context.Context, id string) (server.Container, error) {
		if found := images.FindUpload(id); found != nil {
			return &upload{server.Unimplemented{Mode: "an upload"}, found, offers}, nil
		}
		if found := images.FindArchive(id); found != nil {
			return &saved{server.Unimplemented{Mode: "an archive of images"}, found, offers}, nil
		}
		if found := images.FindImageUpload(id); found != nil {
			return &upload{server.Unimplemented{Mode: "an upload of images"}, found, offers}, nil
		}
		return &stored{server.Unimplemented{Mode: "the host process"}, all, id, offers}, nil
	}
}

// Hello needs no container.
func (s *stored) Hello(context.Context) (*agentv1.HelloResponse, error) {
	return &agentv1.HelloResponse{Version: version.Version, Mode: agentv1.Mode_MODE_HOST, ContainerId: s.id}, nil
}

// Logs opens the output that the container's shims recorded.
func (s *stored) Logs(_ context.Context, options log.ReadOptions) (*log.Reader, error) {
	if err := s.named(); err != nil {
		return nil, err
	}
	dir, err := s.containers.LogDir(s.id)
	if err != nil {
		return nil, err
	}
	return log.Stored(dir, options)
}

// Files opens the container's root, volumes included.
func (s *stored) Files(ctx context.Context, writes bool) (*os.File, error) {
	if err := s.named(); err != nil {
		return nil, err
	}
	return s.containers.Files(ctx, s.id, writes)
}

// FileSystem is built from the container's layers.
func (s *stored) FileSystem(context.Context) (server.FileSystem, error) {
	if err := s.named(); err != nil {
		return nil, err
	}
	return s.containers.Layers(s.id)
}

func (s *stored) named() error {
	if s.id == "" {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the metadata key "+server.ContainerIDKey+" names no container"))
	}
	return nil
}

// upload receives the archive of a layer, or of images.
type upload struct {
	server.Unimplemented
	taker interface {
		Take(ctx context.Context, archive io.Reader) error
	}
	offers *handover.Offers
}

// HandOvers accepts clients' connections.
func (u *upload) HandOvers() *handover.Offers { return u.offers }

// TakeArchive returns once the layer is stored and unpacked, or all files are stored.
func (u *upload) TakeArchive(ctx context.Context, archive io.Reader) error {
	return u.taker.Take(ctx, archive)
}
