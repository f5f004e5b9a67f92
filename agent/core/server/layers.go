package server

import (
	"context"
	"io"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// FileSystem is a container's root file system without its mounts, compared with
// its image (see archive.Layers and archive.Live).
type FileSystem interface {
	Changes(ctx context.Context, visit func(archive.Change) error) error
	WrittenBytes(context.Context) (uint64, error)
	WriteTar(context.Context, io.Writer) error
	WriteLayer(ctx context.Context, out io.Writer, mountPoints []string) error
}

// Diffable is a Container that can compare its file system with its image.
type Diffable interface {
	FileSystem(context.Context) (FileSystem, error)
}

// Layered is a Container into which layers can be unpacked.
type Layered interface {
	// Bounds returns the paths that are not the container's own.
	Bounds(context.Context) (archive.Bounds, error)
}

// fileSystem returns the file system of a call's container.
func (s *service) fileSystem(ctx context.Context, request connect.AnyRequest, call string) (FileSystem, error) {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return nil, err
	}
	return fileSystemOf(ctx, container, call)
}

func fileSystemOf(ctx context.Context, container Container, call string) (FileSystem, error) {
	diffable, err := optional[Diffable](container, call)
	if err != nil {
		return nil, err
	}
	return diffable.FileSystem(ctx)
}

// Changes sends the differences between the container's files and its image.
func (s *service) Changes(ctx context.Context, request *connect.Request[agentv1.ChangesRequest], stream *connect.ServerStream[agentv1.ChangesResponse]) error {
	files, err := s.fileSystem(ctx, request, "Changes")
	if err != nil {
		return wireError(err)
	}
	out := newSender(stream.Send, func() *agentv1.ChangesResponse {
		return &agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	var count uint64
	err = files.Changes(ctx, func(change archive.Change) error {
		count++
		told := &agentv1.Change{Path: change.Path, Kind: agentv1.ChangeKind(change.Kind)}
		return out.Send(&agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_Change{Change: told}})
	})
	if err != nil {
		return wireError(err)
	}
	return out.finish(&agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_End{End: &agentv1.ChangesEnd{Count: count}}})
}

// DiskUsage returns the size of the container's own files.
func (s *service) DiskUsage(ctx context.Context, request *connect.Request[agentv1.DiskUsageRequest]) (*connect.Response[agentv1.DiskUsageResponse], error) {
	files, err := s.fileSystem(ctx, request, "DiskUsage")
	if err != nil {
		return nil, wireError(err)
	}
	written, err := files.WrittenBytes(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	return connect.NewResponse(&agentv1.DiskUsageResponse{WrittenBytes: written}), nil
}

// Export sends a tar of the whole file system, or of the difference from the
// image.
func (s *service) Export(ctx context.Context, request *connect.Request[agentv1.ExportRequest], stream *connect.ServerStream[agentv1.ExportResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	held, done := outliving(ctx, offersOf(container, request.Msg.HandOver))
	defer done(nil)
	files, err := fileSystemOf(held, container, "Export")
	if err != nil {
		return wireError(err)
	}
	out := newSender(stream.Send, func() *agentv1.ExportResponse {
		return &agentv1.ExportResponse{Message: &agentv1.ExportResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	to := newArchiveOut(ctx, container, request.Msg.HandOver, newChunkWriter(func(chunk *agentv1.ArchiveChunk) error {
		return out.Send(&agentv1.ExportResponse{Message: &agentv1.ExportResponse_Chunk{Chunk: chunk}})
	}), func(offer *agentv1.HandOverOffer) error {
		return out.Send(&agentv1.ExportResponse{Message: &agentv1.ExportResponse_Offer{Offer: offer}})
	})
	write := files.WriteTar
	if request.Msg.Layer {
		write = func(ctx context.Context, out io.Writer) error {
			return files.WriteLayer(ctx, out, request.Msg.MountPoints)
		}
	}
	total, err := to.end(write(to.ctx, to))
	if err != nil {
		return wireError(err)
	}
	return out.finish(&agentv1.ExportResponse{Message: &agentv1.ExportResponse_End{End: &agentv1.ArchiveEnd{TotalBytes: total}}})
}
