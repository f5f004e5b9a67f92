package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/damage"
)

const segmentSuffix = ".log"

// segment is one file of a log. Numbers only increase, so a file keeps its name
// when older ones are dropped.
type segment struct {
	number uint64
	path   string // empty: the file has no name (memory)
	file   *os.File
	stored *oneOpen     // in place of file, in a stored log
	size   atomic.Int64 // bytes of whole records
	next   *segment     // guarded by chain.mu
}

func segmentPath(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", number, segmentSuffix))
}

// createSegment creates an empty file; in memory if dir is empty.
func createSegment(dir string, number uint64) (*segment, error) {
	if dir == "" {
		fd, err := unix.MemfdCreate("sockerless-log", unix.MFD_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("create log in memory: %w", err)
		}
		return &segment{number: number, file: os.NewFile(uintptr(fd), "log")}, nil
	}
	path := segmentPath(dir, number)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create log file: %w", err)
	}
	return &segment{number: number, path: path, file: file}, nil
}

// errRemoved fails a stored log of several files: to go on would leave out lines.
var errRemoved = errors.New("a file of the log was removed while it was read: by a later run, or with its container")

// oneOpen is the file of a stored log that is open: a client that does not read keeps
// one descriptor, however many files there are.
type oneOpen struct {
	path string
	file *os.File
}

func (o *oneOpen) open(path string) (*os.File, error) {
	if o.file != nil && o.path == path {
		return o.file, nil
	}
	o.close()
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		err = errRemoved
	}
	o.path, o.file = path, file
	return file, err
}

func (o *oneOpen) close() {
	o.file.Close()
	o.file = nil
}

func (s *segment) readAt(p []byte, offset int64) (n int, err error) {
	file := s.file
	if s.stored != nil {
		if file, err = s.stored.open(s.path); err != nil {
			return 0, err
		}
	}
	return file.ReadAt(p, offset)
}

func (s *segment) close() {
	if s.stored != nil {
		s.stored.close()
	} else {
		s.file.Close()
	}
}

// openSegments opens the log files of dir, oldest first; none if dir does not
// exist.
func openSegments(dir string) ([]*segment, error) {
	segments, err := listSegments(dir)
	for i, s := range segments {
		if err == nil {
			s.file, err = os.OpenFile(s.path, os.O_RDWR|unix.O_NOFOLLOW, 0)
		}
		if err != nil {
			closeSegments(segments[:i])
			return nil, fmt.Errorf("open log file: %w", err)
		}
	}
	return segments, err
}

// listSegments lists the log files of dir, oldest first, and opens none.
func listSegments(dir string) ([]*segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list log files: %w", err)
	}
	var segments []*segment
	for _, entry := range entries {
		stem, isLog := strings.CutSuffix(entry.Name(), segmentSuffix)
		number, err := strconv.ParseUint(stem, 16, 64)
		if !isLog || err != nil || len(stem) != 16 {
			continue
		}
		s := &segment{number: number, path: segmentPath(dir, number)}
		segments = append(segments, s)
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("stat log file: %w", err)
		}
		s.size.Store(info.Size())
	}
	slices.SortFunc(segments, func(a, b *segment) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	for i := 1; i < len(segments); i++ {
		segments[i-1].next = segments[i]
	}
	return segments, nil
}

func closeSegments(segments []*segment) {
	for _, s := range segments {
		s.close()
	}
}

// wholeRecords finds the end of the file's whole records. damaged means that more
// than an interrupted write follows, or that the disk has lost something.
func (s *segment) wholeRecords() (end int64, damaged bool, err error) {
	end, damaged, err = s.readWholeRecords()
	if damage.IsOf(err) {
		return 0, true, nil
	}
	return end, damaged, err
}

func (s *segment) readWholeRecords() (end int64, damaged bool, err error) {
	size := s.size.Load()
	if size == 0 {
		return 0, false, nil
	}
	last := newBuffer(0)
	defer last.release()
	if _, _, err := s.recordBefore(size, last.bytes); err == nil {
		return size, false, nil // the usual case: no need to read the whole file
	} else if !errors.Is(err, errTorn) {
		return 0, false, err
	}
	buf := make([]byte, recordFraming+MaxRecord)
	for end < size {
		n, err := s.readAt(buf[:min(int64(len(buf)), size-end)], end)
		if err != nil && err != io.EOF {
			return 0, false, fmt.Errorf("read log file: %w", err)
		}
		b := buf[:n]
		advanced := false
		for {
			h, _, err := parseRecord(b)
			if err != nil {
				break
			}
			b = b[h.size():]
			end += h.size()
			advanced = true
		}
		if !advanced {
			break
		}
	}
	torn, err := s.isTorn(end, size)
	return end, !torn, err
}

// isTorn reports whether the bytes from offset to size are the beginning of a
// record, or the remains of a whole one after a crash of the machine: without its
// trailer.
func (s *segment) isTorn(offset, size int64) (bool, error) {
	if size-offset > recordFraming+MaxRecord {
		return false, nil
	}
	tail := make([]byte, size-offset)
	if _, err := s.readAt(tail, offset); err != nil && err != io.EOF {
		return false, fmt.Errorf("read log file: %w", err)
	}
	if written := bytes.TrimRight(tail, "\x00"); len(written) < headerSize {
		begun := min(len(written), len(magicBytes))
		return bytes.Equal(written[:begun], magicBytes[:begun]), nil
	}
	h, err := parseHeader(tail)
	if err != nil {
		return false, nil
	}
	return h.size() > int64(len(tail)) || len(bytes.TrimRight(tail[h.size()-trailerSize:], "\x00")) == 0, nil
}

// recordBefore reads the record that ends at offset end. It reads into buf, which
// grows as needed and is returned as part of rec.
func (s *segment) recordBefore(end int64, buf []byte) (start int64, rec []byte, err error) {
	var trailer [trailerSize]byte
	if end < recordFraming {
		return 0, buf, errTorn
	}
	if _, err := s.readAt(trailer[:], end-trailerSize); err != nil {
		return 0, buf, fmt.Errorf("read log file: %w", err)
	}
	size := int64(recordFraming) + int64(uint32(trailer[0])|uint32(trailer[1])<<8|uint32(trailer[2])<<16|uint32(trailer[3])<<24)
	if size > recordFraming+MaxRecord || size > end {
		return 0, buf, errTorn
	}
	buf = slices.Grow(buf[:0], int(size))[:size]
	if _, err := s.readAt(buf, end-size); err != nil {
		return 0, buf, fmt.Errorf("read log file: %w", err)
	}
	_, _, err = parseRecord(buf)
	return end - size, buf, err
}
