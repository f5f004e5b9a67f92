package shim

// SeccompFilterOf is for tests of what confines a process.
var SeccompFilterOf = seccompFilterOf
