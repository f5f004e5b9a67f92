package shim

import (
	"os"
	"sync"
)

// shimLogLimit bounds a shim's own log; later lines are dropped, since the first
// ones show what went wrong.
const shimLogLimit = 1 << 20

// boundedFile is a file of limited size.
type boundedFile struct {
	mu   sync.Mutex
	file *os.File
	left int
}

func openBounded(name string, limit int) (*boundedFile, error) {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &boundedFile{file: file, left: limit}, nil
}

// Write drops what does not fit, without an error.
func (f *boundedFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(line) > f.left {
		f.left = 0
		return len(line), nil
	}
	f.left -= len(line)
	return f.file.Write(line)
}
