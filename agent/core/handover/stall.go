package handover

import "time"

// Stall measures how long there was no progress. The zero value is ready.
type Stall struct {
	since time.Time // of the last progress; zero before the first check
}

// Look returns 0 if there is progress now, and at the first check.
func (s *Stall) Look(now time.Time, progressed bool) time.Duration {
	if progressed || s.since.IsZero() {
		s.since = now
	}
	return now.Sub(s.since)
}
