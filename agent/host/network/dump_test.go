package network

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
	"gotest.tools/v3/assert"
)

func TestAnInterruptedListingIsBegunAgain(t *testing.T) {
	attempts := 0
	found, err := dump(func() ([]int, error) {
		if attempts++; attempts < 3 {
			return []int{1}, netlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	if err != nil || len(found) != 2 {
		t.Fatalf("%v, %v", found, err)
	}
	broken := errors.New("broken")
	_, err = dump(func() ([]int, error) { return nil, broken })
	assert.ErrorIs(t, err, broken)
	_, err = dump(func() ([]int, error) { return nil, netlink.ErrDumpInterrupted })
	assert.ErrorIs(t, err, netlink.ErrDumpInterrupted)
}
