// Package volumes keeps the directories that outlive containers, and fills them
// from images.
package volumes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"connectrpc.com/connect"

	"github.com/sockerless/sockerless/agent/host/trash"
)

// Store holds the directory volumes of one instance: <dir>/<name>/_data.
type Store struct {
	dir   string
	trash *trash.Can
}

// Open makes the store's directory. Removed volumes go to the trash, which lies
// on the same file system.
func Open(dir string, can *trash.Can) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open volumes: %w", err)
	}
	return &Store{dir, can}, nil
}

// maxName is what a directory's name may have.
const maxName = 255

var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func (s *Store) path(name string) (string, error) {
	if len(name) > maxName || !namePattern.MatchString(name) {
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is not a volume name", name))
	}
	return filepath.Join(s.dir, name), nil
}

// Create makes the volume, unless it is there, and answers its directory.
func (s *Store) Create(name string) (string, error) {
	path, err := s.path(name)
	if err != nil {
		return "", err
	}
	data := filepath.Join(path, "_data")
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("create volume: %w", err)
	}
	if err := os.Mkdir(data, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("create volume: %w", err)
	} else if err == nil {
		err = os.Chmod(data, 0o755) // whatever our umask
		if err != nil {
			return "", fmt.Errorf("create volume: %w", err)
		}
	}
	return data, nil
}

// Remove makes the volume disappear; its files are deleted behind the answer. A
// missing one is no error.
func (s *Store) Remove(name string) error {
	path, err := s.path(name)
	if err != nil {
		return err
	}
	return s.trash.Discard(path)
}
