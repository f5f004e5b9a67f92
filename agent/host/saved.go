package host

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/core/archive"
	"github.com/sockerless/sockerless/agent/core/handover"
	"github.com/sockerless/sockerless/agent/core/server"
	"github.com/sockerless/sockerless/agent/host/layers"
)

// saved is an archive of images, exported like a container's files.
type saved struct {
	server.Unimplemented
	archive *layers.Archive
	offers  *handover.Offers
}

// HandOvers accepts clients' connections.
func (s *saved) HandOvers() *handover.Offers { return s.offers }

// FileSystem returns an archive that can only be written.
func (s *saved) FileSystem(context.Context) (server.FileSystem, error) { return s, nil }

func (s *saved) WriteTar(ctx context.Context, out io.Writer) error {
	return s.archive.WriteTar(ctx, out)
}

var errNoContainer = connect.NewError(connect.CodeUnimplemented, errors.New("an archive of images has no container's files"))

func (s *saved) Changes(context.Context, func(archive.Change) error) error { return errNoContainer }
func (s *saved) WrittenBytes(context.Context) (uint64, error)              { return 0, errNoContainer }
func (s *saved) WriteLayer(context.Context, io.Writer, []string) error     { return errNoContainer }
