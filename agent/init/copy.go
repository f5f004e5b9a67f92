package containerinit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// binaryName is the agent's file name when it is copied into a directory.
const binaryName = "sockerless-agent"

// Copy is `sockerless-agent cp DEST`: it copies the running binary to DEST (into
// DEST, if that is a directory), with mode 0755, atomically. A directory of the
// caller's that all may write to is writable by its owner alone from then on, as the
// agent's files are in there too. It returns the process's exit code.
func Copy(arguments []string) int {
	if len(arguments) != 1 || arguments[0] == "" {
		fmt.Fprintln(os.Stderr, "usage: sockerless-agent cp DEST")
		return exitUsage
	}
	if err := copyTo(arguments[0]); err != nil {
		fmt.Fprintln(os.Stderr, "sockerless-agent cp:", err)
		return 1
	}
	return 0
}

func copyTo(dest string) (err error) {
	if info, err := os.Stat(dest); err == nil && info.IsDir() {
		dest = filepath.Join(dest, binaryName)
	}
	if err := keepOthersOut(filepath.Dir(dest)); err != nil {
		return fmt.Errorf("keep others out of the agent's directory: %w", err)
	}
	source, err := os.Open(ownBinary)
	if err != nil {
		return fmt.Errorf("open the agent's binary: %w", err)
	}
	defer source.Close()
	temporary, err := os.CreateTemp(filepath.Dir(dest), "."+binaryName+"-*")
	if err != nil {
		return fmt.Errorf("make the copy: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, temporary.Close(), os.Remove(temporary.Name()))
		}
	}()
	if _, err := io.Copy(temporary, source); err != nil {
		return fmt.Errorf("copy the agent: %w", err)
	}
	if err := temporary.Chmod(0o755); err != nil {
		return fmt.Errorf("make the copy executable: %w", err)
	}
	if err := temporary.Sync(); err != nil {
		return fmt.Errorf("write the copy out: %w", err)
	}
	if err := os.Rename(temporary.Name(), dest); err != nil {
		return fmt.Errorf("put the copy in place: %w", err)
	}
	return temporary.Close()
}

// keepOthersOut takes the right to write from group and others, where all have it, in
// a directory that the caller owns and that is not sticky.
func keepOthersOut(directory string) error {
	info, err := os.Stat(directory)
	if err != nil {
		return err
	}
	const groupAndOthers, others = 0o022, 0o002
	isOpen := info.Mode()&others != 0 && info.Mode()&os.ModeSticky == 0
	if !isOpen || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		return nil
	}
	return os.Chmod(directory, info.Mode()&^groupAndOthers)
}
