package worker

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// showArchive fills a skeleton with the existing files at the paths of an archive that an ADD unpacks. It refuses an
// archive that exceeds the limits before anything is unpacked, and returns false for a file that is not an archive.
// The caller has a slot for what is in xz or zstd.
func (w *Worker) showArchive(ctx context.Context, skeleton *tree, file, name, dest string) (bool, error) {
	if info, err := os.Lstat(file); err != nil || !info.Mode().IsRegular() {
		return false, nil
	}
	packed, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer packed.Close()
	content, err := decompress(bufio.NewReader(packed))
	if err != nil {
		return false, nil
	}
	defer content.Close()
	archive := tar.NewReader(content)
	header, err := archive.Next()
	if demandsTooMuch(err) {
		return true, err
	}
	if err != nil {
		return false, nil
	}
	met := &meeting{
		skeleton: skeleton, dest: dest, isThere: map[uint64]bool{},
		count: &unpacking{limits: w.limits.Context, what: "the archive " + strings.TrimPrefix(name, "/") + ", unpacked,"},
	}
	for err == nil {
		if err := met.collect(ctx, header); err != nil {
			return true, err
		}
		header, err = archive.Next()
	}
	if err := met.addCollected(ctx); err != nil {
		return true, err
	}
	if err != io.EOF {
		return true, err
	}
	// BuildKit reads on behind the end, where the next stream of a compression may demand more.
	if _, err := io.CopyN(io.Discard, content, maxTrailer+1); err == nil {
		return true, fmt.Errorf("the archive %s goes on for more than %d bytes behind its end", strings.TrimPrefix(name, "/"), maxTrailer)
	} else if err != io.EOF {
		return true, err
	}
	return true, nil
}

// maxTrailer bounds what follows an archive's end, which is padding.
const maxTrailer = 1 << 20

// meeting matches the entries of an archive with a skeleton.
type meeting struct {
	skeleton *tree
	dest     string
	count    *unpacking
	// The archive's directories by the hashes of their names, and whether the skeleton has them.
	isThere map[uint64]bool
	// Entries read ahead, and the bytes of their names and content.
	collected []*tar.Header
	bytes     int64
}

// maxCollectedBytes bounds what is read of an archive before it is checked.
const maxCollectedBytes = 1 << 20

var meetingSeed = maphash.MakeSeed()

// collect keeps an entry until there are enough to ask for their paths at once.
func (m *meeting) collect(ctx context.Context, header *tar.Header) error {
	m.collected = append(m.collected, &tar.Header{Name: header.Name, Typeflag: header.Typeflag, Size: header.Size})
	m.bytes += min(header.Size, maxCollectedBytes) + int64(len(header.Name))
	if len(m.collected) < maxAsked && m.bytes < maxCollectedBytes {
		return nil
	}
	return m.addCollected(ctx)
}

func (m *meeting) addCollected(ctx context.Context) error {
	headers := m.collected
	m.collected, m.bytes = nil, 0
	at, _, err := m.skeleton.lookAt(ctx, m.dest)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		var paths []string
		for _, each := range headers {
			if name := path.Join(at, path.Clean("/"+each.Name)); len(name) <= maxAheadBytes {
				paths = append(paths, name)
			}
		}
		if err := m.skeleton.lookAll(ctx, paths); err != nil {
			return err
		}
	}
	for _, each := range headers {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := m.add(ctx, each); err != nil {
			return err
		}
	}
	return nil
}

func (m *meeting) add(ctx context.Context, header *tar.Header) error {
	if err := refuseLong(header.Name); err != nil {
		return err
	}
	name := path.Clean("/" + header.Name)
	if header.Typeflag == tar.TypeDir {
		if _, isKnown := m.isThere[maphash.String(meetingSeed, name)]; !isKnown {
			_, err := m.enter(ctx, name)
			return err
		}
	}
	if err := m.count.add(header.Size); err != nil {
		return err
	}
	if isThere, err := m.enter(ctx, path.Dir(name)); err != nil || !isThere {
		return err
	}
	_, err := m.look(ctx, name)
	return err
}

// enter counts a new directory, which need not have an entry, and reports whether the skeleton has it.
func (m *meeting) enter(ctx context.Context, name string) (isThere bool, err error) {
	key := maphash.String(meetingSeed, name)
	if isThere, isKnown := m.isThere[key]; isKnown {
		return isThere, nil
	}
	isThere = true
	if name != "/" {
		if err := m.count.add(0); err != nil {
			return false, err
		}
		if isThere, err = m.enter(ctx, path.Dir(name)); err != nil {
			return false, err
		}
	}
	if isThere {
		if isThere, err = m.look(ctx, name); err != nil {
			return false, err
		}
	}
	m.isThere[key] = isThere
	return isThere, nil
}

// look looks up a path of the archive in the skeleton, and reports whether it is a directory.
func (m *meeting) look(ctx context.Context, name string) (bool, error) {
	info, err := m.skeleton.look(ctx, path.Join(m.dest, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.IsDir(), err
}
