package log

import (
	"bytes"
	"encoding/binary"
)

// resyncBudget bounds the bytes checked as candidates after a damage: a writer to
// the file could make every byte look like a record's beginning.
const resyncBudget = 64 << 20

var magicBytes = binary.LittleEndian.AppendUint16(nil, recordMagic)

// resync finds the first whole record between from and upTo; upTo if there is
// none within the budget.
func (s *segment) resync(from, upTo int64) int64 {
	b := newLargeBuffer()
	defer b.release()
	for budget := resyncBudget; from < upTo && budget > 0; {
		if err := b.read(s, from, upTo); err != nil || len(b.unread()) < recordFraming {
			return upTo
		}
		window := b.unread()
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
