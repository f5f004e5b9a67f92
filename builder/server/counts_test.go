package server

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"testing"

	"gotest.tools/v3/assert"
)

func TestBuildsTheirStepsAndThoseOfTheCacheAreCounted(t *testing.T) {
	s, _ := running(t)
	read := func() (told counted) {
		t.Helper()
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, httptest.NewRequestWithContext(context.Background(), "GET", "/build/counts", nil))
		if err := json.Unmarshal(answer.Body.Bytes(), &told); err != nil {
			t.Fatal(err, answer.Body)
		}
		return told
	}
	if told := read(); told != (counted{}) {
		t.Errorf("before any build: %+v", told)
	}
	assert.NilError(t, solved(s, "one", "first"))
	first := read()
	if first.Succeeded != 1 || first.Failed != 0 || first.Steps == 0 || first.CachedSteps != 0 {
		t.Errorf("a build that is new: %+v", first)
	}
	assert.NilError(t, solved(s, "two", "first"))
	if again := read(); again.Succeeded != 2 || again.CachedSteps == 0 || again.Steps != 2*first.Steps {
		t.Errorf("the same again: %+v after %+v", again, first)
	}
}
