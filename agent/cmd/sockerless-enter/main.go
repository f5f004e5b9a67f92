// Command sockerless-enter is what a shim starts for each exec: package nsenter and
// nothing else, since a process of the whole agent takes longer to begin and to
// end. It is beside the agent, which does the same where it is missing.
package main

import (
	"syscall"

	_ "github.com/sockerless/sockerless/agent/shim/nsenter" // its init is the program
)

func main() {
	_, _ = syscall.Write(2, []byte("this program is started by a shim of sockerless\n"))
	syscall.Exit(2)
}
