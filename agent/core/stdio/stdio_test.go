package stdio

import (
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sockerless/sockerless/agent/core/session"
)

func isNull(t *testing.T, file *os.File) bool {
	t.Helper()
	var null, st unix.Stat_t
	if err := unix.Stat(os.DevNull, &null); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(int(file.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return st.Rdev == null.Rdev
}

func TestOnlyWantedStreamsAreWired(t *testing.T) {
	w, err := Pipes(session.Streams{Stdout: true}, OpenNull)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if w.Ours.Stdin != nil || w.Ours.Stderr != nil || !isNull(t, w.Child[0]) || isNull(t, w.Child[1]) || !isNull(t, w.Child[2]) {
		t.Errorf("wiring %+v", w)
	}
	if _, err := w.Child[1].WriteString("out"); err != nil {
		t.Fatal(err)
	}
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
	if _, err := w.Child[1].WriteString("out\n"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(w.Ours.Terminal, got); err != nil || string(got) != "out\r\n" {
		t.Errorf("%q, %v", got, err)
	}
}
