package mounts

import "testing"

func TestACloneHasTheMountsBeneathItsPath(t *testing.T) {
	points := Points{"/", "/a", "/a", "/a-b", "/a/b", "/a/b c", "/ab", "/proc"}
	for path, want := range map[string]int{"/": 8, "/a": 3, "/a/b": 1, "/a/b c": 1, "/ab": 1, "/missing": 1} {
		if got := points.CountInClone(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}
