// Package jsonfile stores records as JSON, one file each, replaced atomically.
package jsonfile

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"

	"github.com/sockerless/sockerless/agent/core/damage"
)

// Read returns false if the file is missing, incomplete or damaged: a crash of the
// machine can truncate a file that was not synced, and a disk can lose a block.
func Read(path string, value any) (bool, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, value)
	} else if !damage.IsOf(err) {
		return false, err
	}
	if err != nil {
		slog.Warn("a damaged record is not believed", "path", path, "error", err)
		return false, nil
	}
	return true, nil
}

// Write replaces the file atomically.
func Write(path string, value any) error { return replace(path, value, false) }

// WriteDurable is Write for records that must survive a crash of the machine.
func WriteDurable(path string, value any) error { return replace(path, value, true) }

func replace(path string, value any, durable bool) error {
	content, err := json.Marshal(value)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil && durable {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return os.Rename(file.Name(), path)
}
