package worker

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/frontend"
	"github.com/moby/buildkit/solver/pb"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

// solvesNothing is a bridge that counts its solves.
type solvesNothing struct {
	frontend.FrontendLLBBridge
	count int
}

func (s *solvesNothing) Solve(context.Context, frontend.SolveRequest, string) (*frontend.Result, error) {
	s.count++
	return &frontend.Result{}, nil
}

func TestADefinitionsOperationsAndInputsAreBounded(t *testing.T) {
	file := llb.Scratch().File(llb.Mkfile("/file", 0o644, nil))
	merged := func(inputs int) llb.State {
		states := make([]llb.State, inputs)
		for at := range states {
			states[at] = file
		}
		return llb.Merge(states)
	}
	chain := func(steps int) llb.State {
		state := file
		for range steps {
			state = state.Run(llb.Args([]string{"make"}), llb.AddMount("/m", file, llb.Readonly)).Root()
		}
		return state
	}
	merges := func(count int) llb.State {
		state := file
		for at := range count {
			state = llb.Merge([]llb.State{state, llb.Scratch().File(llb.Mkfile(fmt.Sprint("/", at), 0o644, nil))})
		}
		return state
	}
	diffs := func(depth int) llb.State {
		state := file
		for range depth {
			state = llb.Diff(state, state)
		}
		return state
	}
	nested := func(depth int, options ...llb.ConstraintsOpt) llb.State {
		state := file
		for range depth {
			state = llb.Merge([]llb.State{state, state}, options...)
		}
		return state
	}
	const inputs, graph = "an operation of the build has 1025 inputs, more than the 1024", "more than 8192 operations and inputs"
	for name, each := range map[string]struct {
		state   llb.State
		refusal string
	}{
		"an operation of as many inputs as are let": {merged(maxInputs), ""},
		"one more":                   {merged(maxInputs + 1), inputs},
		"a build of 2,000 steps":     {chain(2000), ""},
		"one of 3,000":               {chain(3000), graph},
		"operations of many inputs":  {llb.Merge([]llb.State{merged(1024), merged(1023), merged(1022), merged(1021), merged(1020), merged(1019), merged(1018), merged(1017), merged(1016)}), graph},
		"merges on merges":           {merges(500), ""},
		"diffs that double":          {diffs(40), "the names of the build's operations have more than the 67108864 bytes"},
		"names that double":          {nested(40), "the names of the build's operations have more than the 67108864 bytes"},
		"inputs that are used twice": {nested(22, llb.WithCustomName("merge")), ""},
		"and so are theirs, and on":  {nested(25, llb.WithCustomName("merge")), "more than 67108864 paths"},
	} {
		definition, err := each.state.Marshal(t.Context())
		must(t, err)
		solving := &solvesNothing{}
		_, err = BoundedBridge{FrontendLLBBridge: solving}.Solve(t.Context(), frontend.SolveRequest{Definition: definition.ToPB()}, "")
		if each.refusal == "" && (err != nil || solving.count != 1) || each.refusal != "" && (err == nil || !strings.Contains(err.Error(), each.refusal) || solving.count > 0) {
			t.Errorf("%s: %v, %d solves", name, err, solving.count)
		}
	}
	if err := BoundSolve(0, &pb.Definition{Def: [][]byte{{0xff}}}); err == nil {
		t.Error("what is no operation is let")
	}
}

// BuildKit calls both where it recovers nothing.
func TestAPanicOfASolveOrAnExportIsItsErrorAlone(t *testing.T) {
	w, _ := workerOf(t)
	_, solved := BoundedBridge{}.Solve(t.Context(), frontend.SolveRequest{}, "")
	_, _, _, exported := (&stateExport{worker: w}).Export(t.Context(), &exporter.Source{}, exporter.ExportBuildInfo{})
	for _, err := range []error{solved, exported} {
		assert.Check(t, is.ErrorContains(err, "the builder failed"))
	}
}
