package stdio

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/session"
)

func isNull(t *testing.T, file *os.File) bool {
	t.Helper()
	var null, st unix.Stat_t
	assert.NilError(t, unix.Stat(os.DevNull, &null))
	assert.NilError(t, unix.Fstat(int(file.Fd()), &st))
	return st.Rdev == null.Rdev
}

func TestOnlyWantedStreamsAreWired(t *testing.T) {
	w, err := Pipes(session.Streams{Stdout: true}, OpenNull)
	assert.NilError(t, err)
	defer w.Close()
	if w.Ours.Stdin != nil || w.Ours.Stderr != nil || !isNull(t, w.Child[0]) || isNull(t, w.Child[1]) || !isNull(t, w.Child[2]) {
		t.Errorf("wiring %+v", w)
	}
	_, err = w.Child[1].WriteString("out")
	assert.NilError(t, err)
	w.CloseChild()
	if got, err := io.ReadAll(w.Ours.Stdout); err != nil || string(got) != "out" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestATerminalTurnsLinesIntoTerminalLines(t *testing.T) {
	w, err := Terminal()
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	defer w.Close()
	_, err = w.Child[1].WriteString("out\n")
	assert.NilError(t, err)
	got := make([]byte, 5)
	if _, err := io.ReadFull(w.Ours.Terminal, got); err != nil || string(got) != "out\r\n" {
		t.Errorf("%q, %v", got, err)
	}
}
