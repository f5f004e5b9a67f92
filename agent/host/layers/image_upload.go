package layers

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/klauspost/compress/gzip"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// maxEntries bounds an archive of images; Docker's own have a handful per layer.
const maxEntries = 65_536

// ImageUpload is an archive of images, stored and measured while it is received.
type ImageUpload struct {
	// Entries receives each entry once it is stored; it is closed at the end.
	Entries chan *hostv1.ArchiveEntry

	takenOnce
	dir    string
	forget func()
}

// OpenImageUpload announces an archive whose files are stored in dir, which must
// not exist. The caller closes the upload.
func (s *Store) OpenImageUpload(id, dir string) (upload *ImageUpload, err error) {
	entries := make(chan *hostv1.ArchiveEntry)
	upload = &ImageUpload{Entries: entries, takenOnce: newTakenOnce(func() { close(entries) }), dir: dir}
	upload.forget, err = s.imageUploads.add(id, upload)
	return upload, err
}

// FindImageUpload returns an open upload, or nil.
func (s *Store) FindImageUpload(id string) *ImageUpload { return s.imageUploads.find(id) }

// Close forgets the upload and removes its directory. It is called once.
func (u *ImageUpload) Close() error {
	u.forget()
	u.abandon()
	return os.RemoveAll(u.dir)
}

// Err returns why the upload failed; call it once Entries is closed.
func (u *ImageUpload) Err() error {
	<-u.done
	return u.err
}

// Take stores the archive, once.
func (u *ImageUpload) Take(ctx context.Context, source io.Reader) error {
	return u.run(ctx, func(ctx context.Context) error {
		if err := u.take(ctx, source); err != nil {
			return classify(err)
		}
		return nil
	})
}

func (u *ImageUpload) take(ctx context.Context, source io.Reader) error {
	if err := os.Mkdir(u.dir, 0o700); err != nil {
		return err
	}
	plain, err := decompress(source)
	if err != nil {
		return err
	}
	defer plain.Close()
	files := tar.NewReader(plain)
	for count := 1; ; count++ {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			_, err := io.Copy(io.Discard, plain) // up to its end, unless it was cut
			if errors.Is(err, gzip.ErrHeader) {
				// Padding after gzip's end is ignored, as by gzip.
				_, err = io.Copy(io.Discard, source)
			}
			return err
		}
		if err != nil {
			return err
		}
		if count > maxEntries {
			return fmt.Errorf("archive has more than %d entries", maxEntries)
		}
		entry := &hostv1.ArchiveEntry{Name: header.Name}
		switch header.Typeflag {
		case tar.TypeReg, tar.TypeCont:
			stored, err := u.store(ctx, strconv.Itoa(count), header, files)
			if err != nil {
				return err
			}
			entry.Kind = &hostv1.ArchiveEntry_File{File: stored}
		case tar.TypeSymlink:
			entry.Kind = &hostv1.ArchiveEntry_Symlink{Symlink: header.Linkname}
		case tar.TypeLink:
			entry.Kind = &hostv1.ArchiveEntry_HardLink{HardLink: header.Linkname}
		case tar.TypeDir:
			entry.Kind = &hostv1.ArchiveEntry_Folder{Folder: &hostv1.Folder{}}
		}
		select {
		case u.Entries <- entry:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// store writes and measures a file.
func (u *ImageUpload) store(ctx context.Context, name string, header *tar.Header, content io.Reader) (*hostv1.StoredFile, error) {
	if isSparse(header) { // A few bytes can stand for an exabyte of zeros.
		return nil, errors.New("archives with sparse files are not supported")
	}
	file, err := os.OpenFile(filepath.Join(u.dir, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	measure := newMeasured(io.Discard)
	err = fanOut(ctx, content,
		func(r io.Reader) error {
			_, err := io.Copy(measure, r)
			return err
		},
		func(r io.Reader) error {
			_, err := io.Copy(file, r)
			return err
		})
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	return &hostv1.StoredFile{Path: file.Name(), Digest: measure.digest(), Size: measure.size}, nil
}
