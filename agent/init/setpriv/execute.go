package setpriv

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/environment"
)

// failure is an execution error with an exit code.
type failure struct {
	exitCode int
	message  string
}

func (f *failure) Error() string { return f.message }

// defaultPath is searched if the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the program like execvp, as the program's user and in its
// directory.
func lookPath(name string, env []string) (string, error) {
	if name == "" {
		return "", &failure{NotFound, `exec: "": executable file not found in $PATH`}
	}
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return "", executeFailure(name, err)
		}
		return name, nil
	}
	path, known := environment.Lookup(env, "PATH")
	if !known {
		path = defaultPath
	}
	denied := false
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		candidate := dir + "/" + name
		err := executable(candidate)
		if err == nil {
			return candidate, nil
		}
		denied = denied || errors.Is(err, unix.EACCES)
	}
	if denied {
		return "", executeFailure(name, unix.EACCES)
	}
	return "", &failure{NotFound, fmt.Sprintf("exec: %q: executable file not found in $PATH", name)}
}

// executable returns why the calling user cannot execute a file.
func executable(name string) error {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.EISDIR
	}
	err := unix.Faccessat(unix.AT_FDCWD, name, unix.X_OK, unix.AT_EACCESS)
	if st.Mode&unix.S_IFMT != unix.S_IFREG || errors.Is(err, unix.EPERM) {
		return unix.EACCES
	}
	return err
}

// executeFailure words an execution error as Docker does.
func executeFailure(name string, err error) error {
	message := fmt.Sprintf("exec: %q: %v", name, err)
	switch {
	case errors.Is(err, unix.EISDIR):
		return &failure{NotExecutable, message + ": permission denied"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOEXEC), errors.Is(err, unix.ETXTBSY):
		return &failure{NotExecutable, message}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return &failure{NotFound, message}
	}
	return &failure{Unknown, message}
}

// dirFailure words a failure to enter the working directory.
func dirFailure(dir string, err error) error {
	message := fmt.Sprintf("chdir to cwd (%q) set in config.json failed: %v", dir, err)
	switch {
	case errors.Is(err, unix.EACCES):
		return &failure{NotExecutable, message}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return &failure{NotFound, message}
	}
	return &failure{Unknown, message}
}
