package worker

import "testing"

func TestTheBeginningOfWhatAFrontendPrintsIsKept(t *testing.T) {
	printed := &beginning{limit: 5}
	for _, text := range []string{"abc", "defg", "h"} {
		if n, err := printed.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	}
	if printed.kept.String() != "abcde" {
		t.Errorf("kept %q", printed.kept.String())
	}
}
