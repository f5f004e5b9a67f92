package log

import (
	"bytes"
	"encoding/binary"

	"github.com/sockerless/sockerless/agent/core/damage"
)

// resyncBudget bounds the bytes checked as candidates after a damage: a writer to
// the file could make every byte look like a record's beginning.
const resyncBudget = 64 << 20

const (
	// lostTogether is how many bytes a disk loses at once, at most.
	lostTogether = 4096
	// lostBudget is what they cost of the budget: a disk may try to read them for
	// seconds.
	lostBudget = 1 << 20
)

var magicBytes = binary.LittleEndian.AppendUint16(nil, recordMagic)

// resync finds the first whole record between from and upTo, behind what the disk has
// lost; upTo if there is none within the budget.
func (s *segment) resync(from, upTo int64) int64 {
	b := newLargeBuffer()
	defer b.release()
	for budget := resyncBudget; from < upTo && budget > 0; {
		err := b.read(s, from, upTo)
		window := b.unread()
		if len(window) < recordFraming {
			if !damage.IsOf(err) {
				return upTo
			}
			from += int64(len(window)) + 1
			from += -from & (lostTogether - 1)
			budget -= lostBudget
			continue
		}
		last := from+int64(len(window)) == upTo
		at := 0
		for budget > 0 {
			next := bytes.Index(window[at:], magicBytes)
			if next < 0 {
				at = len(window) - 1 // it may be the first half of the magic
				break
			}
			at += next
			h, err := parseHeader(window[at:])
			if err == nil && at > 0 && int64(len(window)-at) < h.size() && !last {
				break // read all of it first
			}
			if err == nil {
				budget -= int(h.length)
				if _, _, err := parseRecord(window[at:]); err == nil {
					return from + int64(at)
				}
			}
			at++
		}
		if last {
			return upTo
		}
		from += int64(max(at, 1))
	}
	return upTo
}
