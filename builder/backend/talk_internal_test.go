package backend

import (
	"bytes"
	"testing"

	"gotest.tools/v3/assert"
)

func TestAProcessThatIsGivenUpIsNotHeard(t *testing.T) {
	var out bytes.Buffer
	var first, second talk
	assert.Check(t, first.giveUp(), "it is not given up")
	if _, err := (&heard{&out, &first}).Write([]byte("late")); !isAway(err) || first.isHeard() {
		t.Errorf("it is heard: %v", err)
	}
	if _, err := (&heard{&out, &second}).Write([]byte("early")); err != nil || second.giveUp() {
		t.Errorf("it is given up although it was heard: %v", err)
	}
	if out.String() != "early" {
		t.Errorf("%q came through", &out)
	}
}
