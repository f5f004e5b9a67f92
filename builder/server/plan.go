package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// plan shows a build as the classic builder does: instruction after instruction, in the order of the Dockerfile, whatever
// order BuildKit runs them in. An instruction's output waits until those before it have ended.
type plan struct {
	out   *messages
	steps []*planned
	// The first step that has not ended.
	at int
	// Steps by stage and number there, as BuildKit's names of vertices have them.
	byPlace  map[place]*planned
	byDigest map[string]*planned
	target   int
	stages   []string
}

type place struct{ stage, number int }

type planned struct {
	title   string
	hasWork bool
	isTold  bool
	isDone  bool
	cached  bool
	output  []byte
}

// readPlan reads the Dockerfile of a context up to the target.
func readPlan(directory, filename, target string) (*plan, error) {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.Open(strings.TrimPrefix(filename, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("Cannot locate specified Dockerfile: %s", filename)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parsed, err := parser.Parse(file)
	if err != nil {
		if strings.Contains(err.Error(), "file with no instructions") {
			return nil, &refused{http.StatusBadRequest, fmt.Sprintf("the Dockerfile (%s) cannot be empty", filename)}
		}
		return nil, &refused{http.StatusBadRequest, err.Error()}
	}
	stages, arguments, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		return nil, &refused{http.StatusBadRequest, err.Error()}
	}
	made := &plan{byPlace: map[place]*planned{}, byDigest: map[string]*planned{}, target: len(stages) - 1}
	if target != "" {
		at, ok := instructions.HasStage(stages, target)
		if !ok {
			if number, err := strconv.Atoi(target); err == nil && number >= 0 && number < len(stages) {
				at, ok = number, true
			}
		}
		if !ok {
			return nil, &refused{http.StatusBadRequest, fmt.Sprintf("target stage %q could not be found", target)}
		}
		made.target = at
	}
	for _, each := range arguments {
		made.add(each.String(), nil)
	}
	for at, stage := range stages[:made.target+1] {
		made.stages = append(made.stages, strings.ToLower(stage.Name))
		made.add(stage.SourceCode, &place{at, 1})
		number := 1
		for _, command := range stage.Commands {
			var where *place
			switch command.(type) {
			case *instructions.RunCommand, *instructions.CopyCommand, *instructions.AddCommand, *instructions.WorkdirCommand:
				number++
				where = &place{at, number}
			}
			made.add(fmt.Sprintf("%v", command), where)
		}
	}
	return made, nil
}

func (p *plan) add(title string, where *place) {
	step := &planned{title: title}
	if where != nil {
		step.hasWork = true
		p.byPlace[*where] = step
	}
	p.steps = append(p.steps, step)
}

// vertexName takes "[build 2/3] RUN make" apart.
var vertexName = regexp.MustCompile(`^\[(?:\S+/\S+ )?(?:(\S+) )?(\d+)/\d+\] `)

func (p *plan) stepOf(name string) *planned {
	parts := vertexName.FindStringSubmatch(name)
	if parts == nil {
		return nil
	}
	number, _ := strconv.Atoi(parts[2])
	stage := p.target
	if parts[1] != "" {
		stage = -1
		if text, ok := strings.CutPrefix(parts[1], "stage-"); ok {
			if at, err := strconv.Atoi(text); err == nil {
				stage = at
			}
		}
		for at, known := range p.stages {
			if known == parts[1] {
				stage = at
			}
		}
	}
	return p.byPlace[place{stage, number}]
}

func (p *plan) show(response *controlapi.StatusResponse) error {
	for _, vertex := range response.Vertexes {
		step := p.stepOf(vertex.Name)
		if step == nil {
			continue
		}
		p.byDigest[vertex.Digest] = step
		step.cached = step.cached || vertex.Cached
		step.isDone = step.isDone || (vertex.Completed != nil && vertex.Error == "")
	}
	for _, log := range response.Logs {
		if step := p.byDigest[log.Vertex]; step != nil {
			step.output = append(step.output, log.Msg...)
		}
	}
	return p.advance(false)
}

// advance tells what can be told now. With isEnded nothing more comes.
func (p *plan) advance(isEnded bool) error {
	for ; p.at < len(p.steps); p.at++ {
		step := p.steps[p.at]
		if !step.isTold {
			step.isTold = true
			if err := errors.Join(p.out.stream(fmt.Sprintf("Step %d/%d : %s", p.at+1, len(p.steps), step.title)), p.out.stream("\n")); err != nil {
				return err
			}
		}
		if len(step.output) > 0 {
			if err := p.out.stream(string(step.output)); err != nil {
				return err
			}
			step.output = nil
		}
		if step.hasWork && !step.isDone && !isEnded {
			return nil
		}
		if step.cached && !strings.HasPrefix(strings.ToUpper(step.title), "FROM") {
			if err := p.out.stream(" ---> Using cache\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// stop tells the output of the step that failed.
func (p *plan) stop() {
	for at := p.at; at < len(p.steps) && p.out != nil; at++ {
		if step := p.steps[at]; len(step.output) > 0 {
			_ = p.out.stream(string(step.output))
		}
	}
}

// finish tells the rest, and the image that came of the last step.
func (p *plan) finish(id string) {
	// A client that has left is noticed by what follows.
	_ = p.advance(true)
	_ = p.out.stream(fmt.Sprintf(" ---> %s\n", shortID(id)))
}
