package shim

import (
	"errors"
	"strings"

	"github.com/sockerless/sockerless/agent/core/session"
)

// Exit codes of a command that could not be executed, as in Docker.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitUnknown       = 128
)

// createFailure words an error of `create` as dockerd does.
func createFailure(err error) *session.StartError {
	return failureOf("failed to create task for container: failed to create shim task: OCI runtime create failed: ", err)
}

// startFailure words an error of `start`.
func startFailure(err error) *session.StartError {
	return failureOf("OCI runtime start failed: ", err)
}

// execFailure words an error of `exec`. dockerd returns 126 for an unknown
// reason.
func execFailure(err error) *session.StartError {
	failure := failureOf("OCI runtime exec failed: ", err)
	if failure.ExitCode == exitUnknown {
		failure.ExitCode = exitNotExecutable
	}
	return failure
}

func failureOf(prefix string, err error) *session.StartError {
	message := err.Error()
	var refused *runtimeError
	if errors.As(err, &refused) {
		message = prefix + refused.reason + ": unknown"
	}
	return classify(message)
}

// classify derives the exit code from the message, since a runtime gives nothing
// else. The order and the additions are dockerd's; the docker CLI matches on
// them.
func classify(message string) *session.StartError {
	lower := strings.ToLower(message)
	switch {
	case strings.Contains(lower, "permission denied"):
		return &session.StartError{ExitCode: exitNotExecutable, Message: message}
	case strings.Contains(lower, "is a directory"):
		return &session.StartError{ExitCode: exitNotExecutable, Message: message + ": permission denied"}
	case strings.Contains(lower, "not a directory"):
		return &session.StartError{ExitCode: exitNotFound, Message: message +
			": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"}
	case strings.Contains(lower, "executable file not found"), strings.Contains(lower, "no such file or directory"):
		return &session.StartError{ExitCode: exitNotFound, Message: message}
	}
	return &session.StartError{ExitCode: exitUnknown, Message: message}
}
