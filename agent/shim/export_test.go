package shim

// SetEnterProgram does what the build does.
func SetEnterProgram(name string) { enterProgram = name }

// SeccompFilterOf is for tests of what confines a process.
var SeccompFilterOf = seccompFilterOf
