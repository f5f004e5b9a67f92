// Package environment combines environments as Docker does.
package environment

import "strings"

// Overlay applies KEY=value entries to an environment; later entries replace
// earlier ones in place. An entry without "=" removes its key.
func Overlay(base, over []string) []string {
	result := make([]string, 0, len(base)+len(over))
	place := make(map[string]int, len(base))
	for _, entry := range append(append([]string(nil), base...), over...) {
		key, _, sets := strings.Cut(entry, "=")
		at, known := place[key]
		switch {
		case sets && known:
			result[at] = entry
		case sets:
			place[key] = len(result)
			result = append(result, entry)
		case known:
			result[at] = ""
			delete(place, key)
		}
	}
	kept := result[:0]
	for _, entry := range result {
		if entry != "" {
			kept = append(kept, entry)
		}
	}
	return kept
}

// Lookup finds the value of a key.
func Lookup(environment []string, key string) (string, bool) {
	for _, entry := range environment {
		if name, value, sets := strings.Cut(entry, "="); sets && name == key {
			return value, true
		}
	}
	return "", false
}

// WithDefault adds key=value if the key is missing.
func WithDefault(environment []string, key, value string) []string {
	if _, known := Lookup(environment, key); known {
		return environment
	}
	return append(environment, key+"="+value)
}
