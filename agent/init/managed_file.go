package containerinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/names"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

// managedFile is a file that the platform has put into the container and that the
// agent rewrites. It may be a mount, so it is written in place.
type managedFile struct {
	path    string
	given   string // by the platform
	current string
	refusal error // why it cannot be written; nil: it can
}

func openManaged(path string) *managedFile {
	content, err := os.ReadFile(path)
	f := &managedFile{path: path, given: string(content), current: string(content)}
	writable := path
	if errors.Is(err, os.ErrNotExist) {
		writable, err = filepath.Dir(path), nil
	}
	if err == nil {
		err = unix.Faccessat(unix.AT_FDCWD, writable, unix.W_OK, unix.AT_EACCESS)
	}
	if err != nil {
		f.refusal = fmt.Errorf("cannot write %s: %w", path, err)
	}
	return f
}

// readdress updates the addresses of containers in a hosts file. Other lines
// stay.
func (f *managedFile) readdress(entries []*agentv1.HostsEntry) error {
	if f.refusal != nil || len(entries) == 0 {
		return nil // a start reports the error
	}
	f.current = names.Readdress(f.current, entries)
	return names.ReaddressFile(f.path, entries)
}

// write replaces the file's content. Readers see the old content or the new one,
// for a moment with the old one's end.
func (f *managedFile) write(content string) error {
	if content == f.current {
		return nil
	}
	if f.refusal != nil {
		return f.refusal
	}
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	_, err = file.WriteAt([]byte(content), 0)
	err = errors.Join(err, file.Truncate(int64(len(content))), file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.current = content
	return nil
}
