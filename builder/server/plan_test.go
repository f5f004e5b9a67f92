package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gotest.tools/v3/assert"
)

// shown is the output for a Dockerfile's build whose vertices have these names, end in order and print their numbers.
func shown(t *testing.T, dockerfile string, names ...string) string {
	t.Helper()
	directory := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(directory, "Dockerfile"), []byte(dockerfile), 0o600))
	plan, err := readPlan(directory, map[string]string{"filename": "Dockerfile", "build-arg:GIVEN": "one"})
	assert.NilError(t, err)
	answer := httptest.NewRecorder()
	plan.out = &messages{w: answer}
	known := &controlapi.StatusResponse{}
	for _, name := range names {
		known.Vertexes = append(known.Vertexes, &controlapi.Vertex{Digest: name, Name: name})
	}
	assert.NilError(t, plan.show(known))
	for _, name := range names {
		ended := &controlapi.StatusResponse{
			Vertexes: []*controlapi.Vertex{{Digest: name, Name: name, Completed: timestamppb.New(time.Unix(1, 0))}},
			Logs:     []*controlapi.VertexLog{{Vertex: name, Msg: []byte(strings.Fields(strings.Trim(name, "["))[0] + " says\n")}},
		}
		assert.NilError(t, plan.show(ended))
	}
	var text strings.Builder
	for _, line := range strings.Split(strings.TrimSpace(answer.Body.String()), "\r\n") {
		var message struct{ Stream string }
		assert.NilError(t, json.Unmarshal([]byte(line), &message))
		text.WriteString(message.Stream)
	}
	return text.String()
}

func TestEachInstructionHasItsOutput(t *testing.T) {
	long := "FROM busybox\n" + strings.Repeat("RUN step\n", 9)
	if text := shown(t, long, "[ 1/10] FROM busybox", "[ 2/10] RUN step", "[10/10] RUN step"); !strings.Contains(text, "Step 2/10 : RUN step\n2/10] says\n") {
		t.Errorf("a step of two digits' steps:\n%s", text)
	}
	stages := "FROM busybox AS one\nRUN first\nFROM one\nRUN second\nFROM scratch\nCOPY third .\n"
	want := "Step 1/6 : FROM busybox AS one\none says\nStep 2/6 : RUN first\none says\nStep 3/6 : FROM one\nStep 4/6 : RUN second\nstage-1 says\n" +
		"Step 5/6 : FROM scratch\nStep 6/6 : COPY third .\nstage-2 says\n"
	if text := shown(t, stages, "[one 1/2] FROM busybox", "[one 2/2] RUN first", "[stage-1 1/1] RUN second", "[stage-2 1/1] COPY third ."); text != want {
		t.Errorf("stages without an image of their own:\n%s", text)
	}
	for _, base := range []string{"${GIVEN}", "${OWN}", "${MADE}e", "o${MISSING:-ne}"} {
		named := "ARG GIVEN=busybox\nARG OWN=one\nARG MADE=${OWN%e}\nFROM busybox AS one\nRUN first\nFROM " + base + "\nRUN second\n"
		want := "Step 7/7 : RUN second\nstage-1 says\n"
		if text := shown(t, named, "[one 1/2] FROM busybox", "[one 2/2] RUN first", "[stage-1 1/1] RUN second"); !strings.HasSuffix(text, want) {
			t.Errorf("a stage on the one that %s names:\n%s", base, text)
		}
	}
	if text := shown(t, "FROM busybox AS on-linux\nFROM on-${TARGETOS}\nRUN it\n", "[on-linux 1/1] FROM busybox", "[stage-1 1/1] RUN it"); !strings.HasSuffix(text, "Step 3/3 : RUN it\nstage-1 says\n") {
		t.Errorf("a stage that is chosen by the platform:\n%s", text)
	}
	if text := shown(t, "FROM busybox\nRUN get https://u:p@host/a?b=c\n", "[1/2] FROM busybox", "[2/2] RUN get https://u:p@host/a?b=c"); !strings.Contains(text, "RUN get https://u:***@host/a?b=c\n") {
		t.Errorf("an instruction with a URL:\n%s", text)
	}
	triggered := "FROM parent\nRUN own\n"
	want = "Step 1/2 : FROM parent\n# Executing 2 build triggers\n1/4] says\n2/4] says\n3/4] says\nStep 2/2 : RUN own\n4/4] says\n"
	if text := shown(t, triggered, "[1/4] FROM parent", "[2/4] ONBUILD RUN a", "[3/4] ONBUILD RUN b", "[4/4] RUN own"); text != want {
		t.Errorf("triggers:\n%s", text)
	}
}

func TestSecretsOfURLsAreMasked(t *testing.T) {
	for text, want := range map[string]string{
		"ADD http://me:word@host/a https://host/b:c@d /x": "ADD http://me:***@host/a https://host/b:c@d /x",
		"RUN get ftp://:w:@rd@host":                       "RUN get ftp://:***@host",
		"ADD https://token@host/a http://host/b@c /x":     "ADD https://***@host/a http://host/b@c /x",
		"RUN git clone ssh://git@host/a":                  "RUN git clone ssh://git@host/a",
		`Get "https://host/a?token=T&x=1": EOF`:           `Get "https://host/a?***": EOF`,
		"error https://host/a.git?T#main:b: what?":        "error https://host/a.git?***#main:b: what?",
		"of http://host/a?token=T: http://host/?T, twice": "of http://host/a?***: http://host/?***, twice",
	} {
		if masked := maskSecrets(text); masked != want {
			t.Errorf("%s is told as %s", text, masked)
		}
	}
	refused := httptest.NewRecorder()
	writeError(refused, http.StatusInternalServerError, `Get "https://token@host/a": http://me:word@host/a: EOF`)
	if text := refused.Body.String(); strings.Contains(text, "token") || strings.Contains(text, "word") {
		t.Error(text)
	}
}

func TestAFailingCommandIsShownAsWritten(t *testing.T) {
	answer := httptest.NewRecorder()
	err := errors.Join(errors.New(`process "/bin/sh -c bad \\& a2\ta3" did not complete successfully: exit code: 127`), &gatewaypb.ExitError{ExitCode: 127})
	(&messages{w: answer}).fail(err)
	var message struct{ Error string }
	assert.NilError(t, json.Unmarshal(answer.Body.Bytes(), &message))
	if message.Error != "The command '/bin/sh -c bad \\& a2\ta3' returned a non-zero code: 127" {
		t.Error(message.Error)
	}
}

func TestADockerfileInSmallLettersIsTheDefaultToo(t *testing.T) {
	directory := t.TempDir()
	assert.NilError(t, os.WriteFile(filepath.Join(directory, "dockerfile"), []byte("FROM busybox\n"), 0o600))
	attributes := map[string]string{"filename": "Dockerfile"}
	if _, err := readPlan(directory, attributes); err != nil || attributes["filename"] != "dockerfile" {
		t.Errorf("%v, %q", err, attributes["filename"])
	}
	if _, err := readPlan(directory, map[string]string{"filename": "Other"}); err == nil {
		t.Error("another name was found")
	}
}

func TestARemoteDockerfileIsTheBuildsWhateverItsName(t *testing.T) {
	directory, attributes := t.TempDir(), map[string]string{"filename": "baz"}
	assert.NilError(t, (&Server{}).unpackFile(t.Context(), strings.NewReader("FROM busybox\n"), directory, attributes))
	_, err := readPlan(directory, attributes)
	assert.Check(t, err)
}

func TestADockerfileThatCannotBeReadIsToldInDockerdsWords(t *testing.T) {
	directory := t.TempDir()
	for name, content := range map[string]string{"empty": "", "comment": "# nothing\n", "Dockerfile": "FROM scratch\n"} {
		assert.NilError(t, os.WriteFile(filepath.Join(directory, name), []byte(content), 0o600))
	}
	for _, filename := range []string{"Dockerfile", "/Dockerfile", "a/../Dockerfile"} {
		attributes := map[string]string{"filename": filename}
		if _, err := readPlan(directory, attributes); err != nil || attributes["filename"] != "Dockerfile" {
			t.Errorf("%s: %v, %v", filename, attributes, err)
		}
	}
	attributes := map[string]string{"filename": "Dockerfile", "target": "0"}
	if _, err := readPlan(directory, attributes); err == nil || err.Error() != `target stage "0" could not be found` {
		t.Error(err)
	}
	for filename, message := range map[string]string{
		"../x":      "forbidden path outside the build context: ../x ()",
		"/a/../../": "forbidden path outside the build context: /a/../../ ()",
		"\x00":      "forbidden path outside the build context: \x00 ()",
		"other":     "Cannot locate specified Dockerfile: other",
		"empty":     "the Dockerfile (empty) cannot be empty",
		"comment":   "failed to parse comment: file with no instructions",
	} {
		_, err := readPlan(directory, map[string]string{"filename": filename})
		if refusal := new(refused); !errors.As(err, &refusal) || *refusal != (refused{http.StatusBadRequest, message}) {
			t.Errorf("%s: %v", filename, err)
		}
	}
}

func TestADockerfileOfArgumentsAloneIsRefused(t *testing.T) {
	s, _ := serverOf(t)
	if answer := built(t, s, map[string]string{"Dockerfile": "ARG A=1\n"}); !strings.Contains(answer, "No image was generated. Is your Dockerfile empty?") {
		t.Error(answer)
	}
}
