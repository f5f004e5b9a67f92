// Command sockerless-agent is the Go side of sockerless: one static binary that
// runs in any image.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sockerless/sockerless/agent/core/version"
	"github.com/sockerless/sockerless/agent/forwarder"
	"github.com/sockerless/sockerless/agent/host"
	"github.com/sockerless/sockerless/agent/host/nested"
	containerinit "github.com/sockerless/sockerless/agent/init"
	"github.com/sockerless/sockerless/agent/init/setpriv"
	"github.com/sockerless/sockerless/agent/notify"
	"github.com/sockerless/sockerless/agent/reaper"
	"github.com/sockerless/sockerless/agent/shim"
	"github.com/sockerless/sockerless/agent/tlsport"
)

// initName is the name under which the binary is the init of `docker run
// --init`; it is bound into the container there.
const initName = "docker-init"

// modes are the subcommands. Each gets the arguments after its name and returns
// the exit code.
var modes = map[string]func(arguments []string) int{
	"host":           host.Main,
	"shim":           shim.Main,
	"init":           containerinit.Main,
	"forwarder":      forwarder.Main,
	"tls-terminator": tlsport.Main,
	"tls-dialer":     tlsport.DialerMain,
	"call":           containerinit.Call,
	"cp":             containerinit.Copy,
	"copy-image":     containerinit.CopyImage,
	"reach":          containerinit.Reach,
	"notify":         notify.Main,
	"version":        printVersion,
	setpriv.Name:     setpriv.Main,
	nested.Name:      nested.Main,
}

func main() {
	if filepath.Base(os.Args[0]) == initName {
		os.Exit(reaper.Main(os.Args[1:]))
	}
	if len(os.Args) > 1 {
		if mode := modes[os.Args[1]]; mode != nil {
			os.Exit(mode(os.Args[2:]))
		}
	}
	fmt.Fprintln(os.Stderr, "usage: sockerless-agent shim|host|forwarder|tls-terminator|tls-dialer|init|call|reach|cp|copy-image|notify|version …")
	os.Exit(2)
}

func printVersion([]string) int {
	fmt.Println(version.Version)
	return 0
}
