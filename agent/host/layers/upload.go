package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"connectrpc.com/connect"
)

// maxBytes bounds an upload and its uncompressed size: far above any layer, but
// it stops an endless stream.
const maxBytes = 256 << 30

// Taken describes a received upload.
type Taken struct {
	Digest      string // of the bytes as they came
	Size        uint64 // of them
	DiffID      string // digest of the tar
	TarSize     uint64
	Compression string // empty: none
}

// Upload is a layer that is stored, measured and unpacked while it is received.
type Upload struct {
	takenOnce
	store  *Store
	blob   string
	forget func()
	taken  Taken
	// tree is the directory of the unpacked layer, until Unpack or Close takes
	// it; guarded by the lock of the store's uploads.
	tree  string
	layer Layer
}

// OpenUpload announces an upload to be stored as the file blob, which must not
// exist. The caller closes the upload.
func (s *Store) OpenUpload(id, blob string) (upload *Upload, err error) {
	upload = &Upload{takenOnce: newTakenOnce(func() {}), store: s, blob: blob}
	upload.forget, err = s.uploads.add(id, upload)
	return upload, err
}

// FindUpload returns an open upload, or nil.
func (s *Store) FindUpload(id string) *Upload { return s.uploads.find(id) }

// Close forgets the upload and removes what Unpack has not taken. The blob stays
// if it is complete. It is called once.
func (u *Upload) Close() error {
	u.forget()
	u.abandon()
	u.store.uploads.mu.Lock()
	tree := u.tree
	u.tree = ""
	u.store.uploads.mu.Unlock()
	if tree == "" {
		return nil
	}
	return u.store.trash.Discard(tree)
}

// uploadedTree hands over the layer that an upload has unpacked.
func (s *Store) uploadedTree(diffID string) (tree string, layer Layer, found bool) {
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	for _, upload := range s.uploads.all {
		if upload.tree != "" && upload.layer.DiffID == diffID {
			tree, upload.tree = upload.tree, ""
			return tree, upload.layer, true
		}
	}
	return "", Layer{}, false
}

// Done is closed once the upload is complete, or has failed.
func (u *Upload) Done() <-chan struct{} { return u.done }

// Taken returns the upload's description; call it once Done is closed.
func (u *Upload) Taken() (Taken, error) { return u.taken, u.err }

// Take stores and unpacks the upload, once. A cut stream or an incomplete tar
// leaves nothing.
func (u *Upload) Take(ctx context.Context, source io.Reader) error {
	return u.run(ctx, func(ctx context.Context) error { return u.take(ctx, source) })
}

func (u *Upload) take(ctx context.Context, source io.Reader) (err error) {
	file, err := os.OpenFile(u.blob, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	temporary, err := os.MkdirTemp(u.store.dir, unfinished)
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(u.blob))
	}
	stored := newMeasured(file)
	unpacked := stored
	var layer Layer
	err = fanOut(ctx, source,
		func(r io.Reader) error {
			_, err := io.Copy(stored, r)
			return err
		},
		func(r io.Reader) (err error) {
			plain, err := decompress(r)
			if err != nil {
				return classify(err)
			}
			defer plain.Close()
			u.taken.Compression = plain.compression
			target := filepath.Join(temporary, "diff")
			if plain.compression == "" {
				layer, err = unpackTar(ctx, plain, target)
			} else {
				layer, unpacked, err = unpackMeasured(ctx, plain, target)
			}
			if err != nil {
				return classify(err)
			}
			return nil
		})
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(u.blob), u.store.trash.Discard(temporary))
	}
	u.taken.Digest, u.taken.Size = stored.digest(), stored.size
	u.taken.DiffID, u.taken.TarSize = unpacked.digest(), unpacked.size
	layer.DiffID, layer.TarSize = u.taken.DiffID, u.taken.TarSize
	u.store.uploads.mu.Lock()
	u.tree, u.layer = temporary, layer
	u.store.uploads.mu.Unlock()
	return nil
}

func newMeasured(to io.Writer) *measured { return &measured{hash: sha256.New(), to: to} }

// measured counts and hashes what is written through it.
type measured struct {
	hash hash.Hash
	to   io.Writer
	size uint64
}

func (m *measured) Write(p []byte) (int, error) {
	m.size += uint64(len(p))
	if m.size > maxBytes {
		return 0, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("content is larger than %d bytes", maxBytes))
	}
	m.hash.Write(p)
	return m.to.Write(p)
}

func (m *measured) digest() string { return "sha256:" + hex.EncodeToString(m.hash.Sum(nil)) }
