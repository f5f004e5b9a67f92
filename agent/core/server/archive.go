package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/identity"
	"github.com/sockerless/sockerless/agent/core/memory"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// archiveChunk is the size of a tar stream's messages.
const archiveChunk = 256 << 10

// archiveOpenHeader in a response's header confirms that the archive is accepted,
// before the archive is sent.
const archiveOpenHeader = "sockerless-archive-open"

// files calls use with the container's root, as an archive.Root and as the
// directory.
func (s *service) files(ctx context.Context, container Container, writes bool, use func(root *archive.Root, directory *os.File) error) error {
	directory, err := container.Files(ctx, writes)
	if err != nil {
		return err
	}
	root := archive.NewRoot(directory)
	defer root.Close()
	return use(root, directory)
}

// ArchiveStat returns a path's metadata.
func (s *service) ArchiveStat(ctx context.Context, request *connect.Request[agentv1.ArchiveStatRequest]) (*connect.Response[agentv1.ArchiveStatResponse], error) {
	return unary(ctx, s, request, func(c Container, stat *agentv1.ArchiveStatRequest) (*agentv1.ArchiveStatResponse, error) {
		response := &agentv1.ArchiveStatResponse{}
		return response, s.files(ctx, c, false, func(root *archive.Root, _ *os.File) error {
			found, err := root.Stat(stat.Path)
			if err != nil {
				return err
			}
			response.Stat = pathStat(found)
			return nil
		})
	})
}

// LookUpUser finds a user in the container's files.
func (s *service) LookUpUser(ctx context.Context, request *connect.Request[agentv1.LookUpUserRequest]) (*connect.Response[agentv1.LookUpUserResponse], error) {
	return unary(ctx, s, request, func(c Container, asked *agentv1.LookUpUserRequest) (*agentv1.LookUpUserResponse, error) {
		response := &agentv1.LookUpUserResponse{}
		return response, s.files(ctx, c, false, func(_ *archive.Root, directory *os.File) error {
			user, err := identity.ResolveIn(directory, asked.User, nil)
			if err != nil {
				return connect.NewError(connect.CodeInvalidArgument, err)
			}
			response.Uid, response.Gid = user.UID, user.GID
			return nil
		})
	})
}

func pathStat(stat archive.PathStat) *agentv1.PathStat {
	return &agentv1.PathStat{
		Name:       stat.Name,
		Size:       stat.Size,
		Mode:       uint32(stat.Mode),
		Mtime:      timestamppb.New(stat.ModTime),
		LinkTarget: stat.LinkTarget,
	}
}

// ArchiveGet sends a path as a tar stream.
func (s *service) ArchiveGet(ctx context.Context, request *connect.Request[agentv1.ArchiveGetRequest], stream *connect.ServerStream[agentv1.ArchiveGetResponse]) error {
	container, err := s.container(ctx, request.Header())
	if err != nil {
		return wireError(err)
	}
	held, done := outliving(ctx, offersOf(container, request.Msg.HandOver))
	defer done(nil)
	return wireError(s.files(held, container, false, func(root *archive.Root, _ *os.File) error {
		tree, err := root.Get(request.Msg.Path)
		if err != nil {
			return err
		}
		defer tree.Close()
		out := newSender(stream.Send, func() *agentv1.ArchiveGetResponse {
			return &agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Heartbeat{Heartbeat: &agentv1.Heartbeat{}}}
		})
		defer out.stop()
		to := newArchiveOut(ctx, container, request.Msg.HandOver, newChunkWriter(func(chunk *agentv1.ArchiveChunk) error {
			return out.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Chunk{Chunk: chunk}})
		}), func(offer *agentv1.HandOverOffer) error {
			return out.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Offer{Offer: offer}})
		})
		err = to.begin()
		if err == nil {
			err = out.Send(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_Stat{Stat: pathStat(tree.Stat)}})
		}
		if err == nil {
			err = writeArchive(to.ctx, root, tree, request.Msg.Entries, to)
		}
		total, err := to.end(err)
		if err != nil {
			return err
		}
		return out.finish(&agentv1.ArchiveGetResponse{Message: &agentv1.ArchiveGetResponse_End{End: &agentv1.ArchiveEnd{TotalBytes: total}}})
	}))
}

// writeArchive writes a tree, or the entries of paths.
func writeArchive(ctx context.Context, root *archive.Root, tree *archive.Tree, entries []string, to io.Writer) error {
	if len(entries) > 0 {
		return root.WriteEntries(ctx, entries, to)
	}
	return tree.WriteTar(ctx, to)
}

// chunkWriter splits what is written to it into messages.
type chunkWriter struct {
	send   func(*agentv1.ArchiveChunk) error
	buffer []byte // nil until something is written
	offset uint64
}

func newChunkWriter(send func(*agentv1.ArchiveChunk) error) *chunkWriter {
	return &chunkWriter{send: send}
}

func (w *chunkWriter) Write(data []byte) (int, error) {
	if w.buffer == nil {
		w.buffer = make([]byte, 0, archiveChunk)
	}
	written := len(data)
	for len(data) > 0 {
		n := min(len(data), cap(w.buffer)-len(w.buffer))
		w.buffer = append(w.buffer, data[:n]...)
		data = data[n:]
		if len(w.buffer) == cap(w.buffer) {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return written, nil
}

func (w *chunkWriter) flush() error {
	if len(w.buffer) == 0 {
		return nil
	}
	err := w.send(&agentv1.ArchiveChunk{Offset: w.offset, Data: w.buffer})
	w.offset += uint64(len(w.buffer))
	memory.Moved(len(w.buffer))
	w.buffer = w.buffer[:0]
	return err
}

type putStream = connect.ClientStream[agentv1.ArchivePutRequest]

// ArchivePut unpacks a tar stream.
func (s *service) ArchivePut(ctx context.Context, stream *putStream) (*connect.Response[agentv1.ArchivePutResponse], error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	container, err := s.container(ctx, stream.RequestHeader())
	if err != nil {
		return nil, wireError(err)
	}
	chunks := &chunkReader{stream: stream, cancel: cancel, body: bulkOf(ctx)}
	opened, done := make(chan struct{}), make(chan error, 1)
	// In its own goroutine, so that this call can end while a peer is silent: its
	// end makes the reader's Receive fail.
	go func() { done <- s.put(ctx, container, chunks, func() { close(opened) }) }()
	for over := false; !over; {
		select {
		case <-opened:
			opened = nil
			stream.Conn().ResponseHeader().Set(archiveOpenHeader, "1")
			if err := stream.Conn().Send(nil); err != nil {
				return nil, err
			}
		case err = <-done:
			over = true
		case <-ctx.Done():
			return nil, wireError(context.Cause(ctx))
		}
	}
	if err != nil {
		return nil, wireError(err)
	}
	return connect.NewResponse(&agentv1.ArchivePutResponse{TotalBytes: chunks.offset}), nil
}

// put unpacks the received stream. opened is called once the container's files
// are open.
func (s *service) put(ctx context.Context, container Container, chunks *chunkReader, opened func()) error {
	first, err := chunks.receive()
	if err != nil {
		return err
	}
	open := first.GetOpen()
	if open == nil {
		return connect.NewError(connect.CodeInvalidArgument, errors.New("the first message must be `open`"))
	}
	if taker, ok := container.(ArchiveTaker); ok {
		opened()
		return taker.TakeArchive(ctx, chunks)
	}
	return s.files(ctx, container, true, func(root *archive.Root, directory *os.File) error {
		opened()
		return unpack(ctx, container, root, directory, open, chunks)
	})
}

// unpack unpacks a tar stream and reads it to its end.
func unpack(ctx context.Context, container Container, root *archive.Root, directory *os.File, open *agentv1.ArchivePutOpen, from io.Reader) error {
	if open.WorkingDirectory != "" {
		_ = root.MakeDirectory(open.WorkingDirectory) // the start reports a failure
	}
	options := archive.PutOptions{NoOverwriteDirNonDir: open.NoOverwriteDirNonDir}
	if open.Layer {
		layered, err := optional[Layered](container, "ArchivePut of a layer")
		if err != nil {
			return err
		}
		bounds, err := layered.Bounds(ctx)
		if err != nil {
			return err
		}
		options.Layer = &bounds
	}
	if open.CopyUidGid {
		user, err := identity.ResolveIn(directory, open.User, nil)
		if err != nil {
			return connect.NewError(connect.CodeInvalidArgument, err)
		}
		options.Owner = &archive.Owner{UID: int(user.UID), GID: int(user.GID)}
	}
	if err := root.Put(ctx, open.Path, from, options); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, from) // up to its end, unless it was cut
	return err
}

// chunkReader reads the tar stream of an ArchivePut call. The stream ends with
// the `end` message; one without it yields io.ErrUnexpectedEOF.
type chunkReader struct {
	stream *putStream
	cancel context.CancelCauseFunc
	body   *bulkBody // nil: every message comes as an object
	left   int       // of the data of the bulk message at hand
	data   []byte    // of a message that came as an object
	offset uint64
	ended  bool
}

// receive returns the next message that is not a heartbeat.
func (r *chunkReader) receive() (*agentv1.ArchivePutRequest, error) {
	for {
		more, _ := receiveAlive(r.cancel, func() (bool, error) { return r.stream.Receive(), nil })
		if !more {
			if err := r.stream.Err(); err != nil {
				return nil, err
			}
			return nil, connect.NewError(connect.CodeDataLoss, fmt.Errorf("the tar stream was cut: %w", io.ErrUnexpectedEOF))
		}
		if r.stream.Msg().GetHeartbeat() == nil {
			return r.stream.Msg(), nil
		}
	}
}

var errTarGap = connect.NewError(connect.CodeDataLoss, errors.New("bytes of the tar stream are missing"))

// nextBulk waits for the next message, and reports whether its data is to be read
// from the body.
func (r *chunkReader) nextBulk() (bool, error) {
	offset, length, bulk := r.body.next(r.cancel)
	r.left = length
	if bulk && offset != r.offset {
		return false, errTarGap
	}
	return bulk, nil
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.data) == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if r.left > 0 {
			n, err := r.body.data(r.cancel, p)
			r.left -= n
			r.offset += uint64(n)
			memory.Moved(n)
			return n, err
		}
		if bulk, err := r.nextBulk(); err != nil {
			return 0, err
		} else if bulk {
			continue
		}
		message, err := r.receive()
		if err != nil {
			return 0, err
		}
		switch part := message.Message.(type) {
		case *agentv1.ArchivePutRequest_Chunk:
			if part.Chunk.Offset != r.offset {
				return 0, errTarGap
			}
			r.data = part.Chunk.Data
			r.offset += uint64(len(r.data))
			memory.Moved(len(r.data))
		case *agentv1.ArchivePutRequest_End:
			if part.End.TotalBytes != r.offset {
				return 0, connect.NewError(connect.CodeDataLoss, errors.New("the tar stream's length is not as told"))
			}
			r.ended = true
		default:
			return 0, connect.NewError(connect.CodeInvalidArgument, errors.New("a tar stream is opened once"))
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
