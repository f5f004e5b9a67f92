package handover

import "time"

// Stall tells for how long nobody has seen progress. The zero value is ready.
type Stall struct {
	since time.Time // of the last progress; zero: nobody has looked
}

// Look answers 0 where there is progress now, and for who looks first.
func (s *Stall) Look(now time.Time, progressed bool) time.Duration {
	if progressed || s.since.IsZero() {
		s.since = now
	}
	return now.Sub(s.since)
}
