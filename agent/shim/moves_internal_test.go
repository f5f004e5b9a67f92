package shim

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

func TestMovesAheadLeaveTheProcessWhereItIs(t *testing.T) {
	own := ownCgroup()
	members, err := os.ReadFile(own)
	if err != nil {
		t.Skipf("control groups are not shown here: %v", err)
	}
	if !slices.Contains(strings.Fields(string(members)), strconv.Itoa(os.Getpid())) {
		t.Fatalf("%s: %q has not this process, %d", own, members, os.Getpid())
	}
	before, err := cgroupPaths("self")
	assert.NilError(t, err)
	var moves quickMoves
	for range 3 { // together, and one after the other
		moves.soon()
		moves.soon()
		for moves.isWanted() {
			time.Sleep(time.Millisecond)
		}
	}
	if after, err := cgroupPaths("self"); err != nil || !maps.Equal(before, after) {
		t.Errorf("%v; before %v, after %v", err, before, after)
	}
}

func TestMovesEndWithTheContainersProcess(t *testing.T) {
	var moves quickMoves
	moves.soon()
	if moves.end(); moves.isWanted() {
		t.Error("they are still made")
	}
}
