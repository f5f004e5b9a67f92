package confined

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gotest.tools/v3/assert"
	is "gotest.tools/v3/assert/cmp"
)

func TestResolveFollowsLinksInsideAndStopsWhereCovered(t *testing.T) {
	root, dir := openRoot(t)
	os.MkdirAll(filepath.Join(dir, "real/deep"), 0o755)
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o644)
	for name, target := range map[string]string{
		"absolute": "/real", "up": "../../../../real/deep", "real/link": "../file", "dangling": "/nowhere/at/all",
		"real/deep/out": "/../..", "mounted": "/real", "to-mounted": "/mounted/../mounted/x",
	} {
		os.Symlink(target, filepath.Join(dir, name))
	}
	for name, want := range map[string]string{
		"/": "/", "/real": "/real", "/absolute/x/y": "/real/x/y", "/up/": "/real/deep", "/up/../link": "/file",
		"/dangling/x": "/nowhere/at/all/x", "/missing/../real": "/real", "/up/out/etc": "/etc", "/file/x": "/file/x",
		"/up/../../mounted/../absolute/x": "/real/x", "/missing/../absolute": "/real", "/mounted/a/../../absolute": "/real",
		"/mounted": "/mounted", "/mounted/absolute": "/mounted/absolute", "/to-mounted": "/mounted/x", "/../../etc": "/etc",
	} {
		covered := func(name string) bool {
			return name == "/mounted" || name == "/mounted/absolute" || name == "/mounted/x"
		}
		if got, err := root.Resolve(name, covered); got != want || err != nil {
			t.Errorf("%s leads to %s (%v), want %s", name, got, err, want)
		}
	}
	os.Symlink("loop", filepath.Join(dir, "loop"))
	_, err := root.Resolve("/loop/x", func(string) bool { return false })
	assert.Check(t, is.ErrorIs(err, unix.ELOOP), "a circular link")
	entries, _ := os.ReadDir(filepath.Dir(dir))
	assert.Check(t, is.Len(entries, 1), "something was made outside")
}

func TestAPathOfTooManyNamesIsNotResolved(t *testing.T) {
	root, dir := openRoot(t)
	none := func(string) bool { return false }
	deep := strings.Repeat("/a", mostNames)
	if got, err := root.Resolve(deep, none); got != deep || err != nil {
		t.Errorf("%d names lead to %s (%v)", mostNames, got, err)
	}
	os.Symlink(deep, filepath.Join(dir, "link"))
	for _, name := range []string{deep + "/a", "/link/a", strings.Repeat("/a", 100_000)} {
		_, err := root.Resolve(name, none)
		assert.Check(t, is.ErrorContains(err, "more than 255 names"), "%d bytes", len(name))
	}
}

func TestNothingBeneathAMountOrWhatIsMissingIsLookedAt(t *testing.T) {
	root, dir := openRoot(t)
	os.Mkdir(filepath.Join(dir, "there"), 0o755)
	for name, want := range map[string]int{"/mounted/a/b/c": 1, "/missing/a/b/c": 1, "/there/a/b/c": 2, "/missing/a/../../there/a/b": 3} {
		asked := 0
		covered := func(name string) bool { asked++; return name == "/mounted" }
		if _, err := root.Resolve(name, covered); asked != want || err != nil {
			t.Errorf("%s: asked %d times (%v), want %d", name, asked, err, want)
		}
	}
}
