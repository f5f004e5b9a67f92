package handover_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/sockerless/sockerless/agent/core/handover"
)

// vectors reads what the frontend's tests read too.
func vectors(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../../test/fixtures/streams", name))
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	assert.NilError(t, err)
}

func TestDetachKeysAreFoundAsInTheFrontend(t *testing.T) {
	var cases []struct {
		Keys, Passed string
		Chunks       []string
		Detached     bool
	}
	vectors(t, "detach-keys.json", &cases)
	for _, c := range cases {
		scanner, passed, detached := handover.NewScanner(unhex(t, c.Keys)), "", false
		for _, chunk := range c.Chunks {
			var pass []byte
			pass, detached = scanner.Scan(unhex(t, chunk))
			passed += hex.EncodeToString(pass)
			if detached {
				break
			}
		}
		if passed != c.Passed || detached != c.Detached {
			t.Errorf("%+v: passed %s, detached %v", c, passed, detached)
		}
	}
}

func TestFramesAreThoseOfTheFrontend(t *testing.T) {
	var cases []struct {
		Stream      byte
		Data, Frame string
	}
	vectors(t, "frames.json", &cases)
	for _, c := range cases {
		data := unhex(t, c.Data)
		header := handover.FrameHeader(c.Stream, len(data))
		if frame := hex.EncodeToString(append(header[:], data...)); frame != c.Frame {
			t.Errorf("%+v: %s", c, frame)
		}
	}
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	bytes, err := hex.DecodeString(text)
	assert.NilError(t, err)
	return bytes
}
