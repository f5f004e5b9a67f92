package shim_test

import (
	"testing"

	"connectrpc.com/connect"
	"gotest.tools/v3/assert"

	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

func (c *container) resize(execID string, height, width uint32) error {
	_, err := c.client.Resize(contextFor(c.t), connect.NewRequest(&agentv1.ResizeRequest{
		ExecId: execID, Size: &agentv1.ConsoleSize{Height: height, Width: width},
	}))
	return err
}

func terminal(s *spec) {
	s.TTY, s.OpenStdin, s.StdinOnce = true, true, true
	s.ConsoleSize = &consoleSize{Height: 30, Width: 100}
}

func TestAShellOnATerminal(t *testing.T) {
	c := launch(t, launchOptions{args: sh("stty -echo; stty size; exec sh"), spec: terminal})
	if err := c.resize("", 10, 10); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("resize before the start: %v", err)
	}
	s := c.attach(&agentv1.OpenAttach{AttachId: "a", Stdin: true})
	c.mustRun("a")
	s.until("30 100\r\n")
	must(t, c.resize("", 44, 55))
	s.write([]byte("stty size\n"))
	s.until("44 55\r\n")

	s.write([]byte("sleep 1000; echo status=$?\n"))
	c.awaitProcess("sleep")
	s.write([]byte{3}) // ctrl-C
	s.until("\n")
	s.write([]byte("echo still here\n"))
	s.until("still here\r\n")

	// A half-close does not end a terminal; a second client takes over.
	s.closeStdin()
	s.vanish()
	again := c.attach(&agentv1.OpenAttach{Stdin: true})
	again.write([]byte("echo again; exit 6\n"))
	again.finish().expectExit(6)
	assert.Assert(t, again.started.Tty, "a terminal is not told")
}

// The container can replace the multiplexer: a replacement must not block, and is
// not accepted as a terminal.
func TestAnExecOnATerminalWhoseMultiplexerIsNoneFails(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	for name, replace := range map[string]string{
		"a pipe": "mkfifo /dev/ptmx", "a file": "echo > /dev/ptmx", "a link to an outlet": "ln -s /proc/1/fd/1 /dev/ptmx", "nothing": "true",
	} {
		t.Run(name, func(t *testing.T) {
			c.exec(name, &agentv1.ProcessSpec{Args: sh("rm -f /dev/ptmx; %s", replace)}).finish().expectExit(0)
			s := c.exec("on "+name, &agentv1.ProcessSpec{Args: sh("exit 0"), Tty: true}).finish()
			if s.exit != nil && s.exit.Code == 0 {
				t.Fatal("it ran")
			}
			c.exec("after "+name, &agentv1.ProcessSpec{Args: sh("exit 5")}).finish().expectExit(5)
		})
	}
}

func TestAnExecOnATerminal(t *testing.T) {
	c := launch(t, launchOptions{args: sleeper})
	c.mustRun()
	s := c.exec("e", &agentv1.ProcessSpec{
		Args: sh("stty size; echo $TERM; read x; stty size; exit 3"), Tty: true,
		ConsoleSize: &agentv1.ConsoleSize{Height: 20, Width: 60},
	}, withStdin)
	s.until("20 60\r\nxterm\r\n")
	must(t, c.resize("e", 21, 61))
	s.write([]byte("\n"))
	s.finish().expectExit(3)
	assert.Assert(t, s.stderr.Len() == 0, "a terminal has one output")
	s.until("21 61\r\n")
}
