package nsenter

import "syscall"

// RecordKind is what a Record tells.
type RecordKind byte

// The records, in their order. Until RecordForking nothing of the program can
// have run, nor after RecordFailed.
const (
	RecordForking RecordKind = iota + 1
	RecordChild              // Value is the child's PID
	RecordFailed             // Value is the step, Errno why
)

// RecordSize is the length of a record.
const RecordSize = 9

// Record is how far the process came.
type Record struct {
	Kind         RecordKind // 0: nowhere
	Value, Errno uint32
}

// ParseRecord reads one of RecordSize bytes.
func ParseRecord(data []byte) Record {
	_ = data[RecordSize-1]
	return Record{RecordKind(data[0]), number32(data[1:]), number32(data[5:])}
}

// record is the memory that the shim reads once this process has ended.
var record []byte

// mapRecords maps it, for this process alone, and answers memory that the child
// shares instead: a child that does not execute leaves there at which step and
// why. Neither is a descriptor, which somebody in the container could hold open.
func mapRecords() (ofChild []byte, errno syscall.Errno) {
	var err error
	if record, err = syscall.Mmap(recordFD, 0, RecordSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		return nil, err.(syscall.Errno)
	}
	if err := syscall.Madvise(record, syscall.MADV_DONTFORK); err != nil {
		return nil, err.(syscall.Errno)
	}
	if ofChild, err = syscall.Mmap(-1, 0, RecordSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON); err != nil {
		return nil, err.(syscall.Errno)
	}
	return ofChild, 0
}

// report replaces the record. The kind is last: a process may be killed at it.
func report(kind RecordKind, value uint32, errno syscall.Errno) {
	for i := range 4 {
		record[1+i] = byte(value >> (8 * i))
		record[5+i] = byte(errno >> (8 * i))
	}
	record[0] = byte(kind)
}
