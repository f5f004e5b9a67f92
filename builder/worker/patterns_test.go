package worker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/source/local"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// several are patterns made of a format and a number.
func several(count int, format string) []string {
	var made []string
	for at := range count {
		made = append(made, fmt.Sprintf(format, at))
	}
	return made
}

func TestPatternsThatTakeTooLongAreRefused(t *testing.T) {
	for name, each := range map[string]struct {
		patterns []string
		refusal  string
	}{
		"names":                {several(maxPatterns, "dir/%d"), ""},
		"names anywhere":       {several(maxPatterns, "**/%d"), ""},
		"all beneath":          {several(maxPatterns, "!dir%d/**"), ""},
		"kinds of files":       {several(1000, "*.%d"), ""},
		"those anywhere":       {several(400, "**/*.%d"), ""},
		"too many":             {several(maxPatterns+1, "%d"), "10001 patterns"},
		"too long":             {several(1, strings.Repeat("a", maxPatternBytes)+"%d"), "with 262145 bytes"},
		"many directories":     {several(1, "a"+strings.Repeat("**/", 21_600)+"%d"), "wildcards"},
		"many of several":      {several(257, "a/**/b/**/%d"), "4112 wildcards"},
		"stars":                {several(1, strings.Repeat("*a", 5000)+"%d"), "5000 wildcards"},
		"any characters":       {several(1, strings.Repeat("?", 5000)+"%d"), "5000 wildcards"},
		"ranges of characters": {several(1, strings.Repeat("[a]", 5000)+"%d"), "5000 wildcards"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []*local.LocalIdentifier{{ExcludePatterns: each.patterns}, {IncludePatterns: each.patterns}, {FollowPaths: each.patterns}} {
				from, err := newLocalSource(nil)
				must(t, err)
				_, err = from.Resolve(t.Context(), id, nil, nil)
				if each.refusal == "" && err != nil || each.refusal != "" && (err == nil || !strings.Contains(err.Error(), each.refusal)) {
					t.Errorf("%v instead of %q", err, each.refusal)
				}
			}
		})
	}
}

func TestACopysPatternsThatTakeTooLongAreRefused(t *testing.T) {
	w, _ := workerOf(t)
	hostile := several(1, "a"+strings.Repeat("**/", 65)+"%d")
	for name, made := range map[string]*pb.FileActionCopy{
		"to leave out": {ExcludePatterns: hostile},
		"to take":      {IncludePatterns: hostile},
	} {
		_, err := w.newFileOp(nil, &pb.Op_File{File: &pb.FileOp{Actions: []*pb.FileAction{{Action: &pb.FileAction_Copy{Copy: made}}}}})
		assert.Check(t, is.ErrorContains(err, "520 wildcards"), name)
	}
}
