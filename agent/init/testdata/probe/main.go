// Command probe is the user's program in the tests of init mode: it does one
// thing and says what it saw.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const atCurrentDirectory = -100 // AT_FDCWD

func main() {
	name, arguments := os.Args[1], os.Args[2:]
	switch name {
	case "say": // TEXT CODE
		fmt.Print(arguments[0])
		code, _ := strconv.Atoi(arguments[1])
		os.Exit(code)
	case "cat":
		n, _ := io.Copy(os.Stdout, os.Stdin)
		fmt.Fprintf(os.Stderr, "%d bytes\n", n)
	case "flood": // BYTES CODE
		flood(arguments)
	case "who":
		who()
	case "env":
		for _, entry := range os.Environ() {
			fmt.Println(entry)
		}
	case "fds":
		fds()
	case "read": // FILE
		content, err := os.ReadFile(arguments[0])
		fmt.Printf("%s%v", content, err)
	case "traps": // says every signal that it gets; SIGUSR2 ends it
		traps()
	case "orphan": // starts a child that outlives it and writes on
		orphan()
	case "rewrite": // changes files of the image
		rewrite()
	case "spawner": // starts processes all the time, each says a dot
		spawner()
	case "dot":
		fmt.Print(".")
	case "stopped":
		syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case "forever":
		time.Sleep(24 * time.Hour)
	case "reopen": // writes to its stdout by name
		file, err := os.OpenFile("/proc/self/fd/1", os.O_WRONLY, 0)
		if err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprint(file, "by name")
	case "lookup": // NAME
		addresses, err := net.LookupHost(arguments[0])
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(strings.Join(addresses, " "))
	case "serve": // tcp|udp [HOST]: says its port, ends with its stdin
		serve(arguments[0], append(arguments, "127.0.0.1")[1]+":0")
	case "ask": // SOCKET QUESTION…: one connection each, prints what is answered
		ask(arguments[0], arguments[1:])
	case "tty":
		tty()
	case "die":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "hold": // MEBIBYTES
		size, _ := strconv.Atoi(arguments[0])
		held := make([]byte, size<<20)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		time.Sleep(24 * time.Hour)
		fmt.Println(held[0])
	case "eat": // MEBIBYTES
		size, _ := strconv.Atoi(arguments[0])
		eaten := make([]byte, size<<20)
		for i := 0; i < len(eaten); i += 4096 {
			eaten[i] = 1
		}
		fmt.Println("eaten")
	case "try": // makes and changes directories, by calls that every processor has
		fmt.Println(syscall.Mkdirat(atCurrentDirectory, "/data/made", 0o755), syscall.Fchmodat(atCurrentDirectory, "/data", 0o755, 0))
	case "write": // FILE
		if err := os.WriteFile(arguments[0], []byte("written"), 0o644); err != nil {
			fmt.Print(err)
			os.Exit(1)
		}
	}
}

func flood(arguments []string) {
	size, _ := strconv.Atoi(arguments[0])
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := range size {
		out.WriteByte(byte(i * 7 % 251))
	}
	out.Flush()
	code, _ := strconv.Atoi(arguments[1])
	os.Exit(code)
}

func who() {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "Umask", "SigIgn", "SigBlk":
			fmt.Printf("%s=%s\n", name, strings.Join(strings.Fields(value), " "))
		}
	}
	dir, _ := os.Getwd()
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	session, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0)
	fmt.Printf("Dir=%s\nOOM=%s\nLeader=%v\n", dir, strings.TrimSpace(string(score)), int(session) == os.Getpid())
}

func fds() {
	entries, _ := os.ReadDir("/proc/self/fd")
	var names []string
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err == nil && !strings.Contains(target, "eventpoll") && !strings.Contains(target, "eventfd") && !strings.HasPrefix(target, "/proc/") {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	fmt.Println(strings.Join(names, " "))
}

func traps() {
	caught := make(chan os.Signal, 8)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGHUP)
	fmt.Println("ready")
	for s := range caught {
		fmt.Println("got", s)
		if s == syscall.SIGUSR2 {
			os.Exit(42)
		}
	}
}

func orphan() {
	child := exec.Command("/probe", "forever")
	child.Stdout = os.Stdout
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(child.Process.Pid)
	os.Exit(3)
}

func rewrite() {
	for _, err := range []error{
		os.WriteFile("/etc/group", []byte("rewritten"), 0o644),
		os.Remove("/garbage"),
		os.MkdirAll("/new", 0o755),
		os.WriteFile("/new/file", []byte("new"), 0o644),
		os.Chmod("/noexec", 0o600),
		os.Chmod("/noexec", 0o644), // as it was
		os.WriteFile("/data/file", []byte("in a volume"), 0o644),
	} {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

func spawner() {
	own := exec.Command("/probe", "stopped")
	if err := own.Start(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		child := exec.Command("/probe", "dot")
		child.Stdout = os.Stdout
		child.Run()
	}
}

func tty() {
	size := func() string {
		out := struct{ rows, columns, x, y uint16 }{}
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(pointer(&out)))
		return fmt.Sprintf("%dx%d %d", out.rows, out.columns, errno)
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, syscall.SIGWINCH)
	file, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	fmt.Println("tty", err == nil, size())
	if err == nil {
		file.Close()
	}
	select {
	case <-resized:
	case <-time.After(10 * time.Second):
	}
	fmt.Println("now", size())
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	fmt.Printf("read %q\n", line)
}
