// Command fdwatch looks, in a container that may trace, at every process that it
// can see, again and again, for what is not the container's: above all at those
// that are on their way into the container and do not yet execute a program of
// its. It ends once it has seen as many of these as were asked for, and then
// prints each thing that it saw on a line of its own, as `COMMAND FD TARGET` or
// `COMMAND environ NAME`; COMMAND is "-" where the program is the container's.
package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: fdwatch COUNT")
		os.Exit(2)
	}
	wanted, err := strconv.Atoi(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fdwatch:", err)
		os.Exit(2)
	}
	w := &watch{own: map[file]bool{}, entering: map[string]bool{}, seen: map[string]bool{}}
	for _, program := range []string{"/proc/self/exe", "/bin/busybox"} {
		if program, ok := fileAt(program); ok {
			w.own[program] = true
		}
	}
	for len(w.entering) < wanted {
		w.look()
	}
	lines := []string{}
	for line := range w.seen {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
}

// file is what a path leads to.
type file struct{ device, inode uint64 }

func fileAt(path string) (found file, ok bool) {
	var stat syscall.Stat_t
	err := syscall.Stat(path, &stat)
	return file{uint64(stat.Dev), stat.Ino}, err == nil
}

type watch struct {
	own      map[file]bool   // the container's programs
	entering map[string]bool // processes that executed none of these
	seen     map[string]bool
}

func (w *watch) look() {
	processes, _ := os.ReadDir("/proc")
	self := strconv.Itoa(os.Getpid())
	for _, process := range processes {
		pid := process.Name()
		if pid[0] < '0' || pid[0] > '9' || pid == self {
			continue
		}
		// Before and after: one that executes meanwhile is neither.
		command, entering := w.commandOf(pid)
		found := append(descriptorsOf(pid), environmentOf(pid)...)
		if after, _ := w.commandOf(pid); after != command {
			continue
		}
		if entering {
			w.entering[pid] = true
		}
		for _, each := range found {
			w.seen[command+" "+each] = true
		}
	}
}

// commandOf also tells that the process executes no program of the container.
func (w *watch) commandOf(pid string) (command string, entering bool) {
	program, ok := fileAt("/proc/" + pid + "/exe")
	if !ok || w.own[program] {
		return "-", false
	}
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	if err != nil {
		return "-", false
	}
	return strings.TrimSpace(string(name)), true
}

var numbers = regexp.MustCompile(`\[\d+\]$`)

func descriptorsOf(pid string) (found []string) {
	directory := "/proc/" + pid + "/fd"
	descriptors, _ := os.ReadDir(directory)
	for _, descriptor := range descriptors {
		if target, err := os.Readlink(directory + "/" + descriptor.Name()); err == nil {
			found = append(found, descriptor.Name()+" "+numbers.ReplaceAllString(target, "[]"))
		}
	}
	return found
}

func environmentOf(pid string) (found []string) {
	content, _ := os.ReadFile("/proc/" + pid + "/environ")
	for _, variable := range strings.Split(string(content), "\x00") {
		if name, _, ok := strings.Cut(variable, "="); ok {
			found = append(found, "environ "+name)
		}
	}
	return found
}
