package worker

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/solver/pb"
)

// Patterns become regular expressions, whose matching takes time for each wildcard and cannot be interrupted within a
// path.
const (
	maxPatterns      = 10_000
	maxPatternBytes  = 256 << 10
	maxWildcards     = 4096
	maxCopyWildcards = 512
	// crossing is how many wildcards one that matches directories counts as.
	crossing = 8
)

// RefusePatterns refuses lists of a context's patterns that take too long to match together, and counts their wildcards.
func RefusePatterns(lists ...[]string) (wildcards int64, err error) {
	return refusePatterns(maxWildcards, lists...)
}

func refusePatterns(most int, lists ...[]string) (int64, error) {
	count, bytes, wildcards := 0, 0, 0
	for _, patterns := range lists {
		for _, pattern := range patterns {
			count++
			bytes += len(pattern)
			wildcards += wildcardsOf(pattern)
		}
	}
	if count > maxPatterns || bytes > maxPatternBytes {
		return 0, fmt.Errorf("%d patterns of files with %d bytes are more than the %d with %d that there may be", count, bytes, maxPatterns, maxPatternBytes)
	}
	if wildcards > most {
		return 0, fmt.Errorf("the patterns of files have %d wildcards, where a ** counts as %d, more than the %d that they may have", wildcards, crossing, most)
	}
	return int64(wildcards), nil
}

// wildcardsOf counts what needs a regular expression: a single ** at the beginning or the end does not.
func wildcardsOf(pattern string) int {
	pattern = strings.TrimPrefix(pattern, "!")
	rest, isSuffix := strings.CutPrefix(pattern, "**/")
	if !isSuffix {
		rest = strings.TrimSuffix(rest, "/**")
	}
	if !strings.ContainsAny(rest, `*?[\`) {
		return 0
	}
	twice := strings.Count(pattern, "**")
	return twice*(crossing-2) + strings.Count(pattern, "*") + strings.Count(pattern, "?") + strings.Count(pattern, "[") + strings.Count(pattern, `\`)
}

// refuseCopies refuses copies whose patterns take too long to match.
func refuseCopies(actions []*pb.FileAction) error {
	var lists [][]string
	for _, action := range actions {
		if made := action.GetCopy(); made != nil {
			lists = append(lists, made.IncludePatterns, made.ExcludePatterns)
		}
	}
	_, err := refusePatterns(maxCopyWildcards, lists...)
	return err
}
