package environment

import (
	"slices"
	"testing"
)

func TestLaterEntriesWinInPlaceAndBareNamesRemove(t *testing.T) {
	got := Overlay([]string{"A=1", "B=2", "C=3", "A=4"}, []string{"B=x=y", "D=", "C", "E"})
	if want := []string{"A=4", "B=x=y", "D="}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestADefaultGivesWay(t *testing.T) {
	if got := WithDefault([]string{"HOME="}, "HOME", "/"); !slices.Equal(got, []string{"HOME="}) {
		t.Errorf("got %q", got)
	}
	if got := WithDefault(nil, "HOME", "/"); !slices.Equal(got, []string{"HOME=/"}) {
		t.Errorf("got %q", got)
	}
}
