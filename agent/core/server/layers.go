package server

import (
	"context"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	agentv1 "github.com/sockerless/sockerless/agent/gen/sockerless/agent/v1"
)

// Layered is a Container that knows its file system by its layers. One that is
// not Layered cannot tell what the container changed.
type Layered interface {
	Layers(context.Context) (archive.Layers, error)
}

// layers finds the container of a call and the layers of its file system.
func (s *service) layers(ctx context.Context, request connect.AnyRequest, call string) (archive.Layers, error) {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return archive.Layers{}, err
	}
	layered, ok := container.(Layered)
	if !ok {
		return archive.Layers{}, Unimplemented{"this agent"}.cannot(call)
	}
	return layered.Layers(ctx)
}

// Changes tells what differs between the container's files and its image.
func (s *service) Changes(ctx context.Context, request *connect.Request[agentv1.ChangesRequest], stream *connect.ServerStream[agentv1.ChangesResponse]) error {
	layers, err := s.layers(ctx, request, "Changes")
	if err != nil {
		return wireError(err)
	}
	out := newSender(stream.Send, func() *agentv1.ChangesResponse {
		return &agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	var count uint64
	err = layers.Changes(ctx, func(change archive.Change) error {
		count++
		told := &agentv1.Change{Path: change.Path, Kind: agentv1.ChangeKind(change.Kind)}
		return out.Send(&agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_Change{Change: told}})
	})
	if err != nil {
		return wireError(err)
	}
	return out.finish(&agentv1.ChangesResponse{Message: &agentv1.ChangesResponse_End{End: &agentv1.ChangesEnd{Count: count}}})
}

// Export sends the whole file system, or what differs from the image, as a tar.
func (s *service) Export(ctx context.Context, request *connect.Request[agentv1.ExportRequest], stream *connect.ServerStream[agentv1.ExportResponse]) error {
	layers, err := s.layers(ctx, request, "Export")
	if err != nil {
		return wireError(err)
	}
	out := newSender(stream.Send, func() *agentv1.ExportResponse {
		return &agentv1.ExportResponse{Message: &agentv1.ExportResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
	})
	defer out.stop()
	chunks := newChunkWriter(func(chunk *agentv1.ArchiveChunk) error {
		return out.Send(&agentv1.ExportResponse{Message: &agentv1.ExportResponse_Chunk{Chunk: chunk}})
	})
	write := layers.WriteTar
	if request.Msg.Layer {
		write = layers.WriteLayer
	}
	if err := write(ctx, chunks); err != nil {
		return wireError(err)
	}
	if err := chunks.flush(); err != nil {
		return err
	}
	return out.finish(&agentv1.ExportResponse{Message: &agentv1.ExportResponse_End{End: &agentv1.ArchiveEnd{TotalBytes: chunks.offset}}})
}
