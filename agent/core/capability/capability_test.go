package capability

import (
	"testing"

	"gotest.tools/v3/assert"
)

func TestNamesAndBitsAgreeWithTheKernelsNumbers(t *testing.T) {
	list := DockerDefault.Names()
	if len(list) != 14 || list[0] != "CAP_CHOWN" || list[13] != "CAP_SETFCAP" {
		t.Errorf("names %q", list)
	}
	set, err := Parse(list)
	if err != nil || set != DockerDefault {
		t.Errorf("%b, %v", set, err)
	}
	if _, err := Parse([]string{"CHOWN"}); err == nil {
		t.Error("an unknown name was taken")
	}
}

func TestWhatIsEffectiveIsWithinTheBounds(t *testing.T) {
	effective, err := Effective()
	assert.NilError(t, err)
	bounding, err := Bounding()
	if err != nil || effective&^bounding != 0 {
		t.Errorf("effective %q, bounding %q, %v", effective.Names(), bounding.Names(), err)
	}
}
