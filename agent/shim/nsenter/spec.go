package nsenter

import (
	"syscall"
)

// Spec describes the program and its environment completely; only the program's
// path is still looked up.
type Spec struct {
	Args []string
	Env  []string
	Dir  string // absolute

	Terminal      bool   // the standard streams are one, made in the container
	Rows, Columns uint32 // its size; 0: unchanged

	Cgroups  []string // tasks or cgroup.procs of each, in the machine's mount namespace
	OOMScore string   // empty: unchanged
	Limits   []Limit
	Keyring  string // the session keyring's name; empty: none

	UID, GID uint32
	Groups   []uint32
	Umask    uint32

	Bounding, Effective, Permitted, Inheritable, Ambient uint64 // capabilities, a bit each
	NoNewPrivileges                                      bool
	Filter                                               []byte // of seccomp, as the kernel takes it; empty: none

	Root Root // of a main process
}

// Limit is one resource limit, by the kernel's number.
type Limit struct {
	Resource   uint32
	Soft, Hard uint64
}

// Encode serialises a Spec: numbers take 8 bytes, strings and lists are preceded
// by their length, fields follow in order. Both ends are the same binary.
func (s *Spec) Encode() []byte {
	w := &writer{}
	s.visit(w)
	return w.data
}

func decode(data []byte) (*Spec, syscall.Errno) {
	r := &reader{data: data}
	s := &Spec{}
	s.visit(r)
	if r.failed || len(r.data) > 0 || len(s.Args) == 0 {
		return nil, syscall.EBADMSG
	}
	return s, 0
}

// visit defines the order of the fields for both directions.
func (s *Spec) visit(c coder) {
	c.texts(&s.Args)
	c.texts(&s.Env)
	c.text(&s.Dir)
	c.texts(&s.Cgroups)
	c.text(&s.OOMScore)
	for i := range elements(c, &s.Limits) {
		c.small(&s.Limits[i].Resource)
		c.number(&s.Limits[i].Soft)
		c.number(&s.Limits[i].Hard)
	}
	c.text(&s.Keyring)
	c.small(&s.UID)
	c.small(&s.GID)
	for i := range elements(c, &s.Groups) {
		c.small(&s.Groups[i])
	}
	c.small(&s.Umask)
	for _, set := range []*uint64{&s.Bounding, &s.Effective, &s.Permitted, &s.Inheritable, &s.Ambient} {
		c.number(set)
	}
	c.truth(&s.NoNewPrivileges)
	c.truth(&s.Terminal)
	c.small(&s.Rows)
	c.small(&s.Columns)
	filter := string(s.Filter)
	c.text(&filter)
	s.Filter = []byte(filter)
	s.Root.visit(c)
}

func (r *Root) visit(c coder) {
	c.text(&r.Overlay)
	c.small(&r.Namespaces)
	for i := range elements(c, &r.Mounts) {
		m := &r.Mounts[i]
		c.text(&m.Type)
		c.text(&m.Source)
		c.text(&m.Target)
		c.small(&m.Flags)
		c.text(&m.Data)
	}
	for i := range elements(c, &r.Devices) {
		d := &r.Devices[i]
		c.text(&d.Name)
		c.small(&d.Mode)
		c.small(&d.UID)
		c.small(&d.GID)
		c.number(&d.Number)
		c.text(&d.Link)
	}
	c.texts(&r.Masked)
	c.texts(&r.ReadOnly)
}

// elements gives a decoded list the length that was encoded.
func elements[T any](c coder, list *[]T) []T {
	if length := c.length(len(*list)); *list == nil {
		*list = make([]T, length)
	}
	return *list
}

// coder encodes or decodes.
type coder interface {
	number(*uint64)
	small(*uint32)
	truth(*bool)
	text(*string)
	texts(*[]string)
	length(int) int
}

type writer struct{ data []byte }

func (w *writer) number(value *uint64) {
	for shift := 0; shift < 64; shift += 8 {
		w.data = append(w.data, byte(*value>>shift))
	}
}

func (w *writer) small(value *uint32) {
	wide := uint64(*value)
	w.number(&wide)
}

func (w *writer) truth(value *bool) {
	var wide uint64
	if *value {
		wide = 1
	}
	w.number(&wide)
}

func (w *writer) length(n int) int {
	wide := uint64(n)
	w.number(&wide)
	return n
}

func (w *writer) text(value *string) {
	w.length(len(*value))
	w.data = append(w.data, *value...)
}

func (w *writer) texts(values *[]string) {
	w.length(len(*values))
	for i := range *values {
		w.text(&(*values)[i])
	}
}

type reader struct {
	data   []byte
	failed bool
}

func (r *reader) number(value *uint64) {
	if len(r.data) < 8 {
		r.failed = true
		return
	}
	*value = uint64(number32(r.data)) | uint64(number32(r.data[4:]))<<32
	r.data = r.data[8:]
}

func (r *reader) small(value *uint32) {
	var wide uint64
	r.number(&wide)
	*value = uint32(wide)
}

func (r *reader) truth(value *bool) {
	var wide uint64
	r.number(&wide)
	*value = wide == 1
}

// length decodes a length that the remaining data can hold.
func (r *reader) length(int) int {
	var n uint64
	r.number(&n)
	if n > uint64(len(r.data)) {
		r.failed = true
		return 0
	}
	return int(n)
}

func (r *reader) text(value *string) {
	n := r.length(0)
	*value = string(r.data[:n])
	r.data = r.data[n:]
}

func (r *reader) texts(values *[]string) {
	*values = make([]string, r.length(0))
	for i := range *values {
		r.text(&(*values)[i])
	}
}

func number32(data []byte) uint32 {
	_ = data[3]
	return uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
}

// readSpec reads the pipe to its end.
func readSpec() (*Spec, syscall.Errno) {
	data := make([]byte, 0, 64<<10)
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := syscall.Read(specFD, data[len(data):cap(data)])
		if err == syscall.EINTR {
			continue
		}
		if errno, failed := err.(syscall.Errno); failed {
			return nil, errno
		}
		if n == 0 {
			return decode(data)
		}
		data = data[:len(data)+n]
	}
}
