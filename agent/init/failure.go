package containerinit

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/session"
	"github.com/sockerless/sockerless/agent/init/setpriv"
)

// startFailed words a failed start of the main process as dockerd does: clients
// match on it, and there is no runtime to word it.
func startFailed(err error) error {
	return worded("failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ", err)
}

// execFailed does the same for an exec.
func execFailed(err error) error {
	return worded("OCI runtime exec failed: exec failed: ", err)
}

// worded leaves any error but the process's own failure unchanged.
func worded(prefix string, err error) error {
	var failure *session.StartError
	if !errors.As(err, &failure) {
		return err
	}
	return &session.StartError{
		ExitCode: failure.ExitCode,
		Message:  prefix + "unable to start container process: " + failure.Message + ": unknown",
	}
}

// directoryFailed is the failure to create a working directory.
func directoryFailed(err error) error {
	code := setpriv.Unknown
	if errors.Is(err, unix.ENOTDIR) {
		code = setpriv.NotFound
	}
	return &session.StartError{ExitCode: code, Message: "error during container init: " + err.Error()}
}
