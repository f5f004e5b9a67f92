// Package decisiontree makes seccomp filters cheap to load.
//
// The kernel translates a filter each time it is loaded, and follows it once for
// each system call of each architecture, to know those that are always allowed.
// libseccomp compares a call's number with one after the other. Here a filter is
// made that finds the number by a binary search and decides the same.
//
// All that is asked before a call's arguments are, depends on its number and its
// architecture, and is decided anew. From the first look at an argument on the
// original's own instructions decide.
package decisiontree

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// instructionSize is that of struct sock_filter in bytes.
const instructionSize = 8

// Equivalent answers a seccomp filter with the verdict of the given one on every
// system call, and fewer instructions. Both are arrays of struct sock_filter, as
// seccomp(2) takes and PTRACE_SECCOMP_GET_FILTER answers them. Where none is
// found, or something in the given one is not understood, that one is answered.
func Equivalent(filter []byte) []byte {
	original, ok := parse(filter)
	if !ok {
		return filter
	}
	decisions, ok := original.decide()
	if !ok {
		return filter
	}
	made, ok := decisions.assemble(original)
	if !ok || len(made) >= len(original) {
		return filter
	}
	return made.bytes()
}

// program is a filter of instructions that are understood, and which always ends
// in a verdict. Its one variable is the accumulator, which each load sets.
type program []unix.SockFilter

// Codes of the instructions that are understood.
const (
	load         = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS // of a word of struct seccomp_data
	and          = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	jump         = unix.BPF_JMP | unix.BPF_JA
	equal        = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	greater      = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	greaterEqual = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bitsSet      = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	verdict      = unix.BPF_RET | unix.BPF_K
)

// Offsets in bytes of the fields of struct seccomp_data, and its size.
const (
	numberOffset = 0
	archOffset   = 4
	dataSize     = 64
	wordSize     = 4
)

// parse refuses what is not understood, or is no program.
func parse(filter []byte) (program, bool) {
	if len(filter) == 0 || len(filter)%instructionSize != 0 {
		return nil, false
	}
	p := make(program, 0, len(filter)/instructionSize)
	for each := range slices.Chunk(filter, instructionSize) {
		p = append(p, unix.SockFilter{
			Code: binary.NativeEndian.Uint16(each), Jt: each[2], Jf: each[3], K: binary.NativeEndian.Uint32(each[4:])})
	}
	for at, each := range p {
		to, understood := follows(each)
		isWord := each.Code != load || each.K < dataSize && each.K%wordSize == 0
		behind := uint32(len(p) - at - 1)
		if !understood || !isWord || !to.ends && max(to.one, to.other) >= behind {
			return nil, false
		}
	}
	return p, true
}

// successors are the instructions that may follow one: how many are skipped to
// each of the two, which may be the same. ends: none follows.
type successors struct {
	one, other uint32
	ends       bool
}

// follows tells whether it is understood what an instruction does, too.
func follows(i unix.SockFilter) (to successors, understood bool) {
	switch i.Code {
	case load, and:
		return successors{}, true
	case jump:
		return successors{one: i.K, other: i.K}, true
	case equal, greater, greaterEqual, bitsSet:
		return successors{one: uint32(i.Jt), other: uint32(i.Jf)}, true
	case verdict:
		return successors{ends: true}, true
	}
	return to, false
}

func (p program) bytes() []byte {
	filter := make([]byte, 0, len(p)*instructionSize)
	for _, each := range p {
		filter = binary.NativeEndian.AppendUint16(filter, each.Code)
		filter = append(filter, each.Jt, each.Jf)
		filter = binary.NativeEndian.AppendUint32(filter, each.K)
	}
	return filter
}
