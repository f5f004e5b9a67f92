// Package steps has a command that does nothing.
package steps

import "github.com/urfave/cli"

const (
	SubCommandName = "steps"
	RecoveryEnvVar = "GITLAB_STEPS_ARGV"
)

func NewCommand() cli.Command { return cli.Command{Name: SubCommandName} }

func RecoverArgv() {}

func EncodeRecoveryArgv([]string) (string, error) { return "", nil }
