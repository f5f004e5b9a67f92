package setpriv

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
)

func TestProgramsAreFoundAsExecvpFindsThem(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"first/tool": 0o755, "second/tool": 0o755, "first/text": 0o644, "second/text": 0o755, "first/only-text": 0o644} {
		name = filepath.Join(dir, name)
		assert.NilError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		assert.NilError(t, os.WriteFile(name, nil, mode))
	}
	assert.NilError(t, os.MkdirAll(filepath.Join(dir, "first/folder"), 0o755))
	assert.NilError(t, unix.Mkfifo(filepath.Join(dir, "first/pipe"), 0o755))
	t.Chdir(dir)
	path := "PATH=" + dir + "/none:" + dir + "/first:" + dir + "/second"
	for _, c := range []struct {
		name, path, found string
		code              int
	}{
		{"tool", path, dir + "/first/tool", 0},
		{"text", path, dir + "/second/text", 0}, // the first is not executable
		{"first/tool", "PATH=", "first/tool", 0},
		{"second/tool", "PATH=/none", "second/tool", 0},
		{"only-text", path, "", NotExecutable},
		{"folder", path, "", NotFound},
		{"pipe", path, "", NotExecutable},
		{"nowhere", path, "", NotFound},
		{"", path, "", NotFound},
		{"first/only-text", path, "", NotExecutable},
		{"first/folder", path, "", NotExecutable},
		{"first/nowhere", path, "", NotFound},
		{"first/tool/x", path, "", NotFound},
		{"sockerless-no-such-program", "OTHER=1", "", NotFound},
	} {
		found, err := lookPath(c.name, []string{c.path})
		code := 0
		var failed *failure
		if errors.As(err, &failed) {
			code = failed.exitCode
		}
		if found != c.found || code != c.code || err != nil && !strings.Contains(err.Error(), c.name) {
			t.Errorf("%q with %s: %q, %v", c.name, c.path, found, err)
		}
	}
}
