package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"

	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	digest "github.com/opencontainers/go-digest"
	csvvalue "github.com/tonistiigi/go-csvvalue"

	"github.com/sockerless/sockerless/builder/worker"
)

const (
	// maxVariable bounds a variable of a Dockerfile.
	maxVariable = 1 << 20
	// maxExpanded bounds a Dockerfile's instructions with expanded variables, for all platforms together.
	maxExpanded = 64 << 20

	// maxDockerfile bounds a Dockerfile's bytes, and maxLines its lines: the parser keeps words and comments.
	maxDockerfile = 1 << 20
	maxLines      = maxExpanded / lineBytes

	// Rough sizes of what BuildKit allocates besides the text.
	instructionBytes = 1 << 10
	lineBytes        = 1 << 9 // a line of an instruction, whose position each of its operations records
	variableBytes    = 64
	historyBytes     = 128 // an instruction of a stage's base
	portBytes        = 8   // a port of an EXPOSE, which has each of a range
	patternBytes     = 128 // a byte of a pattern, which becomes a regular expression

	maxPorts = 1<<16 - 1
	// maxFileOperations bounds a Dockerfile's operations on files, for all platforms together. BuildKit begins all that do
	// not wait for each other at once.
	maxFileOperations = 512
	// fetchOperations is how many operations more a source is that is fetched: by several processes of git, perhaps.
	fetchOperations = 7
	// sourcesOfOperation is how many sources of a COPY take as long as an operation.
	sourcesOfOperation = 16
	// maxMatching bounds how the linter matches sources of COPY and ADD with patterns of .dockerignore: for each directory
	// of a source and each wildcard, the bytes of the source.
	maxMatching = 1 << 30

	// unsetBytes bounds what BuildKit displays for an unset variable: a secret's variable is displayed as asterisks.
	unsetBytes = 16
	// predefinedBytes bounds platform values.
	predefinedBytes = 128
)

// predefined lists BuildKit's global arguments.
var predefined = []string{
	"BUILDPLATFORM", "BUILDOS", "BUILDOSVERSION", "BUILDARCH", "BUILDVARIANT",
	"TARGETPLATFORM", "TARGETOS", "TARGETOSVERSION", "TARGETARCH", "TARGETVARIANT", "TARGETSTAGE",
}

// expansions bounds what a Dockerfile becomes when its variables are expanded. BuildKit expands them without a limit in
// code that cannot be interrupted. Bounds only grow: a variable counts with the longest value that it may have.
type expansions struct {
	escape       rune
	words        *shell.Lex
	instructions []instruction
	options      map[string]string
	// The wildcards of .dockerignore.
	wildcards int64

	mu sync.Mutex
	// Bounds of what the base images known so far give a stage.
	images *stageBound
	// The text of their triggers.
	triggers map[string]bool
}

type instruction struct {
	node   *parser.Node
	parsed any
	// For ONBUILD; nil: BuildKit refuses the trigger.
	trigger *instruction
}

// refuseLarge refuses a Dockerfile that takes too much memory to parse.
func refuseLarge(dockerfile []byte) error {
	if len(dockerfile) > maxDockerfile {
		return fmt.Errorf("the Dockerfile has more than the %d bytes that it may have", maxDockerfile)
	}
	if lines := bytes.Count(dockerfile, []byte("\n")); lines > maxLines {
		return fmt.Errorf("the Dockerfile has %d lines, more than the %d that it may have", lines, maxLines)
	}
	return nil
}

// readExpansions parses a Dockerfile's instructions. It reports an error where BuildKit does.
func readExpansions(dockerfile *parser.Result, options map[string]string) (*expansions, error) {
	made := &expansions{
		escape: dockerfile.EscapeToken, words: shell.NewLex(dockerfile.EscapeToken), options: options,
		images: newStageBound(), triggers: map[string]bool{},
	}
	for _, node := range dockerfile.AST.Children {
		each, err := readInstruction(node)
		if err != nil {
			return nil, err
		}
		made.instructions = append(made.instructions, each)
	}
	return made, nil
}

func readInstruction(node *parser.Node) (instruction, error) {
	parsed, err := instructions.ParseInstructionWithLinter(node, linter.New(&linter.Config{}))
	if err != nil {
		return instruction{}, err
	}
	made := instruction{node: node, parsed: parsed}
	if onbuild, ok := parsed.(*instructions.OnbuildCommand); ok {
		made.trigger = readTrigger(onbuild.Expression)
	}
	return made, nil
}

// readTrigger returns nil for what BuildKit refuses as a trigger.
func readTrigger(expression string) *instruction {
	parsed, err := parser.Parse(strings.NewReader(expression))
	if err != nil || len(parsed.AST.Children) != 1 {
		return nil
	}
	made, err := readInstruction(parsed.AST.Children[0])
	if err != nil {
		return nil
	}
	return &made
}

// addImage adds a base image's configuration, and checks the Dockerfile with it.
func (e *expansions) addImage(config []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.addConfig(config); err != nil {
		return err
	}
	return e.bound()
}

// addConfig adds a base image's configuration. BuildKit reports an invalid one.
func (e *expansions) addConfig(config []byte) error {
	var image dockerspec.DockerOCIImage
	if json.Unmarshal(config, &image) != nil {
		return nil
	}
	for _, variable := range image.Config.Env {
		name, value, _ := strings.Cut(variable, "=")
		if err := e.images.set(name, int64(len(value))); err != nil {
			return err
		}
	}
	e.images.assigned = max(e.images.assigned, int64(len(image.Config.Env)))
	for name, value := range map[string]string{workdir: image.Config.WorkingDir, user: image.Config.User, shellWords: strings.Join(image.Config.Shell, " ")} {
		if err := e.images.set(name, int64(len(value))); err != nil {
			return err
		}
	}
	for _, expression := range image.Config.OnBuild {
		if e.triggers[expression] {
			continue
		}
		e.triggers[expression] = true
		if trigger := readTrigger(expression); trigger != nil {
			if trigger.node.PrevComment != nil { // BuildKit panics for some
				return fmt.Errorf("a trigger of a base image has a comment: %q", expression)
			}
			e.images.triggers = append(e.images.triggers, trigger)
		}
	}
	return nil
}

// check returns an error for a Dockerfile that may exceed a limit. Named contexts' configurations come with the options.
func (e *expansions) check() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, value := range e.options {
		metadata := map[string][]byte{}
		if strings.HasPrefix(name, "input-metadata:") && json.Unmarshal([]byte(value), &metadata) == nil {
			if err := e.addConfig(metadata[exptypes.ExporterImageConfigKey]); err != nil {
				return err
			}
		}
	}
	return e.bound()
}

// Pseudo-variables for a stage's other state, which each step contains too. The leading blank keeps them apart from variables.
const (
	workdir    = " WORKDIR"
	user       = " USER"
	shellWords = " SHELL"
)

// stageBound bounds what an instruction finds in its stage.
type stageBound struct {
	variables map[string]int64
	// Longest value of the variables whose names are expanded: any name may be one of them.
	unnamed int64
	// Bound of all variables with their names.
	sum int64
	// Assignments so far. BuildKit lists them all, repeated ones too, wherever it looks a variable up.
	assigned int64
	triggers []*instruction
	history  int64
}

func newStageBound() *stageBound { return &stageBound{variables: map[string]int64{}} }

// set bounds a variable by its longest value.
func (s *stageBound) set(name string, value int64) error {
	if value > maxVariable {
		if part, ok := strings.CutPrefix(name, " "); ok {
			return fmt.Errorf("the Dockerfile's %s may have %d bytes, more than the %d that it may have", part, value, maxVariable)
		}
		return fmt.Errorf("the Dockerfile's variable %q may have %d bytes, more than the %d that one may have", name, value, maxVariable)
	}
	known, ok := s.variables[name]
	if !ok {
		s.sum = plus(s.sum, int64(len(name))+variableBytes)
	}
	if !ok || value > known {
		s.sum = plus(s.sum, value-known)
		s.variables[name] = value
	}
	return nil
}

// setUnnamed bounds a variable whose name is itself expanded.
func (s *stageBound) setUnnamed(name string, length, value int64) error {
	if err := newStageBound().set(name, value); err != nil {
		return err
	}
	s.unnamed = max(s.unnamed, value)
	s.sum = plus(s.sum, plus(length, value)+variableBytes)
	return nil
}

// listed bounds a list of all assignments.
func (s *stageBound) listed() int64 { return times(s.assigned, variableBytes) }

func (s *stageBound) value(name string) int64 {
	value, ok := s.variables[name]
	if !ok {
		value = unsetBytes
	}
	return max(value, s.unnamed)
}

// add adds what a base may give. Its bounds are within the limits.
func (s *stageBound) add(base *stageBound) {
	for name, value := range base.variables {
		_ = s.set(name, value)
	}
	if base.unnamed > 0 {
		s.unnamed = max(s.unnamed, base.unnamed)
		s.sum = max(s.sum, base.sum)
	}
	s.assigned = max(s.assigned, base.assigned)
	s.triggers = append(s.triggers, base.triggers...)
	s.history = max(s.history, base.history)
}

// estimate is a pass over a Dockerfile.
type estimate struct {
	*expansions
	platforms int64
	// Bound of the options that each step contains.
	shared         int64
	sum            int64
	fileOperations int64
	// The bytes of sources of COPY and ADD, for each of their directories.
	matched int64
	// The stages so far by name.
	named map[string]*stageBound
	// Names of images that may be pulled.
	pulled map[string]bool
}

// bound does not tell stages on images from those on stages, nor the images: a named context may replace either, and
// platforms may differ in their bases.
func (e *expansions) bound() error {
	pass := &estimate{expansions: e, platforms: int64(1 + strings.Count(e.options["platform"], ",")), shared: stepOptions(e.options), named: map[string]*stageBound{}, pulled: map[string]bool{}}
	global := newStageBound()
	target := int64(len(e.options["target"]))
	for _, each := range e.instructions {
		if stage, ok := each.parsed.(*instructions.Stage); ok {
			target = max(target, int64(len(stage.Name)))
		}
	}
	for _, name := range predefined {
		if err := global.set(name, max(predefinedBytes, target, int64(len(e.options["build-arg:"+name])))); err != nil {
			return err
		}
	}
	all := newStageBound() // All stages together, for a FROM with variables.
	var current *stageBound
	var name string
	end := func() {
		if current != nil {
			all.add(current)
		}
		if name != "" {
			pass.named[strings.ToLower(name)] = current
		}
	}
	for at := range e.instructions {
		each := &e.instructions[at]
		stage, ok := each.parsed.(*instructions.Stage)
		if !ok {
			within := current
			if within == nil {
				within = global
			}
			if err := pass.run(each, within); err != nil {
				return err
			}
			continue
		}
		end()
		current, name = newStageBound(), stage.Name
		current.add(global)
		current.add(e.images)
		if err := current.set("PATH", predefinedBytes); err != nil {
			return err
		}
		if strings.Contains(stage.BaseName, "$") {
			current.add(all)
		} else if base, _, err := e.words.ProcessWord(stage.BaseName, shell.EnvsFromSlice(nil)); err == nil && pass.named[strings.ToLower(base)] != nil {
			current.add(pass.named[strings.ToLower(base)])
		}
		if err := pass.begin(each, stage, global, current); err != nil {
			return err
		}
		triggers := current.triggers
		current.triggers = nil
		for _, trigger := range triggers {
			if err := pass.run(trigger, current); err != nil {
				return err
			}
		}
	}
	if sum := times(times(pass.matched, e.wildcards), pass.platforms); sum > maxMatching {
		return fmt.Errorf("the sources of COPY and ADD take too long to match with the %d wildcards of .dockerignore, of which a ** counts as several", e.wildcards)
	}
	return nil
}

// begin adds a FROM, whose stage has copies of what its base has.
func (e *estimate) begin(from *instruction, stage *instructions.Stage, global, current *stageBound) error {
	e.addImage(stage.BaseName)
	if err := e.addText(from); err != nil {
		return err
	}
	for _, word := range []string{stage.BaseName, stage.Platform} {
		if _, err := e.word(word, global, e.escape, false); err != nil {
			return err
		}
	}
	return e.add(plus(current.sum, current.history*historyBytes))
}

// run adds an instruction, in the words that BuildKit expands of it.
func (e *estimate) run(each *instruction, stage *stageBound) error {
	if err := e.addText(each); err != nil {
		return err
	}
	stage.history++
	switch command := each.parsed.(type) {
	case *instructions.ArgCommand:
		for _, argument := range command.Args {
			// BuildKit's linter expands the default of a given argument as well.
			given, value := int64(len(e.options["build-arg:"+argument.Key])), int64(0)
			if argument.Value != nil {
				var err error
				if value, err = e.word(*argument.Value, stage, e.escape, false); err != nil {
					return err
				}
			}
			if err := stage.set(argument.Key, max(given, value)); err != nil {
				return err
			}
			stage.assigned++
		}
		return nil
	case *instructions.EnvCommand:
		return e.runEnv(command, stage)
	case *instructions.LabelCommand:
		return e.expand(command, stage)
	case *instructions.OnbuildCommand:
		if each.trigger != nil {
			stage.triggers = append(stage.triggers, each.trigger)
		}
		return nil
	case *instructions.RunCommand:
		if err := e.runMounts(each.node, stage); err != nil {
			return err
		}
		for _, file := range command.Files { // displayed with its first line
			first, _, _ := strings.Cut(strings.TrimSpace(file.Data), "\n")
			if err := e.displayed(command.String()+" ("+first+")", stage); err != nil {
				return err
			}
		}
	case *instructions.ExposeCommand:
		for _, port := range command.Ports {
			length, err := e.word(port, stage, e.escape, false)
			if err != nil {
				return err
			}
			if err := e.add(times(portsOf(port, length), portBytes)); err != nil {
				return err
			}
		}
	case *instructions.WorkdirCommand:
		path, err := e.word(command.Path, stage, e.escape, false)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(command.Path, "/") {
			path = plus(path, stage.variables[workdir]+1)
		}
		if err := stage.set(workdir, path); err != nil {
			return err
		}
	case *instructions.UserCommand:
		name, err := e.word(command.User, stage, e.escape, false)
		if err != nil {
			return err
		}
		if err := stage.set(user, name); err != nil {
			return err
		}
	case *instructions.ShellCommand:
		if err := stage.set(shellWords, int64(len(strings.Join(command.Shell, " ")))); err != nil {
			return err
		}
	default:
		e.addSources(command, stage)
		if err := e.expand(command, stage); err != nil {
			return err
		}
	}
	// A step is displayed with its expanded text, and contains what its stage has.
	if err := e.displayed(each.node.Original, stage); err != nil {
		return err
	}
	return e.add(plus(max(stage.sum, stage.listed()), e.shared))
}

// addSources adds what the linter matches of a COPY or an ADD; other instructions have no sources.
func (e *estimate) addSources(command any, stage *stageBound) {
	var paths []string
	switch command := command.(type) {
	case *instructions.CopyCommand:
		paths = command.SourcePaths
	case *instructions.AddCommand:
		paths = command.SourcePaths
	}
	for _, path := range paths {
		word := &wordBound{text: []rune(path), escape: e.escape, value: stage.value}
		length, _ := word.until(-1)
		directories := int64(strings.Count(path, "/")) + 1
		if strings.Contains(path, "$") {
			directories = length/2 + 1
		}
		e.matched = plus(e.matched, times(length, directories))
	}
}

func (e *estimate) runEnv(command *instructions.EnvCommand, stage *stageBound) error {
	type variable struct{ name, value int64 }
	bounds := make([]variable, 0, len(command.Env))
	for _, each := range command.Env {
		name, err := e.word(each.Key, stage, e.escape, false)
		if err != nil {
			return err
		}
		value, err := e.word(each.Value, stage, e.escape, false)
		if err != nil {
			return err
		}
		bounds = append(bounds, variable{name, value})
	}
	for at, each := range command.Env {
		name, _, err := e.words.ProcessWord(each.Key, shell.EnvsFromSlice(nil))
		if err != nil || strings.Contains(each.Key, "$") {
			err = stage.setUnnamed(each.Key, bounds[at].name, bounds[at].value)
		} else {
			err = stage.set(name, bounds[at].value)
		}
		if err != nil {
			return err
		}
		// The image's configuration compares its name with all others.
		if err := e.add(stage.assigned); err != nil {
			return err
		}
		stage.assigned++
	}
	return nil
}

// runMounts adds the values of a RUN's flags, which BuildKit splits before it expands them.
func (e *estimate) runMounts(node *parser.Node, stage *stageBound) error {
	for _, flag := range node.Flags {
		_, value, _ := strings.Cut(flag, "=")
		fields, err := csvvalue.Fields(value, nil)
		if err != nil {
			continue
		}
		for _, field := range fields {
			_, value, _ := strings.Cut(field, "=")
			if _, err := e.word(value, stage, e.escape, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// expand adds the words of an instruction that expands them itself.
func (e *estimate) expand(command any, stage *stageBound) error {
	word := func(escape rune, raw bool) instructions.SingleWordExpander {
		return func(word string) (string, error) {
			_, err := e.word(word, stage, escape, raw)
			return word, err
		}
	}
	if command, ok := command.(instructions.SupportsSingleWordExpansion); ok {
		if err := command.Expand(word(e.escape, false)); err != nil {
			return err
		}
	}
	if command, ok := command.(instructions.SupportsSingleWordExpansionRaw); ok {
		return command.ExpandRaw(word('\\', true))
	}
	return nil
}

// stepOptions bounds the options that each step contains.
func stepOptions(options map[string]string) (sum int64) {
	for name, value := range options {
		switch strings.ToLower(name) {
		case "build-arg:http_proxy", "build-arg:https_proxy", "build-arg:ftp_proxy", "build-arg:no_proxy", "build-arg:all_proxy",
			"add-hosts", "ulimit", "cgroup-parent", "hostname":
			sum = plus(sum, int64(len(value)))
		}
	}
	return sum
}

// word adds a word and returns its bound. The linter compares each variable that is unset with all names.
func (e *estimate) word(text string, stage *stageBound, escape rune, raw bool) (int64, error) {
	return e.expanded(text, stage, escape, raw, strings.Count(text, "$"))
}

// displayed adds a text that is displayed, which the linter does not look at: one list, however many variables it has.
func (e *estimate) displayed(text string, stage *stageBound) error {
	_, err := e.expanded(text, stage, e.escape, false, min(strings.Count(text, "$"), 1))
	return err
}

// expanded adds a text for which all assignments are listed so many times, and returns its bound.
func (e *estimate) expanded(text string, stage *stageBound, escape rune, raw bool, lists int) (int64, error) {
	if err := e.add(times(int64(lists), stage.listed())); err != nil {
		return 0, err
	}
	word := &wordBound{text: []rune(text), escape: escape, raw: raw, value: stage.value}
	length, _ := word.until(-1)
	if word.tooDeep {
		return 0, fmt.Errorf("the Dockerfile nests variables in each other, more than %d deep", maxNesting)
	}
	return length, e.add(plus(length, times(word.patterns, patternBytes)))
}

// portsOf bounds the ports of a word of an EXPOSE, which may be a range once it is expanded to so many characters.
func portsOf(word string, length int64) int64 {
	for _, protocol := range []string{"/tcp", "/udp", "/sctp"} {
		if strings.HasSuffix(word, protocol) {
			length -= int64(len(protocol))
		}
	}
	numbers, _, _ := strings.Cut(word, "/")
	first, last, isRange := strings.Cut(numbers, "-")
	if !isRange && !strings.Contains(word, "$") {
		return 1
	}
	begin, beginErr := strconv.ParseUint(first, 10, 16)
	end, endErr := strconv.ParseUint(last, 10, 16)
	if beginErr == nil && endErr == nil {
		return max(int64(end)-int64(begin)+1, 1)
	}
	ports := int64(1)
	for digits := length - int64(len("1-")); digits > 0 && ports < maxPorts; digits-- {
		ports *= 10
	}
	return min(ports, maxPorts)
}

// addText adds an instruction's own text, and its here-documents.
func (e *estimate) addText(each *instruction) error {
	if err := e.addFileOperations(each); err != nil {
		return err
	}
	lines := each.node.EndLine - each.node.StartLine
	length := int64(instructionBytes + lines*lineBytes + len(each.node.Original))
	for _, document := range each.node.Heredocs {
		length += int64(len(document.Content))
	}
	return e.add(length)
}

func (e *estimate) addFileOperations(each *instruction) error {
	e.fileOperations += 2 * int64(len(each.node.Heredocs)) // made, and copied
	for _, flag := range each.node.Flags {
		for field := range strings.SplitSeq(strings.TrimLeft(flag, "-"), ",") {
			if from, found := strings.CutPrefix(strings.TrimPrefix(field, "mount="), "from="); found {
				e.addImage(from)
			}
		}
	}
	switch command := each.parsed.(type) {
	case *instructions.CopyCommand:
		e.fileOperations += 1 + int64(len(command.SourcePaths))/sourcesOfOperation
	case *instructions.AddCommand:
		for _, source := range command.SourcePaths {
			e.fileOperations++
			if strings.ContainsAny(source, ":@$") { // a URL, a repository, or a variable that may be one
				e.fileOperations += fetchOperations
			}
		}
	}
	if sum := times(e.fileOperations, e.platforms); sum > maxFileOperations {
		return fmt.Errorf("the Dockerfile has %d operations on files or more, more than the %d that it may have for all platforms together: a COPY and each source of an ADD is one, an image or a source that is fetched %d, a here-document two", sum, maxFileOperations, 1+fetchOperations)
	}
	return nil
}

// addImage counts what a FROM, a COPY or a mount names, unless that is a stage or was counted: it may be pulled.
func (e *estimate) addImage(name string) {
	name = strings.ToLower(name)
	if _, err := strconv.Atoi(name); err == nil || name == "scratch" || e.named[name] != nil || e.pulled[name] {
		return
	}
	e.pulled[name] = true
	e.fileOperations += 1 + fetchOperations
}

func (e *estimate) add(length int64) error {
	e.sum = plus(e.sum, length)
	if sum := times(e.sum, e.platforms); sum > maxExpanded {
		return fmt.Errorf("the Dockerfile's instructions may have %d bytes or more, once expanded, with their ports, history and lists of variables, more than the %d that they may have", sum, maxExpanded)
	}
	return nil
}

// buildBounded is BuildKit's Dockerfile frontend for Dockerfiles within the limits. BuildKit panics where it lists the
// targets of a Dockerfile with a comment such as `# check=skip=all`.
func buildBounded(ctx context.Context, c client.Client) (_ *client.Result, err error) {
	defer worker.Recovered(&err)
	bounds, err := readFrontendExpansions(ctx, c)
	if err != nil {
		return nil, err
	}
	if bounds == nil {
		return builder.Build(ctx, c)
	}
	if err := bounds.check(); err != nil {
		return nil, err
	}
	return builder.Build(ctx, &boundedClient{c, bounds})
}

// readFrontendExpansions reads a build's Dockerfile. It returns nil where BuildKit reports an error or another frontend is
// called, and an error for a Dockerfile or .dockerignore beyond the limits.
func readFrontendExpansions(ctx context.Context, c client.Client) (*expansions, error) {
	dockerfiles, err := dockerui.NewClient(c)
	if err != nil {
		return nil, nil
	}
	source, err := dockerfiles.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, nil
	}
	options := maps.Clone(c.BuildOpts().Opts)
	if _, isCalled := options["cmdline"]; !isCalled {
		_, isChosen := options["build-arg:BUILDKIT_SYNTAX"]
		if _, _, _, ok := parser.DetectSyntax(source.Data); ok || isChosen {
			return nil, nil
		}
	}
	if err := refuseLarge(source.Data); err != nil {
		return nil, err
	}
	parsed, err := parser.Parse(bytes.NewReader(source.Data))
	if err != nil {
		return nil, nil
	}
	bounds, err := readExpansions(parsed, options)
	if err != nil {
		return nil, nil
	}
	ignored, err := dockerfiles.DockerIgnorePatterns(ctx)
	if err != nil {
		return nil, err
	}
	if bounds.wildcards, err = worker.RefusePatterns(ignored); err != nil {
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	return bounds, nil
}

// boundedClient checks the Dockerfile again with each base image's variables and triggers.
type boundedClient struct {
	client.Client
	bounds *expansions
}

func (c *boundedClient) ResolveImageConfig(ctx context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	resolved, found, config, err := c.Client.ResolveImageConfig(ctx, ref, opt)
	if err == nil {
		err = c.bounds.addImage(config)
	}
	if err != nil {
		return "", "", nil, err
	}
	return resolved, found, config, nil
}
