package containerinit

import (
	"os"
	"path/filepath"
	"testing"

	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestAPartOfAnImageIsADirectoryInsideIt(t *testing.T) {
	root := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(root, "opt/tool"), 0o755),
		os.WriteFile(filepath.Join(root, "opt/file"), nil, 0o644),
		os.Symlink("/opt/tool", filepath.Join(root, "current")),
		os.Symlink("../../../..", filepath.Join(root, "opt/up")),
		os.Symlink("loop", filepath.Join(root, "loop")),
	} {
		assert.NilError(t, err)
	}
	for subpath, want := range map[string]string{"": "", "opt": "/opt", "current": "/opt/tool", "opt/up": "", "../opt/tool/": "/opt/tool"} {
		if got, err := partOf(root, subpath); got != root+want || err != nil {
			t.Errorf("%q is %s, %v", subpath, got, err)
		}
	}
	for subpath, want := range map[string]string{"nowhere": "the image has no path nowhere", "loop": "the image has no path loop", "opt/file": "opt/file is no directory of the image"} {
		_, err := partOf(root, subpath)
		assert.Check(t, is.ErrorContains(err, want), subpath)
	}
}
