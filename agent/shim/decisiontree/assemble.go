package decisiontree

import (
	"math"
	"slices"

	"golang.org/x/sys/unix"
)

// assembler makes a program from its end: jumps lead forward only, so whatever
// one leads to is there.
type assembler struct {
	backwards []unix.SockFilter
	known     map[decision]label // where one is carried out, the nearest place
}

// label is a place in the program, counted from its end.
type label int

// target is what a jump leads to: a place, or what is to be done there.
type target struct {
	at   label
	leaf decision
	// It is the leaf that counts.
	isLeaf bool
}

// assemble answers the program: a search for the architecture, for each a search
// for the number, and of the original what is reached where a search does not
// decide. Not ok: it would be longer than the original, or there is nothing to
// search for.
func (d *decisions) assemble(original program) (program, bool) {
	a := &assembler{known: map[decision]label{}}
	a.keep(original, d)
	for i, table := range d.tables {
		a.search(table)
		a.known[decision{byNumber, uint32(i)}] = a.add(unix.SockFilter{Code: load, K: numberOffset})
		if len(a.backwards) >= len(original) {
			return nil, false
		}
	}
	switch {
	case len(d.archs) > 1:
		a.search(d.archs)
		a.add(unix.SockFilter{Code: load, K: archOffset})
	case len(d.tables) == 0:
		return nil, false // neither architecture nor number is asked for
	}
	slices.Reverse(a.backwards)
	return a.backwards, true
}

// keep takes over what is reached of the original, in its order: all jumps
// become shorter or stay.
func (a *assembler) keep(original program, d *decisions) {
	reached := make([]bool, len(original))
	for _, table := range slices.Concat(d.tables, [][]run{d.archs}) {
		for _, each := range table {
			if each.kind == goesOn {
				reached[each.value] = true
			}
		}
	}
	for at, each := range original {
		if to, _ := follows(each); reached[at] && !to.ends {
			reached[at+1+int(to.one)], reached[at+1+int(to.other)] = true, true
		}
	}
	labels := make([]label, len(original))
	for at, each := range slices.Backward(original) {
		if !reached[at] {
			continue
		}
		switch to, _ := follows(each); each.Code {
		case jump:
			each.K = a.distance(labels[at+1+int(to.one)])
		case equal, greater, greaterEqual, bitsSet:
			each.Jt = uint8(a.distance(labels[at+1+int(to.one)]))
			each.Jf = uint8(a.distance(labels[at+1+int(to.other)]))
		case verdict:
			a.known[decision{isVerdict, each.K}] = label(len(a.backwards))
		}
		labels[at] = a.add(each)
		a.known[decision{goesOn, uint32(at)}] = labels[at]
	}
}

// search adds what finds the decision on the value in the accumulator.
func (a *assembler) search(table []run) {
	var groups []group
	for len(table) > 0 {
		next, size := firstGroup(table)
		groups = append(groups, next)
		table = table[size:]
	}
	a.searchGroups(groups)
}

func (a *assembler) searchGroups(groups []group) target {
	if len(groups) > 1 {
		middle := len(groups) / 2
		above := a.searchGroups(groups[middle:])
		return a.branch(greaterEqual, groups[middle].first, above, a.searchGroups(groups[:middle]))
	}
	found := target{leaf: groups[0].decision, isLeaf: true}
	for _, each := range groups[0].others {
		found = a.branch(equal, each.first, target{leaf: each.decision, isLeaf: true}, found)
	}
	return found
}

// group is a run with a few single values in it that are decided otherwise.
type group struct {
	run
	others []run
}

// maxOthers are compared one after the other. Each takes one comparison and a
// third; by the search alone it would be two.
const maxOthers = 3

// firstGroup answers the largest one that a table begins with, and of how many
// runs it is.
func firstGroup(table []run) (largest group, size int) {
	for _, most := range table[:min(2, len(table))] {
		found := group{run: run{table[0].first, most.decision}}
		at := 0
		for ; at < len(table); at++ {
			if table[at].decision == most.decision {
				continue
			}
			isSingle := at+1 < len(table) && table[at+1].first == table[at].first+1
			if !isSingle || len(found.others) == maxOthers {
				break
			}
			found.others = append(found.others, table[at])
		}
		if at > size {
			largest, size = found, at
		}
	}
	return largest, size
}

// branch adds a comparison.
func (a *assembler) branch(code uint16, value uint32, holds, otherwise target) target {
	yes := a.near(holds)
	no := a.near(otherwise)
	jt, jf := a.distance(yes), a.distance(no)
	return target{at: a.add(unix.SockFilter{Code: code, Jt: uint8(jt), Jf: uint8(jf), K: value})}
}

// near answers a place that a comparison reaches which is added next, or next but
// one.
func (a *assembler) near(to target) label {
	at, isKnown := to.at, true
	if to.isLeaf {
		at, isKnown = a.known[to.leaf]
	}
	switch {
	case isKnown && a.distance(at) < math.MaxUint8:
	case to.isLeaf && to.leaf.kind == isVerdict:
		at = a.add(unix.SockFilter{Code: verdict, K: to.leaf.value})
	default:
		at = a.add(unix.SockFilter{Code: jump, K: a.distance(at)})
	}
	if to.isLeaf {
		a.known[to.leaf] = at
	}
	return at
}

// distance is how many instructions the next one skips to go there.
func (a *assembler) distance(to label) uint32 { return uint32(len(a.backwards) - int(to) - 1) }

func (a *assembler) add(next unix.SockFilter) label {
	a.backwards = append(a.backwards, next)
	return label(len(a.backwards) - 1)
}
