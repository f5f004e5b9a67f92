package shim

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestAShortageGivesNoExecTheMachinesNullDevice(t *testing.T) {
	shortage := true
	d := nullDevice{create: func() (*os.File, error) {
		if shortage {
			return nil, unix.EMFILE
		}
		return makeNull()
	}}
	if file, err := d.open(); !errors.Is(err, unix.EMFILE) {
		t.Error(file, err)
	}
	shortage = false
	file, err := d.open()
	assert.NilError(t, err)
	defer file.Close()
	var own, machines unix.Stat_t
	assert.NilError(t, errors.Join(unix.Fstat(int(file.Fd()), &own), unix.Stat(os.DevNull, &machines)))
	if own.Dev == machines.Dev && own.Ino == machines.Ino {
		t.Error("once it has passed: it is the machine's")
	}
}
