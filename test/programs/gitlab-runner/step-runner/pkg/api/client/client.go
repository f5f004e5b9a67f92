// Package client has the types of a client of the step runner, which nobody serves.
package client

import "time"

type Variable struct {
	Key, Value   string
	File, Masked bool
}

type RunRequest struct {
	Id                string
	Timeout           *time.Duration
	WorkDir, BuildDir string
	Env               map[string]string
	Steps             string
	Variables         []Variable
}

type State int

const (
	StateUnspecified State = iota
	StateRunning
	StateSuccess
	StateFailure
	StateCancelled
)

type ErrorKind int

const (
	ErrorUnknown ErrorKind = iota
	ErrorInternal
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
)

type Status struct {
	Id, Message string
	State       State
	ErrorKind   ErrorKind
	ExitCode    int
}
