package confined

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
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
	if _, err := root.Resolve("/loop/x", func(string) bool { return false }); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a circular link: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
		t.Errorf("something was made outside: %v", entries)
	}
}
