package handover

// Scanner detects detach keys in terminal input, across the borders of reads. As
// in dockerd, bytes that may begin the keys are held back until the next byte
// decides, and a byte that breaks the match cannot begin a new one. The frontend
// has the same for the streams of its workers.
type Scanner struct {
	keys    []byte
	matched int
	buffer  []byte
}

// NewScanner returns a scanner for keys; without keys it detects nothing.
func NewScanner(keys []byte) *Scanner { return &Scanner{keys: keys} }

// Scan takes the next bytes of input. It returns those for the process, valid
// until the next call, and whether the keys were typed: input after them is
// dropped.
func (s *Scanner) Scan(input []byte) (pass []byte, detached bool) {
	if len(s.keys) == 0 {
		return input, false
	}
	s.buffer = append(s.buffer[:0], s.keys[:s.matched]...)
	for _, b := range input {
		s.buffer = append(s.buffer, b)
		if b != s.keys[s.matched] {
			s.matched = 0
			continue
		}
		if s.matched++; s.matched == len(s.keys) {
			s.matched = 0
			return s.buffer[:len(s.buffer)-len(s.keys)], true
		}
	}
	return s.buffer[:len(s.buffer)-s.matched], false
}
