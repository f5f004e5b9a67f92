package main

import (
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

func TestTheGreetingFitsATerminal(t *testing.T) {
	for line := range strings.Lines(greeting) {
		if len(line) > 81 {
			t.Errorf("%d characters: %q", len(line)-1, line)
		}
	}
	assert.Check(t, strings.Contains(greeting, "docker run"), "nothing to try next")
}
