package server

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/platforms"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// plan displays a build like the classic builder: by instruction, in the Dockerfile's order, whatever order BuildKit
// runs them in. An instruction's output waits until the earlier ones have ended.
type plan struct {
	out   *messages
	steps []*planned
	// The first step still running.
	at int
	// Steps by stage and number in it, as in the names of BuildKit's vertices, which count triggers first.
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
	// Whether the number of triggers was displayed.
	hasTold bool
	output  []byte
	// The image's triggers, by digest, and whether each has ended.
	triggers map[string]bool
}

func (s *planned) hasEnded() bool {
	for _, hasEnded := range s.triggers {
		if !hasEnded {
			return false
		}
	}
	return s.isDone || !s.hasWork
}

// defaultDockerfile is the default name, also tried in lower case.
const defaultDockerfile = "Dockerfile"

// readPlan parses a context's Dockerfile up to the target. It stores the found name in the attributes of BuildKit's
// frontend.
func readPlan(directory string, attributes map[string]string) (*plan, error) {
	filename, target := attributes["filename"], attributes["target"]
	root, err := os.OpenRoot(directory)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// A named pipe reads as empty, since it has no writer.
	open := func(name string) (*os.File, error) { return root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) }
	path := filepath.Clean(strings.TrimLeft(filename, "/"))
	attributes["filename"] = path
	file, err := open(path)
	if errors.Is(err, fs.ErrNotExist) && filename == defaultDockerfile {
		if file, err = open(strings.ToLower(filename)); err == nil {
			attributes["filename"] = strings.ToLower(filename)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("Cannot locate specified Dockerfile: %s", filename)
	}
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return nil, err
	}
	if err != nil { // dockerd's text ends with the name of a remote context, which is empty here
		return nil, wrong("forbidden path outside the build context: %s ()", filename)
	}
	defer file.Close()
	dockerfile, err := io.ReadAll(io.LimitReader(file, maxDockerfile+1))
	if err != nil {
		return nil, wrong("failed to parse %s: %s", filename, err)
	}
	if err := refuseLarge(dockerfile); err != nil {
		return nil, wrong("%s", err)
	}
	if len(dockerfile) == 0 {
		return nil, wrong("the Dockerfile (%s) cannot be empty", filename)
	}
	parsed, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, wrong("failed to parse %s: %s", filename, err)
	}
	stages, arguments, err := instructions.Parse(parsed.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, wrong("%s", err)
	}
	if len(stages) == 0 {
		return nil, wrong("No image was generated. Is your Dockerfile empty?")
	}
	// The arguments before the stages are expanded below.
	bounds, err := readExpansions(parsed, attributes)
	if err == nil {
		err = bounds.check()
	}
	if err != nil {
		return nil, wrong("%s", err)
	}
	made := &plan{byPlace: map[place]*planned{}, byDigest: map[string]*planned{}, target: len(stages) - 1}
	if target != "" {
		at, ok := instructions.HasStage(stages, target)
		if !ok {
			return nil, wrong("target stage %q could not be found", target)
		}
		made.target = at
	}
	words, given := shell.NewLex(parsed.EscapeToken), globalArguments(attributes, stages[made.target].Name)
	for _, each := range arguments {
		made.add(each.String(), nil)
		for _, argument := range each.Args {
			value, isGiven := attributes["build-arg:"+argument.Key]
			if !isGiven && argument.Value != nil {
				// BuildKit refuses the build for invalid values.
				value, _, _ = words.ProcessWord(*argument.Value, given)
				isGiven = true
			}
			if isGiven {
				given = given.AddOrReplace(argument.Key, value)
			}
		}
	}
	for at, stage := range stages[:made.target+1] {
		// A stage on scratch or on another stage has no vertex for its FROM.
		number := 1
		base, _, _ := words.ProcessWord(stage.BaseName, given)
		if base == "scratch" || slices.Contains(made.stages, strings.ToLower(base)) {
			number = 0
		}
		made.stages = append(made.stages, strings.ToLower(stage.Name))
		made.addFrom(at, stage.SourceCode, number == 1)
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

// globalArguments are BuildKit's predefined arguments for FROM.
func globalArguments(attributes map[string]string, target string) *llb.EnvList {
	build := platforms.DefaultSpec()
	platform, err := platforms.Parse(attributes["platform"])
	if err != nil {
		platform = build
	}
	made := &llb.EnvList{}
	for name, value := range map[string]string{
		"BUILDPLATFORM": platforms.Format(build), "BUILDOS": build.OS, "BUILDARCH": build.Architecture, "BUILDVARIANT": build.Variant,
		"TARGETPLATFORM": platforms.Format(platform), "TARGETOS": platform.OS, "TARGETARCH": platform.Architecture, "TARGETVARIANT": platform.Variant,
		"TARGETSTAGE": cmp.Or(target, "default"),
	} {
		if given, ok := attributes["build-arg:"+name]; ok {
			value = given
		}
		made = made.AddOrReplace(name, value)
	}
	return made
}

// addFrom adds the first step of a stage, which also gets the base image's triggers.
func (p *plan) addFrom(stage int, title string, hasWork bool) {
	p.add(title, &place{stage, 0})
	p.steps[len(p.steps)-1].hasWork = hasWork
}

func (p *plan) add(title string, where *place) {
	step := &planned{title: maskPasswords(title), triggers: map[string]bool{}}
	if where != nil {
		step.hasWork = true
		p.byPlace[*where] = step
	}
	p.steps = append(p.steps, step)
}

// vertexName parses "[build  2/13] RUN make" and "[2/3] ONBUILD RUN make".
var vertexName = regexp.MustCompile(`^\[(?:\S+/\S+ )?(?:(\S+) )? *(\d+)/\d+\] (ONBUILD )?(FROM )?`)

// stepOf finds the step of a vertex, and whether it is a trigger of that step's image.
func (p *plan) stepOf(vertex *controlapi.Vertex) (step *planned, isTrigger bool) {
	parts := vertexName.FindStringSubmatch(vertex.Name)
	if parts == nil {
		return nil, false
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
	from := p.byPlace[place{stage, 0}]
	if from == nil || parts[4] != "" {
		return from, false
	}
	if parts[3] != "" {
		return from, true
	}
	return p.byPlace[place{stage, number - len(from.triggers)}], false
}

func (p *plan) show(response *controlapi.StatusResponse) error {
	for _, vertex := range response.Vertexes {
		step, isTrigger := p.stepOf(vertex)
		if step == nil {
			continue
		}
		p.byDigest[vertex.Digest] = step
		isDone := vertex.Completed != nil && vertex.Error == ""
		if isTrigger {
			step.triggers[vertex.Digest] = isDone
			continue
		}
		step.cached = step.cached || vertex.Cached
		step.isDone = step.isDone || isDone
	}
	for _, log := range response.Logs {
		if step := p.byDigest[log.Vertex]; step != nil {
			step.output = append(step.output, marked(log)...)
		}
	}
	return p.advance(false)
}

// marked formats output like the classic builder: standard error is light red.
func marked(log *controlapi.VertexLog) []byte {
	if log.Stream != stderrStream {
		return log.Msg
	}
	return slices.Concat([]byte("\x1b[91m"), log.Msg, []byte("\x1b[0m"))
}

// stderrStream is the number of standard error in BuildKit's logs.
const stderrStream = 2

// advance displays what is ready. With isEnded nothing more follows.
func (p *plan) advance(isEnded bool) error {
	for ; p.at < len(p.steps); p.at++ {
		step := p.steps[p.at]
		if !step.isTold {
			step.isTold = true
			if err := errors.Join(p.out.stream(fmt.Sprintf("Step %d/%d : %s", p.at+1, len(p.steps), step.title)), p.out.stream("\n")); err != nil {
				return err
			}
		}
		if count := len(step.triggers); count > 0 && !step.hasTold {
			step.hasTold = true
			if err := p.out.stream(fmt.Sprintf("# Executing %d build trigger%s\n", count, strings.Repeat("s", min(1, count-1)))); err != nil {
				return err
			}
		}
		if len(step.output) > 0 {
			if err := p.out.stream(string(step.output)); err != nil {
				return err
			}
			step.output = nil
		}
		if !step.hasEnded() && !isEnded {
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

// stop displays the output of the failed step.
func (p *plan) stop() {
	for at := p.at; at < len(p.steps) && p.out != nil; at++ {
		if step := p.steps[at]; len(step.output) > 0 {
			_ = p.out.stream(string(step.output))
		}
	}
}

// finish displays the rest, and the image of the last step.
func (p *plan) finish(id string) {
	// The next write reports a client that has left.
	_ = p.advance(true)
	_ = p.out.stream(fmt.Sprintf(" ---> %s\n", shortID(id)))
}
