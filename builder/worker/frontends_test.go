package worker

import (
	"testing"

	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/frontend/gateway/container"
)

func TestAContainerOfAFrontendMayHaveNoStreams(t *testing.T) {
	w, _ := workerOf(t)
	w.talking = slots{size: 1}
	made, err := (&manager{Worker: w}).New(t.Context(), nil, nil)
	must(t, err)
	defer made.Release(t.Context())
	process := executor.ProcessInfo{Meta: executor.Meta{Args: []string{"true"}}}
	_, err = frontends{w}.Run(t.Context(), "", container.MountWithSession(made, nil), nil, process, nil)
	must(t, err)
}

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
