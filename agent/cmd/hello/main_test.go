package main

import (
	"strings"
	"testing"
)

func TestTheGreetingFitsATerminal(t *testing.T) {
	for line := range strings.Lines(greeting) {
		if len(line) > 81 {
			t.Errorf("%d characters: %q", len(line)-1, line)
		}
	}
	if !strings.Contains(greeting, "docker run") {
		t.Error("nothing to try next")
	}
}
