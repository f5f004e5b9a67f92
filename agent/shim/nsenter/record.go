package nsenter

import "syscall"

// RecordKind is the kind of a Record.
type RecordKind byte

// The records, in order. Before RecordForking, and after RecordFailed, nothing of
// the program has run.
const (
	RecordForking RecordKind = iota + 1
	RecordChild              // Value is the child's PID
	RecordFailed             // Value is the step, Errno why
)

// RecordSize is the length of a record.
const RecordSize = 9

// Record is the progress of the entering process.
type Record struct {
	Kind         RecordKind // 0: nothing has happened
	Value, Errno uint32
}

// ParseRecord parses RecordSize bytes.
func ParseRecord(data []byte) Record {
	_ = data[RecordSize-1]
	return Record{RecordKind(data[0]), number32(data[1:]), number32(data[5:])}
}

// record is the memory that the shim reads after this process has ended.
var record []byte

// mapRecords maps record for this process alone, and returns other memory shared
// with the child, where a child that fails to execute leaves the step and the
// error. Neither stays a descriptor, which a process of the container could hold
// open.
func mapRecords() (childRecord []byte, errno syscall.Errno) {
	var err error
	if record, err = syscall.Mmap(recordFD, 0, RecordSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		return nil, err.(syscall.Errno)
	}
	if err := syscall.Madvise(record, syscall.MADV_DONTFORK); err != nil {
		return nil, err.(syscall.Errno)
	}
	if childRecord, err = syscall.Mmap(-1, 0, RecordSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON); err != nil {
		return nil, err.(syscall.Errno)
	}
	return childRecord, 0
}

// report replaces the record. The kind is written last, since the process may be
// killed half-way.
func report(kind RecordKind, value uint32, errno syscall.Errno) {
	for i := range 4 {
		record[1+i] = byte(value >> (8 * i))
		record[5+i] = byte(errno >> (8 * i))
	}
	record[0] = byte(kind)
}
