package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"connectrpc.com/connect"

	hostv1 "github.com/sockerless/sockerless/proto/gen/sockerless/host/v1"
)

// Archive is an archive of images, composed of bytes and layers' tars.
type Archive struct{ parts []*hostv1.ArchivePart }

// OfferArchive makes an archive available until forget is called.
func (s *Store) OfferArchive(id string, parts []*hostv1.ArchivePart) (forget func(), err error) {
	return s.archives.add(id, &Archive{parts: parts})
}

// FindArchive returns an offered archive, or nil.
func (s *Store) FindArchive(id string) *Archive { return s.archives.find(id) }

// WriteTar writes the archive. A layer that does not match its description is an
// error before the archive is complete.
func (a *Archive) WriteTar(ctx context.Context, out io.Writer) error {
	for _, part := range a.parts {
		var err error
		switch part := part.Part.(type) {
		case *hostv1.ArchivePart_Content:
			_, err = out.Write(part.Content)
		case *hostv1.ArchivePart_Layer:
			err = writeLayer(ctx, out, part.Layer)
		default:
			err = connect.NewError(connect.CodeInvalidArgument, errors.New("a part of the archive is unknown"))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeLayer writes and measures a layer's tar.
func writeLayer(ctx context.Context, out io.Writer, layer *hostv1.LayerTar) error {
	blob, err := os.Open(layer.BlobPath)
	if err != nil {
		return err
	}
	defer blob.Close()
	plain, err := decompress(blob)
	if err != nil {
		return classify(err)
	}
	defer plain.Close()
	content := newMeasured(io.Discard)
	// One more byte detects a tar that is too long.
	err = fanOut(ctx, io.LimitReader(plain, int64(layer.Size)+1),
		func(r io.Reader) error {
			_, err := io.Copy(content, r)
			return err
		},
		func(r io.Reader) error {
			_, err := io.Copy(out, r)
			return err
		})
	if err != nil {
		return err
	}
	if content.size != layer.Size || content.digest() != layer.DiffId {
		return connect.NewError(connect.CodeDataLoss, fmt.Errorf("layer %s is damaged in the content store", layer.DiffId))
	}
	return nil
}
