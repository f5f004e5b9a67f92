// Package backendtest is an in-memory backend, served on the wire, with containers and images for tests of the builder.
package backendtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	digest "github.com/opencontainers/go-digest"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/builder/backend"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1/agentv1connect"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
	"github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1/backendv1connect"
)

// Backend has containers that run nothing, and images without content.
type Backend struct {
	backendv1connect.UnimplementedContainerServiceHandler
	backendv1connect.UnimplementedImageServiceHandler
	backendv1connect.UnimplementedSystemServiceHandler
	backendv1connect.UnimplementedVolumeServiceHandler

	// Before is called before a procedure's work, with its short name.
	Before func(procedure string)
	// After is called when a commit or an installation is done but not answered, and in the middle of an archive.
	After func(procedure string)
	// Archive is the content of each container and each saved image.
	Archive []byte
	// FirstPiece is the size of its first piece; 0: half.
	FirstPiece int
	// TakesLayers makes the backend accept separate layers.
	TakesLayers bool
	// LosesALayer makes the next call for a separate layer end after it was received, as with a killed backend, and
	// refuses the archive that omits it.
	LosesALayer bool
	// WaitError fails the next WaitContainer.
	WaitError error
	// ExitCode is every container's.
	ExitCode int64
	// Log is every container's output.
	Log []byte
	// RemoveImageError fails RemoveImage.
	RemoveImageError error
	// RemoveContainerError returns what the removal of a container fails with, if it is set.
	RemoveContainerError func() error
	// OfUsers are the states that users have named.
	OfUsers []string
	// Volumes by name; true: a container uses it.
	Volumes map[string]bool

	mu         sync.Mutex
	made       int
	containers map[string]*backendv1.CreateContainerRequest
	images     map[string]*backendv1.ImageDetail
	// The images that were committed or loaded.
	ofBuild map[string]bool
	// Closed once the container has been started.
	started map[string]chan struct{}
	// The layer being received, the layers held, by diff ID, and the archives' files.
	uploaded chan []byte
	layers   map[string][]byte
	archived map[string]bool
}

// Start serves a backend until the test ends, and returns a client of it.
func Start(t *testing.T) (*Backend, *backend.Client) {
	t.Helper()
	made := &Backend{
		Before: func(string) {}, After: func(string) {},
		containers: map[string]*backendv1.CreateContainerRequest{}, started: map[string]chan struct{}{}, images: map[string]*backendv1.ImageDetail{}, ofBuild: map[string]bool{},
		uploaded: make(chan []byte, 1), layers: map[string][]byte{}, archived: map[string]bool{},
	}
	mux := http.NewServeMux()
	mux.Handle(backendv1connect.NewContainerServiceHandler(made))
	mux.Handle(backendv1connect.NewImageServiceHandler(made))
	mux.Handle(backendv1connect.NewSystemServiceHandler(made))
	mux.Handle(backendv1connect.NewVolumeServiceHandler(made))
	mux.Handle(agentv1connect.NewAgentServiceHandler(&relay{backend: made}))
	// A socket's path is short, and a test's own directory may be too long for it.
	dir, err := os.MkdirTemp("/tmp", "skl-builder-")
	assert.NilError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "backend.sock")
	listener, err := net.Listen("unix", socket)
	assert.NilError(t, err)
	server := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	client, err := backend.Dial("unix://" + socket)
	assert.NilError(t, err)
	return made, client
}

// ListVolumes ignores filters.
func (b *Backend) ListVolumes(context.Context, *connect.Request[backendv1.ListVolumesRequest]) (*connect.Response[backendv1.ListVolumesResponse], error) {
	b.Before("ListVolumes")
	b.mu.Lock()
	defer b.mu.Unlock()
	answer := &backendv1.ListVolumesResponse{}
	for name := range b.Volumes {
		answer.Volumes = append(answer.Volumes, &backendv1.Volume{Name: name})
	}
	return connect.NewResponse(answer), nil
}

// InspectVolume finds a volume by its name.
func (b *Backend) InspectVolume(_ context.Context, request *connect.Request[backendv1.InspectVolumeRequest]) (*connect.Response[backendv1.InspectVolumeResponse], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, isThere := b.Volumes[request.Msg.Name]; !isThere {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no such volume"))
	}
	return connect.NewResponse(&backendv1.InspectVolumeResponse{}), nil
}

// RemoveVolume removes a volume; with force even one in use, as clouds do.
func (b *Backend) RemoveVolume(_ context.Context, request *connect.Request[backendv1.RemoveVolumeRequest]) (*connect.Response[backendv1.RemoveVolumeResponse], error) {
	b.Before("RemoveVolume")
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Volumes[request.Msg.Name] && !request.Msg.Force {
		return nil, connect.NewError(connect.CodeAlreadyExists, errors.New("volume is in use"))
	}
	delete(b.Volumes, request.Msg.Name)
	return connect.NewResponse(&backendv1.RemoveVolumeResponse{}), nil
}

// Containers lists IDs.
func (b *Backend) Containers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.containers))
}

// Images lists IDs.
func (b *Backend) Images() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.images))
}

// Name gives an image a name, which another may have had.
func (b *Backend) Name(name string, image *backendv1.ImageDetail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[name], b.images[image.Id] = image, image
}

// PullImage pulls nothing.
func (b *Backend) PullImage(_ context.Context, _ *connect.Request[backendv1.PullImageRequest], stream *connect.ServerStream[backendv1.PullImageResponse]) error {
	b.Before("PullImage")
	return stream.Send(&backendv1.PullImageResponse{Message: &backendv1.PullImageResponse_End{End: &backendv1.PullEnd{}}})
}

// PushImage pushes nothing.
func (b *Backend) PushImage(_ context.Context, _ *connect.Request[backendv1.PushImageRequest], stream *connect.ServerStream[backendv1.PushImageResponse]) error {
	b.Before("PushImage")
	return stream.Send(&backendv1.PushImageResponse{Message: &backendv1.PushImageResponse_End{End: &backendv1.PushEnd{}}})
}

// GetInfo returns an empty response.
func (b *Backend) GetInfo(context.Context, *connect.Request[backendv1.GetInfoRequest]) (*connect.Response[backendv1.GetInfoResponse], error) {
	return connect.NewResponse(&backendv1.GetInfoResponse{}), nil
}

// CreateContainer makes a container.
func (b *Backend) CreateContainer(_ context.Context, request *connect.Request[backendv1.CreateContainerRequest]) (*connect.Response[backendv1.CreateContainerResponse], error) {
	b.Before("CreateContainer")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made++
	id := fmt.Sprintf("container-%d", b.made)
	b.containers[id] = request.Msg
	b.started[id] = make(chan struct{})
	return connect.NewResponse(&backendv1.CreateContainerResponse{Id: id}), nil
}

// RemoveContainer removes a container.
func (b *Backend) RemoveContainer(_ context.Context, request *connect.Request[backendv1.RemoveContainerRequest]) (*connect.Response[backendv1.RemoveContainerResponse], error) {
	b.Before("RemoveContainer")
	if b.RemoveContainerError != nil {
		if err := b.RemoveContainerError(); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.containers, request.Msg.Container)
	return connect.NewResponse(&backendv1.RemoveContainerResponse{}), nil
}

// ListContainers ignores filters.
func (b *Backend) ListContainers(context.Context, *connect.Request[backendv1.ListContainersRequest]) (*connect.Response[backendv1.ListContainersResponse], error) {
	answer := &backendv1.ListContainersResponse{}
	for _, id := range b.Containers() {
		answer.Containers = append(answer.Containers, &backendv1.ContainerSummary{Id: id})
	}
	return connect.NewResponse(answer), nil
}

// CommitContainer makes an image whose changes are the container's ID.
func (b *Backend) CommitContainer(_ context.Context, request *connect.Request[backendv1.CommitContainerRequest]) (*connect.Response[backendv1.CommitContainerResponse], error) {
	b.Before("CommitContainer")
	defer b.After("CommitContainer")
	diffIDs := []string{digest.FromString(request.Msg.Container).String()}
	id := digest.FromString(string(request.Msg.ImageConfig) + diffIDs[0]).String()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.images[id], b.ofBuild[id] = &backendv1.ImageDetail{Id: id, DiffIds: diffIDs}, true
	return connect.NewResponse(&backendv1.CommitContainerResponse{ImageId: id, DiffIds: diffIDs, ChangesSize: 1024}), nil
}

// Layers are the separate layers whose calls still last, by diff ID.
func (b *Backend) Layers() map[string][]byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.layers)
}

// Archived reports whether an archive had a file.
func (b *Backend) Archived(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.archived[name]
}

// ReceiveLayer holds a layer while the call lasts.
func (b *Backend) ReceiveLayer(ctx context.Context, _ *connect.Request[backendv1.ReceiveLayerRequest], stream *connect.ServerStream[backendv1.ReceiveLayerResponse]) error {
	if !b.TakesLayers {
		return connect.NewError(connect.CodeUnimplemented, errors.New("layers come with their archives"))
	}
	b.Before("ReceiveLayer")
	ready := &backendv1.ReceiveImageReady{Endpoint: &backendv1.AgentEndpoint{
		ContainerId: "upload", Address: &backendv1.AgentEndpoint_Relay{Relay: &backendv1.Relay{}},
	}}
	if err := stream.Send(&backendv1.ReceiveLayerResponse{Message: &backendv1.ReceiveLayerResponse_Ready{Ready: ready}}); err != nil {
		return err
	}
	var content []byte
	select {
	case content = <-b.uploaded:
	case <-ctx.Done():
		return ctx.Err()
	}
	if content == nil {
		return connect.NewError(connect.CodeResourceExhausted, errors.New("no space left on device"))
	}
	id := digest.FromBytes(content).String()
	b.mu.Lock()
	b.layers[id] = content
	isLost := b.LosesALayer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.layers, id)
	}()
	taken := &backendv1.ReceiveLayerResponse_Taken{Taken: &backendv1.LayerTaken{DiffId: id}}
	if err := stream.Send(&backendv1.ReceiveLayerResponse{Message: taken}); err != nil {
		return err
	}
	if isLost {
		return connect.NewError(connect.CodeUnavailable, errors.New("killed"))
	}
	<-ctx.Done()
	return ctx.Err()
}

// LoadImage installs the single image of a complete archive.
func (b *Backend) LoadImage(_ context.Context, stream *connect.BidiStream[backendv1.LoadImageRequest, backendv1.LoadImageResponse]) error {
	content, writer := io.Pipe()
	go func() {
		for {
			message, err := stream.Receive()
			if err != nil {
				writer.CloseWithError(fmt.Errorf("the archive was cut: %w", err))
				return
			}
			if message.GetEnd() != nil {
				writer.Close()
				return
			}
			if _, err := writer.Write(message.GetChunk()); err != nil {
				return
			}
		}
	}()
	files := map[string][]byte{}
	archive := tar.NewReader(content)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			return err
		}
		b.mu.Lock()
		b.archived[header.Name] = true
		b.mu.Unlock()
	}
	// The end of the tar is not the end of the stream yet.
	if _, err := io.Copy(io.Discard, content); err != nil {
		return err
	}
	b.Before("LoadImage")
	b.mu.Lock()
	isLost := b.LosesALayer
	b.LosesALayer = false
	b.mu.Unlock()
	if isLost {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("open layer: no such file or directory"))
	}
	var manifest []struct {
		Config string
		Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil {
		return err
	}
	image := &backendv1.ImageDetail{Id: digest.FromBytes(files[manifest[0].Config]).String()}
	for _, layer := range manifest[0].Layers {
		image.DiffIds = append(image.DiffIds, "sha256:"+strings.TrimPrefix(layer, "blobs/sha256/"))
	}
	b.mu.Lock()
	b.images[image.Id], b.ofBuild[image.Id] = image, true
	b.mu.Unlock()
	b.After("LoadImage")
	return stream.Send(&backendv1.LoadImageResponse{Message: &backendv1.LoadImageResponse_End{End: &backendv1.LoadImageEnd{}}})
}

// InspectImage finds an image by its ID or name.
func (b *Backend) InspectImage(ctx context.Context, request *connect.Request[backendv1.InspectImageRequest]) (*connect.Response[backendv1.InspectImageResponse], error) {
	b.Before("InspectImage")
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	image, ok := b.images[request.Msg.Image]
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("No such image: %s", request.Msg.Image))
	}
	return connect.NewResponse(&backendv1.InspectImageResponse{Image: image}), nil
}

// RemoveImage forgets an image or a name.
func (b *Backend) RemoveImage(_ context.Context, request *connect.Request[backendv1.RemoveImageRequest]) (*connect.Response[backendv1.RemoveImageResponse], error) {
	b.Before("RemoveImage")
	if b.RemoveImageError != nil {
		return nil, b.RemoveImageError
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if request.Msg.OfBuild && slices.Contains(b.OfUsers, request.Msg.Image) {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("No such state of a build"))
	}
	delete(b.images, request.Msg.Image)
	return connect.NewResponse(&backendv1.RemoveImageResponse{}), nil
}

// StartContainer only runs what is attached, and continues no run.
func (b *Backend) StartContainer(_ context.Context, request *connect.Request[backendv1.StartContainerRequest]) (*connect.Response[backendv1.StartContainerResponse], error) {
	b.Before("StartContainer")
	if request.Msg.NextStep != nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("runs are not continued"))
	}
	b.mu.Lock()
	if started, ok := b.started[request.Msg.Container]; ok {
		close(started)
	}
	b.mu.Unlock()
	b.After("StartContainer")
	return connect.NewResponse(&backendv1.StartContainerResponse{}), nil
}

// AttachContainer names the relay, and holds the reservation while the call lasts.
func (b *Backend) AttachContainer(ctx context.Context, request *connect.Request[backendv1.AttachContainerRequest], stream *connect.ServerStream[backendv1.AttachContainerResponse]) error {
	b.Before("AttachContainer")
	accepted := &backendv1.AttachContainerResponse_Accepted{Accepted: &backendv1.AttachAccepted{Id: request.Msg.Container}}
	if err := stream.Send(&backendv1.AttachContainerResponse{Message: accepted}); err != nil {
		return err
	}
	b.After("AttachContainer")
	at := &backendv1.AgentEndpoint{ContainerId: request.Msg.Container, Address: &backendv1.AgentEndpoint_Relay{Relay: &backendv1.Relay{}}}
	endpoint := &backendv1.AttachContainerResponse_Endpoint{Endpoint: &backendv1.AttachEndpoint{Endpoint: at}}
	if err := stream.Send(&backendv1.AttachContainerResponse{Message: endpoint}); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// OpenLogs names the relay.
func (b *Backend) OpenLogs(_ context.Context, request *connect.Request[backendv1.OpenLogsRequest]) (*connect.Response[backendv1.OpenLogsResponse], error) {
	at := &backendv1.AgentEndpoint{ContainerId: request.Msg.Container, Address: &backendv1.AgentEndpoint_Relay{Relay: &backendv1.Relay{}}}
	return connect.NewResponse(&backendv1.OpenLogsResponse{Endpoint: at}), nil
}

// WaitContainer reports an exit, even without a start.
func (b *Backend) WaitContainer(_ context.Context, _ *connect.Request[backendv1.WaitContainerRequest], stream *connect.ServerStream[backendv1.WaitContainerResponse]) error {
	b.Before("WaitContainer")
	b.mu.Lock()
	err, exitCode := b.WaitError, b.ExitCode
	b.WaitError = nil
	b.mu.Unlock()
	if err != nil {
		return err
	}
	exited := &backendv1.WaitContainerResponse_Exited{Exited: &backendv1.WaitExited{ExitCode: exitCode}}
	return stream.Send(&backendv1.WaitContainerResponse{Message: exited})
}

// ListImages lists those that were committed or loaded as states of builds.
func (b *Backend) ListImages(context.Context, *connect.Request[backendv1.ListImagesRequest]) (*connect.Response[backendv1.ListImagesResponse], error) {
	b.Before("ListImages")
	answer := &backendv1.ListImagesResponse{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.images {
		answer.Images = append(answer.Images, &backendv1.ImageSummary{Id: id, OfBuild: b.ofBuild[id]})
	}
	return connect.NewResponse(answer), nil
}

// OpenArchive names the relay.
func (b *Backend) OpenArchive(_ context.Context, request *connect.Request[backendv1.OpenArchiveRequest]) (*connect.Response[backendv1.OpenArchiveResponse], error) {
	at := &backendv1.AgentEndpoint{ContainerId: request.Msg.Container, Address: &backendv1.AgentEndpoint_Relay{Relay: &backendv1.Relay{}}}
	return connect.NewResponse(&backendv1.OpenArchiveResponse{Endpoint: at}), nil
}

// SaveImages sends the archive in two pieces.
func (b *Backend) SaveImages(_ context.Context, _ *connect.Request[backendv1.SaveImagesRequest], stream *connect.ServerStream[backendv1.SaveImagesResponse]) error {
	for at, piece := range b.pieces() {
		if at > 0 {
			b.After("SaveImages")
		}
		if err := stream.Send(&backendv1.SaveImagesResponse{Message: &backendv1.SaveImagesResponse_Chunk{Chunk: piece}}); err != nil {
			return err
		}
	}
	return stream.Send(&backendv1.SaveImagesResponse{Message: &backendv1.SaveImagesResponse_End{End: &backendv1.SaveEnd{}}})
}

func (b *Backend) pieces() [][]byte {
	first := b.FirstPiece
	if first == 0 {
		first = len(b.Archive) / 2
	}
	return [][]byte{b.Archive[:first], b.Archive[first:]}
}

// entries is a tar of the archive's entries at these paths, without content.
func (b *Backend) entries(paths []string) []byte {
	found := map[string]*tar.Header{}
	for from := tar.NewReader(bytes.NewReader(b.Archive)); ; {
		header, err := from.Next()
		if err != nil {
			break
		}
		header.Size = 0
		found[path.Clean("/"+header.Name)] = header
	}
	var packed bytes.Buffer
	archive := tar.NewWriter(&packed)
	for _, each := range paths {
		if header := found[each]; header != nil {
			_ = archive.WriteHeader(header)
		}
	}
	_ = archive.Close()
	return packed.Bytes()
}

// relay implements the agents' calls.
type relay struct {
	agentv1connect.UnimplementedAgentServiceHandler
	backend *Backend
}

// Session echoes its input, after the start, and ends with it.
func (r *relay) Session(ctx context.Context, stream *connect.BidiStream[agentv1.SessionRequest, agentv1.SessionResponse]) error {
	r.backend.Before("Session")
	r.backend.mu.Lock()
	started := r.backend.started[stream.RequestHeader().Get("sockerless-container-id")]
	r.backend.mu.Unlock()
	isFirst := true
	for {
		message, err := stream.Receive()
		if err != nil {
			return err
		}
		if data := message.GetStdin().GetData(); data != nil {
			if isFirst {
				r.backend.Before("SessionInput")
				isFirst = false
			}
			select {
			case <-started:
			case <-ctx.Done():
				return ctx.Err()
			}
			stdout := &agentv1.SessionResponse_Stdout{Stdout: &agentv1.Output{Data: data}}
			if err := stream.Send(&agentv1.SessionResponse{Message: stdout}); err != nil {
				return err
			}
			r.backend.After("SessionOutput")
		}
		if message.GetCloseStdin() != nil {
			return stream.Send(&agentv1.SessionResponse{Message: &agentv1.SessionResponse_Exit{Exit: &agentv1.ExitStatus{}}})
		}
	}
}

// Logs sends the backend's Log.
func (r *relay) Logs(_ context.Context, _ *connect.Request[agentv1.LogsRequest], stream *connect.ServerStream[agentv1.LogsResponse]) error {
	r.backend.Before("Logs")
	if written := r.backend.Log; len(written) > 0 {
		chunk := &agentv1.LogsResponse_Chunk{Chunk: &agentv1.LogChunk{Stream: agentv1.Stream_STREAM_STDOUT, Data: written}}
		if err := stream.Send(&agentv1.LogsResponse{Message: chunk}); err != nil {
			return err
		}
	}
	return stream.Send(&agentv1.LogsResponse{Message: &agentv1.LogsResponse_End{End: &agentv1.LogsEnd{}}})
}

// ArchivePut receives a layer for which a call waits.
func (r *relay) ArchivePut(_ context.Context, stream *connect.ClientStream[agentv1.ArchivePutRequest]) (*connect.Response[agentv1.ArchivePutResponse], error) {
	content := []byte{}
	for stream.Receive() {
		content = append(content, stream.Msg().GetChunk().GetData()...)
		if end := stream.Msg().GetEnd(); end != nil && end.TotalBytes == uint64(len(content)) {
			r.backend.Before("ArchivePut")
			r.backend.uploaded <- content
			return connect.NewResponse(&agentv1.ArchivePutResponse{TotalBytes: end.TotalBytes}), nil
		}
	}
	r.backend.uploaded <- nil
	return nil, connect.NewError(connect.CodeDataLoss, errors.New("the upload was cut"))
}

// ArchiveGet sends the archive in two pieces, or entries of it.
func (r *relay) ArchiveGet(_ context.Context, request *connect.Request[agentv1.ArchiveGetRequest], stream *connect.ServerStream[agentv1.ArchiveGetResponse]) error {
	if asked := request.Msg.Entries; len(asked) > 0 {
		r.backend.Before("ArchiveGet of " + strings.Join(asked, " "))
		chunk := &agentv1.ArchiveChunk{Data: r.backend.entries(asked)}
		if err := stream.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Chunk{Chunk: chunk}}); err != nil {
			return err
		}
		return stream.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_End{End: &agentv1.ArchiveEnd{}}})
	}
	for at, piece := range r.backend.pieces() {
		if at > 0 {
			r.backend.After("ArchiveGet")
		}
		chunk := &agentv1.ArchiveChunk{Data: piece}
		if err := stream.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Chunk{Chunk: chunk}}); err != nil {
			return err
		}
	}
	return stream.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_End{End: &agentv1.ArchiveEnd{}}})
}
