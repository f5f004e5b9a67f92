package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/core/memory"
	"github.com/sockerless/sockerless/agent/host/confined"
)

// Unpack makes the layer of a blob (tar: plain, gzip or zstd) available and
// returns it, and whether it existed already. TarSize is 0 if the blob was not
// read: then nobody knows whether it is the layer's. INVALID_ARGUMENT: the blob
// is not a complete tar, or has an entry that must not be followed. DATA_LOSS:
// its uncompressed bytes do not have the digest diffID.
func (s *Store) Unpack(ctx context.Context, diffID, blob string) (layer Layer, existed bool, err error) {
	dir, err := s.path(diffID)
	if err != nil {
		return Layer{}, false, err
	}
	// A blob may claim to be any layer, and take long to be found out: it holds up
	// nobody who has the layer's own.
	unlock, err := s.locks.Lock(ctx, dir+" "+blob)
	if err != nil {
		return Layer{}, false, err
	}
	defer unlock()
	if layer, err = s.unpacked(diffID); connect.CodeOf(err) != connect.CodeNotFound {
		return layer, err == nil, err
	}
	temporary, layer, isUnpacked := s.uploadedTree(diffID)
	err = nil
	if !isUnpacked {
		if err := s.unpacking.Acquire(ctx, 1); err != nil {
			return Layer{}, false, context.Cause(ctx)
		}
		defer s.unpacking.Release(1)
		if temporary, err = os.MkdirTemp(s.dir, unfinished); err != nil {
			return Layer{}, false, fmt.Errorf("unpack layer %s: %w", diffID, err)
		}
		layer, err = unpackBlob(ctx, diffID, blob, filepath.Join(temporary, "diff"))
	}
	faultpoint.Reached("host.layer.unpacked")
	if err == nil {
		layer, existed, err = s.publishOnce(ctx, temporary, dir, layer)
	}
	faultpoint.Reached("host.layer.published")
	if err != nil {
		err = errors.Join(fmt.Errorf("unpack layer %s: %w", diffID, err), s.trash.Discard(temporary))
		return Layer{}, false, err
	}
	if isUnpacked {
		layer.TarSize = 0
	}
	memory.GiveBackSoon()
	return layer, existed, nil
}

// unpacked finds a layer, of whose tar nothing is said.
func (s *Store) unpacked(diffID string) (Layer, error) {
	_, layer, err := s.find(diffID)
	if err != nil {
		return Layer{}, err
	}
	layer.TarSize = 0
	return layer, nil
}

// publishOnce publishes a layer, unless another blob's has been published
// meanwhile.
func (s *Store) publishOnce(ctx context.Context, temporary, dir string, layer Layer) (_ Layer, existed bool, err error) {
	unlock, err := s.locks.Lock(ctx, dir)
	if err != nil {
		return Layer{}, false, err
	}
	defer unlock()
	known, err := s.unpacked(layer.DiffID)
	if err == nil {
		known.TarSize = layer.TarSize
		return known, true, s.trash.Discard(temporary)
	}
	if connect.CodeOf(err) != connect.CodeNotFound {
		return Layer{}, false, err
	}
	// A directory without layer.json was never published.
	if err := s.trash.Discard(dir); err != nil {
		return Layer{}, false, err
	}
	return layer, false, s.publish(temporary, dir, layer)
}

func unpackBlob(ctx context.Context, diffID, blob, target string) (Layer, error) {
	file, err := openBlob(blob)
	if err != nil {
		return Layer{}, err
	}
	defer file.Close()
	plain, err := decompressFile(ctx, file)
	if err != nil {
		return Layer{}, classify(err)
	}
	defer plain.Close()
	layer, tar, err := unpackMeasured(ctx, plain, target)
	if err != nil {
		return Layer{}, classify(err)
	}
	layer.DiffID, layer.TarSize = diffID, tar.size
	if got := tar.digest(); got != diffID {
		return layer, connect.NewError(connect.CodeDataLoss, fmt.Errorf("the layer's content has the digest %s", got))
	}
	return layer, nil
}

// unpackMeasured unpacks a tar and measures it at the same time.
func unpackMeasured(ctx context.Context, tar io.Reader, target string) (layer Layer, size *measured, err error) {
	size = newMeasured(io.Discard)
	err = fanOut(ctx, tar,
		func(r io.Reader) error {
			_, err := io.Copy(size, r)
			return err
		},
		func(r io.Reader) (err error) {
			layer, err = unpackTar(ctx, r, target)
			return err
		})
	return layer, size, err
}

// unpackTar unpacks in turns into the directory target, which it creates. The layer
// has no diff ID yet.
func unpackTar(ctx context.Context, tar io.Reader, target string) (Layer, error) {
	layer := Layer{Version: version}
	if err := os.Mkdir(target, 0o755); err != nil {
		return layer, err
	}
	root, err := confined.Open(target)
	if err != nil {
		return layer, err
	}
	defer root.Close()
	share := atWork.share()
	if err := share.begin(ctx); err != nil {
		return layer, err
	}
	defer share.end()
	u, err := newUnpacker(func() error { return share.renew(ctx) }, &turnReader{ctx, tar, share}, root)
	if err != nil {
		return layer, err
	}
	if err := u.unpackAll(); err != nil {
		return layer, err
	}
	layer.Size, layer.RootStated, layer.RootOpaque = u.size, u.rootStated, u.rootOpaque
	return layer, nil
}

// openBlob opens a regular file; a FIFO or device in its place cannot block it.
func openBlob(name string) (*os.File, error) {
	file, err := os.OpenFile(name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, connect.NewError(connect.CodeNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%s is not a regular file", name))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

type cancellableReader struct {
	ctx    context.Context
	source io.Reader
}

func (r *cancellableReader) Read(buffer []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.source.Read(buffer)
}
