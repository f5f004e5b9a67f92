// Command pty runs a program on a pseudo-terminal, as a person at a keyboard
// would: what comes on standard input is typed, what the terminal shows goes to
// standard output, and each line "ROWS COLUMNS" on file descriptor 3 resizes
// the window. It ends with the program's exit code.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/creack/pty"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "pty:", err)
		code = 125
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) == 0 {
		return 0, errors.New("usage: pty PROGRAM [ARGUMENT]...")
	}
	command := exec.Command(args[0], args[1:]...)
	terminal, err := pty.StartWithSize(command, &pty.Winsize{Rows: 24, Cols: 80})
	if err != nil {
		return 0, err
	}
	go resizeOnDemand(terminal, os.NewFile(3, "resize"))
	go func() { _, _ = io.Copy(terminal, os.Stdin) }()
	// A terminal whose program has ended reads as EIO: that is its end of file.
	_, _ = io.Copy(os.Stdout, terminal)
	err = command.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

func resizeOnDemand(terminal *os.File, requests io.Reader) {
	lines := bufio.NewScanner(requests)
	for lines.Scan() {
		var size pty.Winsize
		if _, err := fmt.Sscanf(lines.Text(), "%d %d", &size.Rows, &size.Cols); err == nil {
			_ = pty.Setsize(terminal, &size)
		}
	}
}
