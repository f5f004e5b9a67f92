package backend

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	digest "github.com/opencontainers/go-digest"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
	backendv1 "github.com/sockerless/sockerless/proto/gen/sockerless/backend/v1"
)

// Layer is a tar that the backend may lack.
type Layer struct {
	DiffID digest.Digest
	Size   int64
	// Written again if the backend restarts; an io.Seeker from its start.
	Content io.WriterTo
}

// InstallImage creates an image from a configuration, hidden from users if `ofBuild`. The backend has its layers,
// except the top one if that is given. It returns the ID, the configuration's digest. Equal images are installed once.
// A cut archive leaves nothing; once it has been sent, the call waits for its outcome in any case, and the image
// exists.
//
// The layer is sent separately if the backend supports that, followed by a `docker load` archive that omits the
// existing layers.
func (c *Client) InstallImage(ctx context.Context, config []byte, diffIDs []digest.Digest, top *Layer, names []string, ofBuild bool) (id string, err error) {
	err = patiently(ctx, func() (err error) {
		if top != nil {
			if file, ok := top.Content.(io.Seeker); ok {
				if _, err := file.Seek(0, io.SeekStart); err != nil {
					return err
				}
			}
		}
		id, err = c.loadImage(ctx, config, diffIDs, top, names, ofBuild)
		return err
	})
	return id, err
}

func (c *Client) loadImage(ctx context.Context, config []byte, diffIDs []digest.Digest, top *Layer, names []string, ofBuild bool) (made string, err error) {
	unbound, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	if top != nil {
		isLost, failure := c.sendLayer(ctx, unbound, top)
		if failure != nil {
			return "", failure
		}
		if isLost != nil {
			top = nil
			defer func() {
				// A restarted backend refuses an archive without the layer that its predecessor had.
				if err != nil && !isAway(err) && ctx.Err() == nil && isLost() {
					err = errCut
				}
			}()
		}
	}
	isWhole := context.AfterFunc(ctx, cut)
	defer isWhole()
	stream := c.uploads.LoadImage(unbound)
	id := digest.FromBytes(config)
	sent := make(chan error, 1)
	go func() {
		err := sendArchive(stream, config, id, diffIDs, top, names, ofBuild)
		if err == nil {
			err = endArchive(ctx, stream, isWhole)
		}
		stream.CloseRequest()
		sent <- err
	}()
	defer stream.CloseResponse()
	for {
		message, err := stream.Receive()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errCut
			}
			stream.CloseResponse()
			if sending := <-sent; sending != nil && !errors.Is(sending, io.EOF) {
				return "", sending
			}
			return "", err
		}
		if message.GetEnd() != nil {
			return id.String(), <-sent
		}
	}
}

// uploadWord bounds the wait for the backend's reason why an upload failed: if the upload never arrived, it knows none.
const uploadWord = 5 * time.Second

// heldWord bounds the wait for a call to report that it has ended with its backend.
const heldWord = time.Second

// sendLayer sends a layer separately, if the backend supports that: the backend holds it until the context `held` ends,
// or until it is lost, as `isLost` reports. Nil: the layer must go into the archive.
func (c *Client) sendLayer(ctx, held context.Context, layer *Layer) (isLost func() bool, err error) {
	held, leave := context.WithCancel(held)
	defer context.AfterFunc(ctx, leave)()
	stream, err := c.Images.ReceiveLayer(held, connect.NewRequest(&backendv1.ReceiveLayerRequest{Access: reach(nil)}))
	if err != nil {
		return nil, err
	}
	next := func() error {
		if stream.Receive() {
			return nil
		}
		return endOf(stream.Err())
	}
	if err := next(); err != nil {
		if Is(err, connect.CodeUnimplemented) {
			err = nil
		}
		return nil, errors.Join(err, stream.Close())
	}
	endpoint := stream.Msg().GetReady().GetEndpoint()
	if endpoint == nil {
		return nil, stream.Close()
	}
	if sending := c.putLayer(ctx, endpoint, layer.Content); sending != nil {
		isOfCall := errors.As(sending, new(*connect.Error)) || errors.Is(sending, io.EOF)
		if ctx.Err() != nil || !isOfCall {
			return nil, sending
		}
		// The backend knows why an upload that reached it has failed.
		defer time.AfterFunc(uploadWord, leave).Stop()
		if err := next(); err != nil && held.Err() == nil {
			return nil, err
		}
		return nil, sending
	}
	if err := next(); err != nil {
		return nil, err
	}
	if taken := stream.Msg().GetTaken().GetDiffId(); taken != layer.DiffID.String() {
		return nil, fmt.Errorf("the layer %s was taken as %q", layer.DiffID, taken)
	}
	return func() bool {
		defer time.AfterFunc(heldWord, leave).Stop()
		stream.Receive()
		return held.Err() == nil
	}, nil
}

// putLayer uploads a layer to an agent.
func (c *Client) putLayer(ctx context.Context, endpoint *backendv1.AgentEndpoint, content io.WriterTo) error {
	taker, done, err := c.agentOf(endpoint)
	if err != nil {
		return err
	}
	defer done()
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	stream := taker.ArchivePut(ctx)
	open := &agentv1.ArchivePutRequest_Open{Open: &agentv1.ArchivePutOpen{}}
	if err := stream.Send(&agentv1.ArchivePutRequest{Message: open}); err != nil {
		return err
	}
	var sent uint64
	out := &chunkWriter{send: func(data []byte) error {
		chunk := &agentv1.ArchivePutRequest_Chunk{Chunk: &agentv1.ArchiveChunk{Offset: sent, Data: data}}
		sent += uint64(len(data))
		return stream.Send(&agentv1.ArchivePutRequest{Message: chunk})
	}}
	if _, err := content.WriteTo(out); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	end := &agentv1.ArchivePutRequest_End{End: &agentv1.ArchiveEnd{TotalBytes: sent}}
	if err := stream.Send(&agentv1.ArchivePutRequest{Message: end}); err != nil {
		return err
	}
	_, err = stream.CloseAndReceive()
	return err
}

// TagImage names an image; an event reports it.
func (c *Client) TagImage(ctx context.Context, id, name string) error {
	_, err := c.Images.TagImage(ctx, connect.NewRequest(&backendv1.TagImageRequest{Source: id, Target: name}))
	return err
}

type loadStream = connect.BidiStreamForClient[backendv1.LoadImageRequest, backendv1.LoadImageResponse]

func sendArchive(stream *loadStream, config []byte, id digest.Digest, diffIDs []digest.Digest, top *Layer, names []string, ofBuild bool) error {
	open := &backendv1.LoadImageRequest{Message: &backendv1.LoadImageRequest_Open{Open: &backendv1.LoadOpen{OfBuild: ofBuild}}}
	if err := stream.Send(open); err != nil {
		return err
	}
	layers := make([]string, len(diffIDs))
	for at, diffID := range diffIDs {
		layers[at] = "blobs/sha256/" + diffID.Encoded()
	}
	configName := "blobs/sha256/" + id.Encoded()
	manifest, err := json.Marshal([]map[string]any{{"Config": configName, "RepoTags": names, "Layers": layers}})
	if err != nil {
		return err
	}
	out := &chunkWriter{send: func(chunk []byte) error {
		return stream.Send(&backendv1.LoadImageRequest{Message: &backendv1.LoadImageRequest_Chunk{Chunk: chunk}})
	}}
	archive := tar.NewWriter(out)
	add := func(name string, size int64, content io.WriterTo) error {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
		_, err := content.WriteTo(archive)
		return err
	}
	if top != nil {
		if err := add("blobs/sha256/"+top.DiffID.Encoded(), top.Size, top.Content); err != nil {
			return err
		}
	}
	if err := add(configName, int64(len(config)), bytes.NewReader(config)); err != nil {
		return err
	}
	if err := add("manifest.json", int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// endArchive completes an archive, unless its sender has been cancelled: then `isWhole` returns false.
func endArchive(ctx context.Context, stream *loadStream, isWhole func() bool) error {
	if !isWhole() {
		return context.Cause(ctx)
	}
	return stream.Send(&backendv1.LoadImageRequest{Message: &backendv1.LoadImageRequest_End{End: &backendv1.LoadEnd{}}})
}

// Image returns the backend's description of an image; a missing one is an error with code not-found.
func (c *Client) Image(ctx context.Context, reference string) (*backendv1.ImageDetail, error) {
	if c.images.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer c.images.Release(1)
	response, err := c.Images.InspectImage(ctx, connect.NewRequest(&backendv1.InspectImageRequest{Image: reference}))
	if err != nil {
		return nil, err
	}
	return response.Msg.Image, nil
}

// PullImage pulls an image.
func (c *Client) PullImage(ctx context.Context, request *backendv1.PullImageRequest) error {
	return patiently(ctx, func() error {
		stream, err := c.Images.PullImage(ctx, connect.NewRequest(request))
		return receive(stream, err, func(message *backendv1.PullImageResponse) (bool, error) {
			return message.GetEnd() != nil, nil
		})
	})
}

// PushImage pushes an image and returns the manifest's digest.
func (c *Client) PushImage(ctx context.Context, request *backendv1.PushImageRequest) (digest string, err error) {
	err = patiently(ctx, func() error {
		stream, err := c.Images.PushImage(ctx, connect.NewRequest(request))
		return receive(stream, err, func(message *backendv1.PushImageResponse) (bool, error) {
			digest = message.GetEnd().GetDigest()
			return message.GetEnd() != nil, nil
		})
	})
	return digest, err
}

// Committed is an image made of a container's files.
type Committed struct {
	ID string
	// Bottom first: the layers of the container's image, then its changes.
	DiffIDs []digest.Digest
	// Size of the changes' tar in bytes.
	Size int64
}

// CommitContainer makes an unnamed image of a container's files, without the mount points created at these paths, and
// of a configuration to which the backend adds the layers. Equal files make equal images. The call continues after its
// build is cancelled, because only its response identifies the image.
func (c *Client) CommitContainer(ctx context.Context, id string, mountPoints []string, config []byte) (Committed, error) {
	if ctx.Err() != nil {
		return Committed{}, context.Cause(ctx)
	}
	response, err := c.Containers.CommitContainer(context.WithoutCancel(ctx), connect.NewRequest(&backendv1.CommitContainerRequest{
		Container: id, MountPoints: mountPoints, ImageConfig: config,
	}))
	if err != nil {
		return Committed{}, err
	}
	made := Committed{ID: response.Msg.ImageId, Size: int64(response.Msg.ChangesSize)}
	for _, each := range response.Msg.DiffIds {
		made.DiffIDs = append(made.DiffIDs, digest.Digest(each))
	}
	return made, nil
}

// RemoveImage removes a state, but not those beneath it. One that is missing, or has become a user's image, is not an error.
func (c *Client) RemoveImage(ctx context.Context, id string) error {
	_, err := c.Images.RemoveImage(ctx, connect.NewRequest(&backendv1.RemoveImageRequest{Image: id, NoPrune: true, OfBuild: true}))
	if Is(err, connect.CodeNotFound) {
		return nil
	}
	return err
}

// chunkWriter combines a tar's small writes into messages.
type chunkWriter struct {
	send    func([]byte) error
	pending []byte
}

func (w *chunkWriter) Write(data []byte) (int, error) {
	w.pending = append(w.pending, data...)
	if len(w.pending) >= chunkBytes {
		if err := w.Flush(); err != nil {
			return 0, err
		}
	}
	return len(data), nil
}

func (w *chunkWriter) Flush() error {
	if len(w.pending) == 0 {
		return nil
	}
	err := w.send(w.pending)
	w.pending = w.pending[:0]
	return err
}

// ImageConfig returns an image's configuration, byte for byte.
func (c *Client) ImageConfig(ctx context.Context, id string) ([]byte, error) {
	if c.images.Acquire(ctx, 1) != nil {
		return nil, context.Cause(ctx)
	}
	defer c.images.Release(1)
	response, err := c.Images.GetImageConfig(ctx, connect.NewRequest(&backendv1.GetImageConfigRequest{Image: id}))
	if err != nil {
		return nil, err
	}
	return response.Msg.Config, nil
}

// SaveImage passes an image to `read` as an archive that is both Docker's and an OCI layout, and reads the rest to its
// end. `read` is called again, with the whole archive, if the backend restarts meanwhile.
func (c *Client) SaveImage(ctx context.Context, id string, read func(*tar.Reader) error) error {
	return patiently(ctx, func() error {
		stream, err := c.Images.SaveImages(ctx, connect.NewRequest(&backendv1.SaveImagesRequest{References: []string{id}}))
		if err != nil {
			return err
		}
		defer stream.Close()
		content := &chunks{next: func() ([]byte, bool, error) {
			if !stream.Receive() {
				return nil, false, endOf(stream.Err())
			}
			return stream.Msg().GetChunk(), stream.Msg().GetEnd() != nil, nil
		}}
		if err := read(tar.NewReader(content)); err != nil {
			return err
		}
		// The backend must finish: it treats a stream that ends early as its own failure.
		_, err = io.Copy(io.Discard, content)
		return err
	})
}
