package shim

import "time"

// SetEnterProgram does what the build does.
func SetEnterProgram(name string) { enterProgram = name }

// SetLimits shortens what a test would wait for; 0: as it is.
func SetLimits(slow, kept, drain time.Duration) {
	if slow > 0 {
		slowLimit = slow
	}
	if kept > 0 {
		keptLimit = kept
	}
	if drain > 0 {
		releaseDrain = drain
	}
}

// SeccompFilterOf is for tests of what confines a process.
var SeccompFilterOf = seccompFilterOf
