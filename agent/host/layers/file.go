package layers

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFile creates a regular file with the entry's content.
func (u *unpacker) writeFile(parent int, base string, header *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), base)
	if isSparse(header) {
		err = u.copySparse(file, header.Size)
	} else {
		err = u.copy(file)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	u.size += uint64(header.Size)
	return nil
}

func (u *unpacker) copy(file *os.File) error {
	for {
		n, err := u.tar.Read(u.buffer)
		if n > 0 {
			if _, err := file.Write(u.buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func isSparse(header *tar.Header) bool {
	if header.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for record := range header.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// copySparse preserves the entry's holes.
func (u *unpacker) copySparse(file *os.File, size int64) error {
	if uint64(size) > u.sparseAllowance {
		return fmt.Errorf("sparse files of %d bytes more are larger than the file system", size)
	}
	u.sparseAllowance -= uint64(size)
	if err := file.Truncate(size); err != nil {
		return err
	}
	zeros := make([]byte, len(u.buffer))
	for offset := int64(0); ; {
		if err := u.pause(); err != nil { // reading holes does not read the blob
			return err
		}
		n, err := io.ReadFull(u.tar, u.buffer)
		if chunk := u.buffer[:n]; !bytes.Equal(chunk, zeros[:n]) {
			if _, err := file.WriteAt(chunk, offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if errors.Is(err, io.EOF) || (errors.Is(err, io.ErrUnexpectedEOF) && offset == size) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
