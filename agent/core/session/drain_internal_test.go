package session

import (
	"bytes"
	"os"
	"testing"
	"time"
)

func TestWhatIsInAPipeIsTakenAndMoreIsNotWaitedFor(t *testing.T) {
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close() // another holder
	if _, err := writer.Write(bytes.Repeat([]byte("x"), 5000)); err != nil {
		t.Fatal(err)
	}
	// As when a process has ended before anybody read its output.
	if err := reader.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	drain(&output, reader)
	if output.Len() != 5000 {
		t.Fatalf("%d bytes", output.Len())
	}
}
