// Command taskhost does on a simulated cloud's machine what needs a process of
// its own:
//
//	taskhost init                            is process 1 of a simulator's namespaces
//	taskhost filesystem DIRECTORY MOUNTPOINT shows a directory as an EFS access point does
//	taskhost share DIRECTORY MOUNTPOINT      shows a directory as an SMB share without POSIX extensions
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "taskhost:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: taskhost init|filesystem|share")
	}
	switch args[0] {
	case "init":
		return runInit()
	case "filesystem":
		return serveFileSystem(args[1:])
	case "share":
		return serveShare(args[1:])
	default:
		return fmt.Errorf("%s: no such mode", args[0])
	}
}
