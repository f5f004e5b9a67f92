package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func boundsOf(t *testing.T, dockerfile string, options map[string]string) *expansions {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(dockerfile))
	assert.NilError(t, err)
	bounds, err := readExpansions(parsed, options)
	assert.NilError(t, err)
	return bounds
}

func configOf(t *testing.T, environment, triggers []string) []byte {
	t.Helper()
	var image dockerspec.DockerOCIImage
	image.Config.Env, image.Config.OnBuild = environment, triggers
	config, err := json.Marshal(image)
	assert.NilError(t, err)
	return config
}

// doubling returns lines that each give a variable the last one twice.
func doubling(instruction string, count int) (lines []string) {
	lines = append(lines, instruction+" a0="+strings.Repeat("x", 32))
	for at := range count {
		lines = append(lines, fmt.Sprintf("%s a%d=$a%d$a%d", instruction, at+1, at, at))
	}
	return lines
}

func lines(each ...string) string { return strings.Join(each, "\n") + "\n" }

func repeated(line string, count int) string {
	return strings.TrimSuffix(strings.Repeat(line+"\n", count), "\n")
}

func TestDockerfilesThatMayExceedALimitAreRefused(t *testing.T) {
	variable, instructions := `"a16" may have 2097152 bytes`, "instructions may have"
	large := strings.Repeat("x", 1000)
	doubledArguments, doubledVariables := lines(doubling("ARG", 25)...), lines(doubling("ENV", 25)...)
	type options = map[string]string
	for name, each := range map[string]struct {
		dockerfile string
		options    options
		message    string
	}{
		"arguments of a stage":                    {"FROM busybox\n" + doubledArguments + "ENV X=$a25\n", nil, variable},
		"variables of a stage":                    {"FROM busybox\n" + doubledVariables, nil, variable},
		"arguments before stages":                 {doubledArguments + "FROM busybox\n", nil, variable},
		"those of the linter alone":               {doubledArguments + "FROM busybox\n", options{"build-arg:a25": "x"}, variable},
		"one instruction's arguments":             {"FROM busybox\nARG " + strings.ReplaceAll(strings.Join(doubling("", 25), " "), "\n", " "), nil, variable},
		"lines of comments in an instruction":     {"FROM busybox\nRUN true \\\n" + strings.Repeat("# c\n", 140_000) + "x\n", nil, instructions},
		"a chain of stages":                       {"FROM busybox AS s0\nENV a=" + large + chain(20, "ENV a=$a$a"), nil, `"a"`},
		"triggers of a stage":                     {"FROM busybox AS base\n" + strings.ReplaceAll(doubledVariables, "ENV ", "ONBUILD ENV ") + "FROM base\n", nil, variable},
		"a stage that variables name":             {"ARG s=base\nFROM busybox AS base\nENV a=" + large + "\nFROM ${s}\n" + repeated("ENV a=$a$a", 12), nil, `"a"`},
		"names that are variables":                {"FROM busybox\nENV k=v\nENV $k=" + large + "\n" + repeated("ENV $k=$v$v", 12), nil, `"$k"`},
		"names in quotes":                         {"FROM busybox\nENV \"a\"=" + large + "\n" + repeated("ENV \"a\"=$a$a", 12), nil, `"a"`},
		"defaults":                                {"FROM busybox\nENV a=" + large + "\n" + repeated("ENV a=${b:-$a$a}", 12), nil, `"a"`},
		"alternatives":                            {"FROM busybox\nENV a=" + large + "\n" + repeated("ENV a=${a:+$a$a}", 12), nil, `"a"`},
		"replacements":                            {"FROM busybox\nENV a=" + large + "\n" + repeated("ENV a=${a//x/xx}", 12), nil, `"a"`},
		"replacements of nothing":                 {"FROM busybox\nENV a=" + large + "\n" + repeated("ENV a=${a//*/\\$0\\$0}", 12), nil, `"a"`},
		"arguments given":                         {"FROM busybox\nARG a\n" + repeated("ENV a=$a$a", 8), options{"build-arg:a": strings.Repeat("x", 10000)}, `"a"`},
		"a large argument":                        {"FROM busybox\nARG a\n", options{"build-arg:a": strings.Repeat("x", 2<<20)}, `"a" may have 2097152 bytes, more than the 1048576`},
		"global arguments":                        {"ARG a=" + large + "\nFROM busybox\nARG a\n" + repeated("ENV a=$a$a", 12), nil, `"a"`},
		"the source of the builds' time":          {"ARG a=" + large + "\nFROM scratch AS s\nARG b=$a$a\n" + repeated("ARG b=$b$b", 12) + "\nFROM busybox\n", options{"build-arg:SOURCE_DATE_EPOCH": "s"}, `"b"`},
		"labels of many replacements":             {"FROM busybox\nARG y=" + large + "\n" + repeated("LABEL y=${y//x/"+strings.Repeat("b", 1000)+"}", 200), nil, instructions},
		"labels of a large variable":              {"FROM busybox\nARG y\n" + repeated("LABEL y=$y$y$y$y$y$y$y$y", 20), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"here-documents":                          {"FROM busybox\nARG y\n" + repeated("COPY <<EOF /\n$y$y\nEOF", 40), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"steps of a large variable":               {"FROM busybox\nARG y\n" + repeated("RUN true", 70), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"steps that display a large variable":     {"FROM busybox\nARG y\n" + repeated("RUN \\$y $y$y$y$y$y$y$y$y", 10), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"mounts":                                  {"FROM busybox\nARG y\n" + repeated(`RUN --mount='type=tmpfs,target=$y$y$y$y$y$y$y$y' true`, 10), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"ports":                                   {"FROM busybox\nARG y\n" + repeated("EXPOSE $y $y $y", 20), options{"build-arg:y": strings.Repeat("x", 1<<20)}, instructions},
		"operations on files":                     {"FROM scratch\n" + repeated("COPY <<EOF /\nx\nEOF", 171), nil, "513 operations on files"},
		"sources that are fetched":                {"FROM scratch\nADD " + strings.Repeat("https://example.com/x ", 65) + "/x/\n", nil, "520 operations on files"},
		"images":                                  {manyImages(64), nil, "520 operations on files"},
		"images that are copied or mounted":       {"FROM scratch\n" + many64("COPY --from=image-%d /a /") + many64("RUN --mount=type=bind,from=mount-%d,target=/m true"), nil, "operations on files"},
		"sources of a copy":                       {"FROM scratch\nCOPY " + strings.Repeat("a ", 8192) + "/x/\n", nil, "513 operations on files"},
		"ranges of ports":                         {"FROM scratch\nEXPOSE " + strings.Repeat("1-65535 ", 200), nil, instructions},
		"ranges of a protocol that a variable is": {"FROM scratch\nARG p=1-65535 averylongname=\nEXPOSE " + strings.Repeat("$p/$averylongname ", 200), nil, instructions},
		"ranges of a replacement":                 {"FROM scratch\nARG p=1-65535\nEXPOSE " + strings.Repeat("${p//zzzzzzzzzz/} ", 200), nil, instructions},
		"ranges that variables are":               {"FROM scratch\nARG p=1-65535\nEXPOSE " + strings.Repeat("$p ", 200), nil, instructions},
		"directories in each other":               {"FROM busybox\nARG y\n" + repeated("WORKDIR $y", 4), options{"build-arg:y": strings.Repeat("x", 1<<19)}, "WORKDIR may have"},
		"steps with a large shell":                {"FROM busybox\nSHELL [\"" + strings.Repeat("x", 60000) + "\"]\n" + repeated("RUN true", 1200), nil, instructions},
		"many platforms":                          {"FROM busybox\nARG y\n" + repeated("RUN true", 10), options{"build-arg:y": strings.Repeat("x", 1<<20), "platform": "linux/1,linux/2,linux/3,linux/4,linux/5,linux/6,linux/7"}, instructions},
		"many platforms of small instructions":    {"FROM busybox\n" + repeated("RUN true", 100), options{"platform": strings.Repeat("linux/1,", 1000)}, "8008 operations on files"},
		"many stages of many variables":           {"FROM busybox AS s0\n" + many(2000) + chain(500, "RUN true"), nil, instructions},
		"arguments that refer to variables":       {numbered(8000, "ARG a%d=$z") + "FROM busybox\n", nil, instructions},
		"those of a stage":                        {"FROM busybox\n" + numbered(8000, "ARG a%d=$z"), nil, instructions},
		"one argument that is set again":          {repeated("ARG a=$a", 8000) + "\nFROM busybox\n", nil, instructions},
		"labels of many variables":                {"FROM busybox\nARG " + strings.ReplaceAll(numbered(5000, "a%d=x"), "\n", " ") + "\nLABEL " + strings.ReplaceAll(numbered(5000, "b%d=$z"), "\n", " ") + "\n", nil, instructions},
		"a label of many unset variables":         {"FROM busybox\nARG " + strings.ReplaceAll(numbered(5000, "a%d=x"), "\n", " ") + "\nLABEL b=" + strings.ReplaceAll(numbered(5000, "$b%d"), "\n", ""), nil, instructions},
		"steps after many assignments":            {"FROM busybox\nENV " + strings.Repeat("a=x ", 11000) + "\n" + repeated("RUN true", 100), nil, instructions},
		"instructions of many variables":          {"FROM busybox\n" + variablesOfLines(5, 5000), nil, instructions},
		"deep nesting":                            {"FROM busybox\nLABEL y=" + strings.Repeat("${y:-", 1000) + strings.Repeat("}", 1000), nil, "more than 100 deep"},
		"a named context's variables":             {"FROM busybox\n" + repeated("ENV a=$a$a", 12), options{"input-metadata:1": metadataOf(t, []string{"a=" + large}, nil)}, `"a"`},
		"a named context's triggers":              {"FROM busybox\n", options{"input-metadata:1": metadataOf(t, nil, doubling("ENV", 25))}, variable},
	} {
		err := boundsOf(t, each.dockerfile, each.options).check()
		assert.Check(t, is.ErrorContains(err, each.message), name)
	}
}

func metadataOf(t *testing.T, environment, triggers []string) string {
	t.Helper()
	text, err := json.Marshal(map[string][]byte{"containerimage.config": configOf(t, environment, triggers)})
	assert.NilError(t, err)
	return string(text)
}

// chain returns stages on each other, each with an instruction.
func chain(count int, instruction string) string {
	var text strings.Builder
	for at := range count {
		fmt.Fprintf(&text, "\nFROM s%d AS s%d\n%s", at, at+1, instruction)
	}
	return text.String()
}

func manyImages(count int) string {
	var text strings.Builder
	for at := range count + 1 {
		fmt.Fprintf(&text, "FROM image-%d\n", at)
	}
	return text.String()
}

func many64(line string) string {
	var text strings.Builder
	for at := range 64 {
		fmt.Fprintf(&text, line+"\n", at)
	}
	return text.String()
}

// numbered returns lines with their numbers.
func numbered(count int, line string) string {
	var text strings.Builder
	for at := range count {
		fmt.Fprintf(&text, line+"\n", at)
	}
	return text.String()
}

func variablesOfLines(lines, each int) string {
	var text strings.Builder
	for line := range lines {
		text.WriteString("ENV")
		for at := range each {
			fmt.Fprintf(&text, " a%d=x", line*each+at)
		}
		text.WriteString("\n")
	}
	return text.String()
}

func many(count int) string {
	var text strings.Builder
	for at := range count {
		fmt.Fprintf(&text, "ENV v%d=value\n", at)
	}
	return strings.TrimSuffix(text.String(), "\n")
}

func TestHonestDockerfilesAreTaken(t *testing.T) {
	type options = map[string]string
	var script strings.Builder
	for at := range 2000 {
		fmt.Fprintf(&script, "if [ \"${x%%%d}\" = '$y' ]; then echo \"${z//a/${b:-c}} $(date) $PATH\"; fi && \\\n", at)
	}
	for name, each := range map[string]struct {
		dockerfile string
		options    options
	}{
		"a path that grows":            {"FROM busybox\n" + repeated("ENV PATH=$PATH:/x", 500), nil},
		"a path with a condition":      {"FROM busybox\n" + repeated("ENV LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/lib", 500), nil},
		"addresses":                    {"FROM busybox\nARG TARGETARCH HOST=example.com VERSION=1.2.3\n" + repeated("ENV URL=https://${HOST}/${VERSION}/x-${TARGETARCH}", 50), nil},
		"platforms' names":             {"FROM --platform=$BUILDPLATFORM busybox\nARG TARGETPLATFORM\nENV P=${TARGETPLATFORM//\\//-}\n" + repeated("ENV P=${P//-/_}", 50), options{"platform": "linux/amd64,linux/arm64,linux/arm/v7"}},
		"replacements that shrink":     {"FROM busybox\nARG V=1.2.3\n" + repeated("ENV V=${V//./}", 50) + "\n" + repeated("ENV V=${V/./-}", 50), nil},
		"a chain of stages":            {"ARG base=busybox\nFROM ${base} AS s0\nENV PATH=/a:$PATH" + chain(100, "ENV PATH=/b:$PATH\nRUN make\nCOPY . ."), options{"platform": "linux/amd64,linux/arm64"}},
		"stages that arguments choose": {"ARG s=a\nFROM busybox AS a\nENV a=$a:a\nFROM busybox AS b\nENV b=$b:b\n" + strings.Repeat("FROM ${s}\nENV c=$c:c\nRUN make\n", 100), nil},
		"large arguments":              {"FROM busybox\nARG A\nARG B=${A/x/y}\n" + repeated("RUN make", 300), options{"build-arg:A": strings.Repeat("x", 10240), "platform": "linux/amd64,linux/arm64,linux/arm/v7"}},
		"large here-documents":         {"FROM busybox\n" + repeated("COPY <<EOF /x\n"+strings.Repeat("a line of text\n", 7000)+"EOF\nRUN <<EOF\n"+strings.Repeat("true\n", 20000)+"EOF", 3), nil},
		"long scripts":                 {"FROM busybox\nENV b=c z=d\n" + repeated("RUN "+script.String()+"true", 20), nil},
		"many steps":                   {"FROM busybox\n" + repeated("RUN make", 2000), options{"platform": "linux/amd64,linux/arm64"}},
		"many triggers":                {"FROM busybox AS base\n" + repeated("ONBUILD ENV PATH=$PATH:/x", 100) + "\n" + strings.Repeat("FROM base\nRUN make\n", 20), nil},
		"ports":                        {"FROM busybox\nARG PORT=8080 PORTS=8000-8010\nEXPOSE $PORT $PORTS 30000-30100/udp\n" + repeated("EXPOSE ${PORT}/tcp", 20), options{"platform": "linux/amd64,linux/arm64,linux/arm/v7"}},
		"comments for the linter":      {"# check=skip=all\nFROM busybox\n# check=skip=all\nRUN make\n", nil},
		"many variables":               {"FROM busybox\n" + numbered(300, "ENV v%d=x") + numbered(300, "LABEL l%[1]d=$v%[1]d\nRUN make $v%[1]d"), options{"platform": "linux/amd64,linux/arm64,linux/arm/v7"}},
		"proxies":                      {"FROM busybox\n" + repeated("RUN make", 500), options{"build-arg:http_proxy": strings.Repeat("x", 100), "build-arg:no_proxy": strings.Repeat("x", 2000)}},
	} {
		bounds := boundsOf(t, each.dockerfile, each.options)
		err := bounds.check()
		if err == nil {
			err = bounds.addImage(configOf(t, []string{"PATH=/bin", "LONG=" + strings.Repeat("x", 4096)}, []string{"ENV PATH=$PATH:/triggered", "COPY . /src"}))
		}
		assert.Check(t, err, name)
	}
}

func TestBaseImagesCountWithTheirVariablesAndTriggers(t *testing.T) {
	twice := "FROM parent\n" + repeated("ENV a=$a$a", 12)
	assert.Check(t, boundsOf(t, twice, nil).check(), "before the image is known")
	for name, config := range map[string][]byte{
		"variables": configOf(t, []string{"a=" + strings.Repeat("x", 1000)}, nil),
		"triggers":  configOf(t, nil, doubling("ENV", 25)),
		"a comment": configOf(t, nil, []string{"# check=skip=all\nENV a=b"}),
		"both":      configOf(t, []string{"b=" + strings.Repeat("x", 1000)}, []string{"ENV a=$b"}),
	} {
		if err := boundsOf(t, twice, nil).addImage(config); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	bounds := boundsOf(t, "FROM parent\nRUN true\n", nil)
	for range 10 { // as for several platforms
		assert.Check(t, bounds.addImage(configOf(t, nil, doubling("ENV", 10))))
	}
	if count := len(bounds.images.triggers); count != 11 {
		t.Errorf("%d triggers", count)
	}
}

// TestTheEstimateIsBoundedByTheDockerfile counts allocations: each copy of a variable, and each word, is one.
func TestTheEstimateIsBoundedByTheDockerfile(t *testing.T) {
	for name, dockerfile := range map[string]string{
		"doubled arguments": "FROM busybox\n" + lines(doubling("ARG", 5000)...),
		"variables":         "FROM busybox\n" + many(60000),
		"a chain of stages": "FROM busybox AS s0" + chain(5000, "ENV a=$a:b"),
		"nesting":           "FROM busybox\nLABEL y=" + strings.Repeat("${y//\\\n", 200000) + "x",
	} {
		bounds := boundsOf(t, dockerfile, nil)
		allocations := testing.AllocsPerRun(1, func() { _ = bounds.check() })
		if allocations > float64(len(dockerfile)) {
			t.Errorf("%s: %v allocations for %d bytes", name, allocations, len(dockerfile))
		}
	}
}

func TestAClassicBuildIsRefusedBeforeItsArgumentsAreExpanded(t *testing.T) {
	directory := t.TempDir()
	text := lines(doubling("ARG", 40)...) + "FROM busybox\n"
	assert.NilError(t, os.WriteFile(filepath.Join(directory, "Dockerfile"), []byte(text), 0o600))
	_, err := readPlan(directory, map[string]string{"filename": "Dockerfile"})
	if err == nil || err.Error() != `the Dockerfile's variable "a16" may have 2097152 bytes, more than the 1048576 that one may have` {
		t.Error(err)
	}
}

func TestACommentForTheLinterIsNoPanic(t *testing.T) {
	directory := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(directory, "Dockerfile"), []byte("FROM busybox\n# check=skip=all\nMAINTAINER me\n"), 0o600))
	_, err := readPlan(directory, map[string]string{"filename": "Dockerfile"})
	assert.Check(t, err)
}

// TestNoExpansionIsLongerThanItsBound compares bounds with shell.Lex, for random words and each way BuildKit expands them.
func TestNoExpansionIsLongerThanItsBound(t *testing.T) {
	const seed = 1
	random := rand.New(rand.NewPCG(seed, seed))
	pieces := []string{
		"$", "{", "}", "/", "//", "%", "#", ":", "+", "-", "?", "*", "\\", "`", "'", "\"", "a", "b", "c", "$a", "${b}", "${a//", "${b/",
		"${a:+", "${c:-", "${a%", "${b##", "<<", " ", "é", "$0", "x", "${a//x/$b}", "${b//*/$a}", "${a//?/$b$b}",
	}
	text := func(longest int) string {
		var made strings.Builder
		for range random.IntN(longest) {
			made.WriteString(pieces[random.IntN(len(pieces))])
		}
		return made.String()
	}
	compared := 0
	for range 50000 {
		word, escape := text(12), []rune{'\\', '`'}[random.IntN(2)]
		values := map[string]string{"a": strings.ToValidUTF8(text(8), "?"), "b": strings.Repeat("$0", random.IntN(4))}
		environment := []string{"a=" + values["a"], "b=" + values["b"]}
		value := func(name string) int64 {
			if value, ok := values[name]; ok {
				return int64(len(value))
			}
			return unsetBytes
		}
		for _, raw := range []bool{false, true} {
			bound := &wordBound{text: []rune(word), escape: escape, raw: raw, value: value}
			length, _ := bound.until(-1)
			for _, isDisplayed := range []bool{false, true} {
				words := shell.NewLex(escape)
				words.SkipProcessQuotes, words.RawQuotes, words.SkipUnsetEnv = raw, isDisplayed, isDisplayed
				expanded, _, err := words.ProcessWord(word, shell.EnvsFromSlice(environment))
				if err != nil {
					continue
				}
				compared++
				if int64(len(expanded)) > length {
					t.Fatalf("%q with %q becomes %q, of %d bytes, not %d", word, environment, expanded, len(expanded), length)
				}
			}
		}
	}
	assert.Check(t, compared >= 50000, "only %d words were expanded", compared)
}
