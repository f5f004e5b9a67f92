package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/levels"
)

// whiteoutPrefix marks, in an OCI layer, a name of the layers beneath that this
// one deletes.
const whiteoutPrefix = ".wh."

// WriteTar writes the whole file system. Names have no leading "/", and the root
// has no entry of its own; for the rest see Tree.WriteTar.
func (l Layers) WriteTar(ctx context.Context, w io.Writer) error {
	root, err := openLevel(append([]string{l.Upper}, l.Lower...))
	if err != nil {
		return errors.Join(err, l.stillThere())
	}
	defer root.close()
	return l.writeTar(ctx, w, func(a *appender) error { return a.addLevel(root, "", 0) })
}

// WriteLayer writes the difference from the image as an OCI layer: changed files,
// the directories that lead to them, and whiteouts. What was created as a mount
// point at these absolute paths is left out.
func (l Layers) WriteLayer(ctx context.Context, w io.Writer, mountPoints []string) error {
	stubs, err := stubsOf(l.Lower, mountPoints)
	if err != nil {
		return err
	}
	return l.writeTar(ctx, w, func(a *appender) error {
		return l.walkChanges(ctx, changeReporter{visit: a.addChange, stubs: stubs}, true)
	})
}

// addChange writes a change as an entry of an OCI layer.
func (a *appender) addChange(change Change, fd int, st *unix.Stat_t) error {
	entry := strings.TrimPrefix(change.Path, "/")
	switch {
	case change.Kind == Deleted:
		return a.addWhiteout(entry)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return a.writeHeader(newHeader(st, entry))
	case strings.HasPrefix(path.Base(entry), whiteoutPrefix):
		return nil // no layer can have a file with such a name
	}
	return a.add(fd, "", entry, 0)
}

func (l Layers) writeTar(ctx context.Context, w io.Writer, entries func(*appender) error) error {
	return writeTar(ctx, w, func(a *appender) error {
		if err := entries(a); err != nil {
			return err
		}
		return l.stillThere()
	})
}

// writeTar writes a complete tar stream, or returns an error.
func writeTar(ctx context.Context, w io.Writer, entries func(*appender) error) error {
	out := bufio.NewWriterSize(w, headerBuffer)
	a := &appender{ctx: ctx, out: tar.NewWriter(out), seen: map[inode]string{}}
	if err := entries(a); err != nil {
		return err
	}
	if err := a.out.Close(); err != nil {
		return err
	}
	return out.Flush()
}

func (a *appender) addWhiteout(entry string) error {
	directory, base := path.Split(entry)
	return a.writeHeader(&tar.Header{
		Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: directory + whiteoutPrefix + base, Mode: 0o600,
	})
}

// addLevel writes the merged content of an overlay's directory.
func (a *appender) addLevel(l level, entry string, depth int) error {
	leave, err := levels.Enter(entry, depth, len(l)+1)
	if err != nil {
		return err
	}
	defer leave()
	return l.eachName(func(layer int, name string, st *unix.Stat_t) error {
		child := path.Join(entry, name)
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return a.add(l[layer], name, child, depth)
		}
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		below, err := l.descend(name)
		if err != nil || len(below) == 0 {
			return err
		}
		defer below.close()
		if err := a.writeHeader(newHeader(st, child)); err != nil {
			return err
		}
		return a.addLevel(below, child, depth+1)
	})
}
