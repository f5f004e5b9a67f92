package decisiontree

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// maxSteps bounds the time that one filter takes to some ms. Docker's takes
// 33,000.
const maxSteps = 1_000_000

// maxTables bounds the time that tables are compared for. libseccomp knows 18
// architectures.
const maxTables = 32

// coarseBits are of the highest bits of a number, by which a filter tells ABIs
// apart: only in steps of the lowest of them a test of them changes.
const (
	coarseBits = 0xf0000000
	coarseStep = 1 << 28
)

// decision is what is made of a call by its number and its architecture.
type decision struct {
	kind kind
	// The verdict, the index of the original's instruction, or of the table.
	value uint32
}

type kind uint8

const (
	isVerdict kind = iota
	goesOn         // at an instruction of the original, which is a load
	byNumber       // another table decides
)

// run is a decision on all values from one on.
type run struct {
	first uint32
	decision
}

// decisions are those of a filter: by architecture, and of each by number. The
// first run of a table begins at 0; two neighbours differ.
type decisions struct {
	archs  []run
	tables [][]run
}

// decide finds the decisions. Not ok: they take too long, or the program begins
// with something that is not understood.
func (p program) decide() (found decisions, ok bool) {
	f := follower{program: p, stepsLeft: maxSteps}
	for arch, more := uint32(0), true; more; arch, more = f.lastArch+1, f.lastArch < math.MaxUint32 {
		f.arch, f.lastArch, f.table = arch, math.MaxUint32, nil
		if !f.follow(calls{last: math.MaxUint32, loaded: -1}) {
			return found, false
		}
		found.archs = extend(found.archs, run{arch, found.by(f.table)})
		if len(found.tables) > maxTables {
			return found, false
		}
	}
	return found, true
}

// extend leaves out what is no other decision.
func extend(table []run, next run) []run {
	if last := len(table) - 1; last >= 0 && table[last].decision == next.decision {
		return table
	}
	return append(table, next)
}

// by answers the decision that leaves it to a table.
func (d *decisions) by(table []run) decision {
	if len(table) == 1 {
		return table[0].decision
	}
	for i, each := range d.tables {
		if slices.Equal(each, table) {
			return decision{byNumber, uint32(i)}
		}
	}
	d.tables = append(d.tables, table)
	return decision{byNumber, uint32(len(d.tables) - 1)}
}

// follower runs the program for all calls of an architecture at once, and those
// of the next ones up to where they are not told apart.
type follower struct {
	program
	arch, lastArch uint32
	table          []run // of the calls before
	stepsLeft      int
}

// calls are those of a range of numbers that have come to an instruction by one
// way.
type calls struct {
	first, last uint32
	at          int
	loaded      int // the last load's index; -1: none was
	accumulator contents
}

type contents uint8

const (
	isZero contents = iota // as at the beginning
	isNumber
	isArch
)

// follow runs the program as far as number and architecture lead, and adds the
// decisions. Calls of which a comparison holds for some alone go on as two ranges.
//
// A load replaces all that the accumulator held. So the original can go on at the
// last one, whatever was found out meanwhile. False: as decide.
func (f *follower) follow(c calls) bool {
	for ; ; c.at++ {
		if f.stepsLeft--; f.stepsLeft < 0 {
			return false
		}
		each := f.program[c.at]
		test := each.Code
		switch {
		case test == verdict:
			f.table = extend(f.table, run{c.first, decision{isVerdict, each.K}})
			return true
		case test == jump:
			c.at += int(each.K)
			continue
		case test == load && each.K == numberOffset:
			c.loaded, c.accumulator = c.at, isNumber
			continue
		case test == load && each.K == archOffset:
			c.loaded, c.accumulator = c.at, isArch
			continue
		case test == load:
			c.loaded = c.at
		}
		if test == load || test == and || test == bitsSet && each.K&^uint32(coarseBits) != 0 {
			if c.loaded < 0 {
				return false
			}
			f.table = extend(f.table, run{c.first, decision{goesOn, uint32(c.loaded)}})
			return true
		}
		holds, until := compare(each, f.value(c))
		switch c.accumulator {
		case isNumber:
			if until < c.last {
				divided := c
				divided.last = until
				if !f.follow(divided) {
					return false
				}
				c.first = until + 1
				c.at-- // the others come to it again
				continue
			}
		case isArch:
			f.lastArch = min(f.lastArch, until)
		}
		if holds {
			c.at += int(each.Jt)
		} else {
			c.at += int(each.Jf)
		}
	}
}

// value is what the first of the calls has in the accumulator.
func (f *follower) value(of calls) uint32 {
	switch of.accumulator {
	case isNumber:
		return of.first
	case isArch:
		return f.arch
	}
	return 0
}

// compare tells how a comparison with a value comes out, and the last of those
// from it on with which it does, too.
func compare(by unix.SockFilter, value uint32) (holds bool, until uint32) {
	until = math.MaxUint32
	switch by.Code {
	case equal:
		if holds = value == by.K; holds || value < by.K {
			until = by.K
		}
		if !holds && value < by.K {
			until--
		}
	case greater:
		if holds = value > by.K; !holds {
			until = by.K
		}
	case greaterEqual:
		if holds = value >= by.K; !holds {
			until = by.K - 1
		}
	case bitsSet:
		holds, until = value&by.K != 0, value|(coarseStep-1)
	}
	return holds, until
}
