package containerinit_test

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"

	"gotest.tools/v3/assert"

	containerinit "github.com/sockerless/sockerless/agent/init"
	agentv1 "github.com/sockerless/sockerless/proto/gen/sockerless/agent/v1"
)

const (
	fromStdout = agentv1.Stream_STREAM_STDOUT
	fromStderr = agentv1.Stream_STREAM_STDERR
)

func TestLinesForThePlatformAreWholeAndSayTheirStream(t *testing.T) {
	type part struct {
		stream agentv1.Stream
		data   string
	}
	long := strings.Repeat("x", 64<<10)
	for name, c := range map[string]struct {
		parts []part
		want  string
	}{
		"streams":                  {[]part{{fromStdout, "out\n"}, {fromStderr, "err\n"}}, "out\n[stderr] err\n"},
		"partial lines":            {[]part{{fromStdout, "a"}, {fromStderr, "b"}, {fromStdout, "c\nd"}, {fromStderr, "e\n"}}, "ac\n[stderr] be\n[stdout +] d\n"},
		"empty lines":              {[]part{{fromStdout, "\n\n"}, {fromStderr, "\n"}}, "[stdout] \n[stdout] \n[stderr] \n"},
		"no end":                   {[]part{{fromStdout, "a"}, {fromStderr, "[b"}}, "[stdout +] a\n[stderr +] [b\n"},
		"no UTF-8":                 {[]part{{fromStdout, "caf\xe9 100% \xe2\x82"}, {fromStdout, "\xac\n"}, {fromStderr, "\xff\n"}}, "[stdout %] caf%E9 100%25 \u20ac\n[stderr %] %FF\n"},
		"UTF-8":                    {[]part{{fromStdout, "100% \xe2\x82"}, {fromStdout, "\xac \ufffd\n"}}, "100% \u20ac \ufffd\n"},
		"no UTF-8 where it is cut": {[]part{{fromStdout, long[1:] + "\u00e9\n"}}, "[stdout %+] " + long[1:] + "%C3\n[stdout %-] %A9\n"},
		"a false sign":             {[]part{{fromStdout, "[stdout +] x\n[stderr%\n"}}, "[stdout] [stdout +] x\n[stdout] [stderr%\n"},
		"a false stderr":           {[]part{{fromStdout, "[std"}, {fromStdout, "err] x\n"}}, "[stdout] [stderr] x\n"},
		"a false agent":            {[]part{{fromStdout, "[sockerless] x\n[stdout] y\n[other] z\n"}}, "[stdout] [sockerless] x\n[stdout] [stdout] y\n[other] z\n"},
		"within a line":            {[]part{{fromStdout, "x [stderr] y\n"}}, "x [stderr] y\n"},
		"stderr itself":            {[]part{{fromStderr, "[stderr] y\n"}}, "[stderr] [stderr] y\n"},
		"a terminal":               {[]part{{fromStdout, "a\r\nb\r\n"}}, "a\r\nb\r\n"},
		"a limit":                  {[]part{{fromStdout, long}, {fromStdout, "\n"}}, long + "\n"},
		"a long line":              {[]part{{fromStderr, long + long + "y"}, {fromStderr, "z\n"}}, "[stderr +] " + long + "\n[stderr -+] " + long + "\n[stderr -] yz\n"},
	} {
		var lines containerinit.LineWriter
		got := ""
		for _, part := range c.parts {
			got += lines.Take(part.stream, part.data)
		}
		if got += lines.Finish(); got != c.want {
			t.Errorf("%s: %.200q instead of %.200q", name, got, c.want)
		}
	}
}

// theirs are the lines of the platform's log except the agent's.
func theirs(output string) string {
	var kept strings.Builder
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "[sockerless] ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

// stdoutOf removes the marks from a platform's log of stdout alone.
func stdoutOf(t *testing.T, output string) string {
	t.Helper()
	var bytes strings.Builder
	for line := range strings.Lines(output) {
		mark, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "] ")
		signs, marked := strings.CutPrefix(mark, "[stdout")
		if !marked {
			bytes.WriteString(line)
			continue
		}
		if strings.Contains(signs, "%") {
			unescaped, err := url.PathUnescape(rest)
			must(t, err)
			rest = unescaped
		}
		bytes.WriteString(rest)
		if !strings.Contains(signs, "+") {
			bytes.WriteByte('\n')
		}
	}
	return bytes.String()
}

func TestOutputReachesThePlatformUnlessDisabled(t *testing.T) {
	t.Parallel()
	k := startTask(t, taskOptions{arguments: forLong})
	client := k.client()
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "cat"), OpenStdin: true, StdinOnce: true, AwaitAttachIds: []string{"a"}})
	c.write("[stderr] it says\nunfinished")
	c.closeStdin()
	c.exit()
	c = attach(t, client, "b")
	start(t, client, &agentv1.StartRequest{Generation: 2, Process: nobody("probe", "say", "secret", "0"), Tee: agentv1.Tee_TEE_NONE, AwaitAttachIds: []string{"b"}})
	if c.exit(); c.stdout.String() != "secret" {
		t.Errorf("attached: %q", c.stdout.String())
	}
	terminal := nobody("probe", "say", "on a terminal\n", "6")
	terminal.Tty = true
	start(t, client, &agentv1.StartRequest{Generation: 3, Process: terminal})
	k.await("the end", func() bool { return release(t, client, 3) == nil })
	k.exitCode()
	want := []string{"[stdout] [stderr] it says\n", "[stderr] 27 bytes\n", "[stdout +] unfinished\n", "on a terminal\r\n"}
	said := theirs(k.said())
	for _, line := range want {
		assert.Check(t, strings.Count(said, line) == 1, "%q is not there once", line)
	}
	if strings.Contains(said, "secret") || len(said) != len(strings.Join(want, "")) {
		t.Errorf("the platform collected %q", said)
	}
}

func TestASlowPlatformHoldsTheProcessBackAndLosesNothing(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	must(t, err)
	defer reader.Close()
	k := startTask(t, taskOptions{arguments: []string{"--linger", "0", "--drain-timeout", "0"}, stdout: writer})
	must(t, writer.Close())
	client := k.client()
	const size = 8 << 20
	c := attach(t, client, "a")
	start(t, client, &agentv1.StartRequest{Process: nobody("probe", "flood", "8388608", "3"), AwaitAttachIds: []string{"a"}})
	// Nobody reads the pipe, and everything else goes on.
	if out, code := run(t, client, "e", nobody("probe", "say", "here", "0")); out != "here" || code != 0 {
		t.Errorf("%q and %d", out, code)
	}
	var collected bytes.Buffer
	read := make(chan error)
	go func() {
		_, err := io.Copy(&collected, reader)
		read <- err
	}()
	if code := c.exit(); code != 3 || c.stdout.Len() != size {
		t.Errorf("code %d, %d bytes", code, c.stdout.Len())
	}
	if code := k.exitCode(); code != 3 {
		t.Errorf("the agent exited with %d", code)
	}
	must(t, <-read)
	if got := stdoutOf(t, collected.String()); got != c.stdout.String() {
		t.Errorf("the platform collected %d bytes: %d of the process", collected.Len(), len(got))
	}
}

func TestAPlatformThatTakesNoOutputChangesNothing(t *testing.T) {
	t.Parallel()
	reader, writer, err := os.Pipe()
	must(t, err)
	must(t, reader.Close())
	k := startTask(t, taskOptions{arguments: none, stdout: writer})
	must(t, writer.Close())
	c := attach(t, k.client(), "a")
	start(t, k.client(), &agentv1.StartRequest{Process: nobody("probe", "flood", "3000000", "5"), AwaitAttachIds: []string{"a"}})
	if code := c.exit(); code != 5 || c.stdout.Len() != 3_000_000 {
		t.Errorf("code %d, %d bytes", code, c.stdout.Len())
	}
	if code := k.exitCode(); code != 5 {
		t.Errorf("the agent exited with %d", code)
	}
}
