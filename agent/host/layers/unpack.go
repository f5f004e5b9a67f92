package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/faultpoint"
	"github.com/sockerless/sockerless/agent/host/confined"
)

// Unpack makes the layer of a blob (tar: plain, gzip or zstd) available and
// answers the bytes of its regular files, and whether it was there before.
// INVALID_ARGUMENT: the blob is no whole tar, or has an entry that must not be
// followed. DATA_LOSS: its uncompressed bytes do not have the digest diffID.
func (s *Store) Unpack(ctx context.Context, diffID, blob string) (size uint64, existed bool, err error) {
	dir, err := s.path(diffID)
	if err != nil {
		return 0, false, err
	}
	unlock, err := s.locks.Lock(ctx, dir)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	_, layer, err := s.find(diffID)
	if err == nil {
		return layer.Size, true, nil
	}
	if connect.CodeOf(err) != connect.CodeNotFound {
		return 0, false, err
	}
	// A directory without layer.json was never published by us.
	if err := confined.RemovePath(dir); err != nil {
		return 0, false, err
	}
	temporary, err := os.MkdirTemp(s.dir, unfinished)
	if err != nil {
		return 0, false, fmt.Errorf("unpack layer %s: %w", diffID, err)
	}
	layer, err = unpackBlob(ctx, diffID, blob, filepath.Join(temporary, "diff"))
	faultpoint.Reached("host.layer.unpacked")
	if err == nil {
		err = s.publish(temporary, dir, layer)
	}
	faultpoint.Reached("host.layer.published")
	if err != nil {
		err = errors.Join(fmt.Errorf("unpack layer %s: %w", diffID, err), confined.RemovePath(temporary))
		return 0, false, err
	}
	return layer.Size, false, nil
}

func unpackBlob(ctx context.Context, diffID, blob, target string) (Layer, error) {
	layer := Layer{Version: version, DiffID: diffID}
	file, err := openBlob(blob)
	if err != nil {
		return layer, err
	}
	defer file.Close()
	plain, err := decompress(&cancellableReader{ctx, file})
	if err != nil {
		return layer, classify(err)
	}
	defer plain.Close()
	if err := os.Mkdir(target, 0o755); err != nil {
		return layer, err
	}
	root, err := confined.Open(target)
	if err != nil {
		return layer, err
	}
	defer root.Close()

	digest := sha256.New()
	u, err := newUnpacker(ctx, io.TeeReader(plain, digest), root)
	if err != nil {
		return layer, err
	}
	if err := u.unpackAll(); err != nil {
		return layer, classify(err)
	}
	layer.Size, layer.RootStated, layer.RootOpaque = u.size, u.rootStated, u.rootOpaque
	if got := "sha256:" + hex.EncodeToString(digest.Sum(nil)); got != diffID {
		return layer, connect.NewError(connect.CodeDataLoss, fmt.Errorf("the layer's content has the digest %s", got))
	}
	return layer, nil
}

// openBlob opens a regular file; a fifo or device in its place cannot block us.
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
