package session

import (
	"bytes"
	"os"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestWhatIsInAPipeIsTakenAndMoreIsNotWaitedFor(t *testing.T) {
	reader, writer, err := os.Pipe()
	assert.NilError(t, err)
	defer reader.Close()
	defer writer.Close() // another holder
	_, err = writer.Write(bytes.Repeat([]byte("x"), 5000))
	assert.NilError(t, err)
	// As when a process has ended before anybody read its output.
	assert.NilError(t, reader.SetReadDeadline(time.Unix(1, 0)))
	var output bytes.Buffer
	drain(&output, reader)
	if output.Len() != 5000 {
		t.Fatalf("%d bytes", output.Len())
	}
}
