package worker

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/source/local"
	"gotest.tools/v3/assert"
)

func TestADirectoryOfThisMachineIsReadWhereItIs(t *testing.T) {
	w := &Worker{contexts: &contexts{root: t.TempDir()}}
	served := t.TempDir()
	write(t, served, "file", "content")
	done := w.Serve("session", served)
	instance := &localInstance{worker: w, id: &local.LocalIdentifier{Name: "context", SessionID: "session", FollowPaths: []string{"file"}}}
	made, err := instance.Snapshot(context.Background(), &job{session: "session"})
	assert.NilError(t, err)
	if dir, err := directoryOf(context.Background(), made); err != nil || dir != served {
		t.Errorf("it is read at %q, %v", dir, err)
	}
	must(t, made.Release(context.Background()))
	_, err = os.Stat(filepath.Join(served, "file"))
	assert.Check(t, err, "it went with the build")
	for name, id := range map[string]*local.LocalIdentifier{
		"with files that are left out": {SessionID: "session", ExcludePatterns: []string{"file"}},
		"with some files":              {SessionID: "session", IncludePatterns: []string{"file"}},
	} {
		assert.Check(t, !(&localInstance{worker: w, id: id}).isWhole(), "a context %s is whole", name)
	}
	done()
	if _, ok := w.contexts.served.Load("session"); ok {
		t.Error("it is served when its request is over")
	}
}
