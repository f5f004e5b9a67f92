package shim

import "time"

// SetEnterProgram does what the build does.
func SetEnterProgram(name string) { enterProgram = name }

// SetLimits shortens limits for tests; 0: unchanged.
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

// SeccompFilterOf is for tests of confinement.
var SeccompFilterOf = seccompFilterOf
