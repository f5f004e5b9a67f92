package session

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// backgroundGrace is how long a process's end waits for the end of its output
// while another process holds the pipe open, as in dockerd.
const backgroundGrace = 2 * time.Second

// backgroundLimit bounds how much such a process may write meanwhile, since slow
// readers are not waited for then.
const backgroundLimit = 4 << 20

// readSize is the size of the pump's buffer; only pages that reads fill are
// touched.
const readSize = 256 << 10

var readBuffers = sync.Pool{New: func() any { return new([readSize]byte) }}

// pump moves one output of a process to its readers until end of file.
//
// When a process ends, its last output is in its pipe. Once it has exited,
// exactly that is moved on, without waiting for slow readers (bounded by the
// pipe's size); then every byte of the process itself is delivered. Another
// process that inherited the pipe gets backgroundGrace; what it writes later is
// read and dropped, so that it gets no SIGPIPE.
type pump struct {
	file    *os.File
	stream  stream
	deliver func(s stream, data []byte, unlimited func() bool)
	exited  atomic.Bool
	drained chan struct{} // closed when every byte of the process was delivered
}

func startPump(file *os.File, s stream, deliver func(stream, []byte, func() bool)) *pump {
	p := &pump{file: file, stream: s, deliver: deliver, drained: make(chan struct{})}
	go p.run()
	return p
}

// processExited is called once, when the process has ended.
func (p *pump) processExited() {
	p.exited.Store(true)
	// Interrupts a waiting read. It fails only if the pump has ended.
	_ = p.file.SetReadDeadline(time.Unix(1, 0))
}

func (p *pump) run() {
	defer p.file.Close()
	buffer := readBuffers.Get().(*[readSize]byte)
	ended := p.moveUntilExit(buffer[:])
	if !ended {
		ended = p.moveRemainder(buffer[:])
	}
	readBuffers.Put(buffer)
	close(p.drained)
	if !ended {
		p.discard()
	}
}

// moveUntilExit reports whether the output has ended.
func (p *pump) moveUntilExit(buffer []byte) (ended bool) {
	for !p.exited.Load() {
		n, err := p.file.Read(buffer)
		if n > 0 {
			p.deliver(p.stream, buffer[:n], p.exited.Load)
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return true // EOF; EIO is a terminal's end of file
		}
	}
	return false
}

// moveRemainder moves what the exited process left, and what others write within
// the grace. It reports whether the output has ended.
func (p *pump) moveRemainder(buffer []byte) (ended bool) {
	deadline := time.Now().Add(backgroundGrace)
	left := buffered(p.file)
	for background := 0; background < backgroundLimit; {
		if p.file.SetReadDeadline(deadline) != nil {
			return true
		}
		n, err := p.file.Read(buffer)
		if n > 0 {
			p.deliver(p.stream, buffer[:n], p.exited.Load)
			if left > 0 {
				deadline = time.Now().Add(backgroundGrace)
			}
			left -= n
			background += max(0, min(n, -left))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			// Too early: this deadline is processExited's, which may come this
			// late.
			if time.Now().Before(deadline) {
				continue
			}
			return false
		}
		if err != nil {
			return true
		}
	}
	return false
}

func (p *pump) discard() {
	if p.file.SetReadDeadline(time.Time{}) != nil {
		return
	}
	buffer := make([]byte, 4<<10)
	for {
		if _, err := p.file.Read(buffer); err != nil {
			return
		}
	}
}

// buffered returns how many bytes can be read without waiting.
func buffered(file *os.File) int {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }) != nil {
		return 0
	}
	return n
}
